"""Every way a request can end badly, as values whose attributes the dispatcher and the boundary read.

GatewayError                      client    failover   cools
  RequestError
    InvalidRequest                400       no         -            schema failure, with `param`
    BodyBroken                    400       no         -            the body ended early, or is not well chunked
    PayloadTooLarge               413       no         -
    UnsupportedMediaType          415       no         -
    MethodNotAllowed              405       no         -
    Unauthenticated               401       no         -            client key unknown
    ModelNotFound, UnknownPath    404       no         -
    ClientRateLimited             429       no         -            this gateway's own limit per key or address
  CapacityError
    GatewayBusy, Draining         503       no         -            too many requests in flight, shutting down
    CandidatesExhausted           429/503   no         -            429 when quotas are the only reason
  UpstreamError
    UpstreamUnreachable           502       yes        provider     surely not started
    UpstreamReset                 502       yes        model        the connection broke before an answer
    UpstreamTimeout               504       yes        model        phase: connect, first_token, idle, total
    UpstreamRateLimited           429       yes        model        of one credential, until Retry-After
    UpstreamQuotaExhausted        429       yes        model        of one credential, or all of the credential
    UpstreamPaymentRequired       502       yes        credential   hours
    UpstreamOverloaded            502       yes        model        short
    UpstreamQuotaTooSmall         429       yes        -            the request is larger than the quota window
    UpstreamCredentialRejected    502       yes        credential   long
    UpstreamModelGone             502       yes        model        long
    UpstreamRejected              400       once       -            unlisted 400/422
    UpstreamRefusedContent        400       no         -            content policy
    UpstreamModelFailed           502       yes        -            the model's own failure, a refused parameter
    UpstreamContextTooLong        400       larger     -            only to candidates with a larger window
    UpstreamFailed                502       yes        model        5xx
    UpstreamGarbled               502       yes        model        not what was asked for, or cut short
    StreamBroken                  in-band   no         model        after the commit point
  ClientGone                      499       no         -            nobody is left to answer
  InternalError                   500       no         -            a defect of ours
StateError                        -         -          -            store down: headroom is unknown, never refused
ConfigurationError                boot      -          -            never raised while serving
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from gateway.domain import Attempt, QuotaReading

Failover = Literal["yes", "no", "once", "larger"]
# candidate: one model behind one credential. model: that model of the provider, whatever the credential.
CooldownScope = Literal["none", "candidate", "model", "credential", "provider"]
TimeoutPhase = Literal["connect", "first_token", "idle", "total"]
InvalidCode = Literal["invalid_value", "missing_field", "invalid_json", "unsupported_feature"]

MAX_LISTED_ATTEMPTS = 8  # SDKs print the whole body: more would drown the message (contract §7)


class GatewayError(Exception):
    """A request that ends badly: what the client is told, and what the dispatcher does about it.

    `message` is for the client and says what to do; it never holds a credential or an upstream URL.
    `retry_after_s` is None when no wait would help or none is known. `attempts` is what was tried, in order.
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    failover: ClassVar[Failover] = "no"
    cooldown_scope: CooldownScope = "none"
    should_retry: bool | None = None  # sent as x-should-retry where the answer is known; SDKs obey it
    tells_retry_after: ClassVar[bool] = False  # a provider's own wait is not the client's
    closes_connection: ClassVar[bool] = False  # the rest of a body stands before the next request, or no thread is free for it

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.attempts: Sequence[Attempt] = ()  # and, behind them, who was left out and why
        self.tried = 0  # how many of them were really made
        self.retry_at: str | None = None  # ISO 8601, where the wait is too long for a client to sleep through

    def to_body(self) -> dict[str, Any]:
        """Return OpenAI's error envelope, with the attempts behind the message (contract §7)."""
        error: dict[str, Any] = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        if self.retry_at:
            error["retry_at"] = self.retry_at
        if self.attempts:
            error["attempts"] = [attempt.to_body() for attempt in self.attempts[:MAX_LISTED_ATTEMPTS]]
            if len(self.attempts) > MAX_LISTED_ATTEMPTS:
                error["attempts_omitted"] = len(self.attempts) - MAX_LISTED_ATTEMPTS
        return {"error": error}


class InternalError(GatewayError):
    """A defect of ours: logged with its traceback, shown without."""


class ClientGone(GatewayError):
    """The client closed its connection: there is nobody to answer, and nobody's health suffers."""

    status = 499
    type = "invalid_request_error"
    code = "client_closed_request"
    closes_connection = True


# --- the caller's side ---------------------------------------------------------------------------------------------


class RequestError(GatewayError):
    """The caller must change something; no provider was at fault."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    tells_retry_after = True


class InvalidRequest(RequestError):
    """A body or header that cannot be served as it is; `code` tells the kind, `param` the place."""

    def __init__(self, message: str, *, param: str | None = None, code: InvalidCode = "invalid_value") -> None:
        super().__init__(message, param=param)
        self.code = code


class BodyBroken(RequestError):
    """The body cannot be read to its end, so nobody knows where the next request begins."""

    code = "invalid_json"
    closes_connection = True


class PayloadTooLarge(RequestError):
    status = 413
    code = "request_too_large"
    closes_connection = True


class UnsupportedMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"


class Unauthenticated(RequestError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ModelNotFound(RequestError):
    status = 404
    type = "not_found_error"
    code = "model_not_found"


class UnknownPath(RequestError):
    status = 404
    type = "not_found_error"
    code = "unknown_path"


class ClientRateLimited(RequestError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


# --- our own capacity ----------------------------------------------------------------------------------------------


class CapacityError(GatewayError):
    """Nothing could be tried now; the same request may succeed later."""

    status = 503
    type = "service_unavailable"
    tells_retry_after = True


class GatewayBusy(CapacityError):
    code = "gateway_busy"
    should_retry = True
    closes_connection = True


class Draining(CapacityError):
    code = "draining"
    should_retry = True
    closes_connection = True


class CandidatesExhausted(CapacityError):
    """No candidate is left. 429 where quotas and rate limits are the only reason, else 503."""

    code = "no_healthy_provider"

    def __init__(self, message: str, *, quota_only: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        if quota_only:
            self.status, self.type, self.code = 429, "rate_limit_error", "quota_exhausted"


# --- the provider's side -------------------------------------------------------------------------------------------


class UpstreamError(GatewayError):
    """One attempt failed. `upstream_status` is the provider's HTTP status, None when there was no answer.

    `provider` and `model` are filled in by the dispatcher, which knows whom it asked; `quota` holds what the
    answer's headers said of quotas.
    """

    status = 502
    type = "provider_error"
    code = "upstream_error"
    failover: ClassVar[Failover] = "yes"
    cooldown_scope: CooldownScope = "none"
    reason: ClassVar[str] = "failed"  # one word for trails and figures
    hurts_health: ClassVar[bool] = False  # whether it lowers the model's share of answered calls
    worth_second_try: ClassVar[bool] = False  # on the same candidate, where the caller pinned it
    alerts_operator: ClassVar[bool] = False  # nobody else can help

    def __init__(
        self, message: str, *, upstream_status: int | None = None, retry_after_s: float | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.upstream_status = upstream_status
        self.provider: str | None = None
        self.model: str | None = None
        self.quota: Sequence[QuotaReading] = ()

    @property
    def outcome(self) -> str:
        """How the attempt ended, in one word: the provider's failing status where there is one, else the reason."""
        failed = self.upstream_status is not None and self.upstream_status >= 400
        return str(self.upstream_status) if failed else self.reason


class UpstreamUnreachable(UpstreamError):
    """No connection: the provider surely did not start to work."""

    cooldown_scope = "provider"
    reason = "unreachable"
    hurts_health = True


class UpstreamReset(UpstreamError):
    """The connection broke before the answer was whole."""

    cooldown_scope: CooldownScope = "model"
    reason = "reset"
    hurts_health = True
    worth_second_try = True


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    cooldown_scope: CooldownScope = "model"
    should_retry = False
    reason = "timeout"
    hurts_health = True

    def __init__(self, message: str, *, phase: TimeoutPhase) -> None:
        super().__init__(message)
        self.phase = phase
        if phase == "connect":
            self.cooldown_scope = "provider"


class UpstreamRateLimited(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "quota_exhausted"
    cooldown_scope: CooldownScope = "candidate"
    reason = "rate_limited"


class UpstreamQuotaExhausted(UpstreamRateLimited):
    """A day's or an account's quota is used up. `account_wide`: for every model of the credential."""

    reason = "quota"

    def __init__(
        self, message: str, *, upstream_status: int | None = None, retry_after_s: float | None = None, account_wide: bool = False
    ) -> None:
        super().__init__(message, upstream_status=upstream_status, retry_after_s=retry_after_s)
        if account_wide:
            self.cooldown_scope = "credential"


class UpstreamQuotaTooSmall(UpstreamRateLimited):
    """This one request is larger than the whole quota window: others may still pass."""

    cooldown_scope = "none"
    reason = "quota_too_small"


class UpstreamPaymentRequired(UpstreamError):
    cooldown_scope = "credential"
    reason = "payment"
    alerts_operator = True


class UpstreamOverloaded(UpstreamError):
    cooldown_scope: CooldownScope = "model"
    reason = "overloaded"
    hurts_health = True
    worth_second_try = True


class UpstreamCredentialRejected(UpstreamError):
    cooldown_scope = "credential"
    reason = "credential"
    alerts_operator = True


class UpstreamModelGone(UpstreamError):
    cooldown_scope: CooldownScope = "model"
    reason = "model_gone"


class UpstreamRejected(UpstreamError):
    """A 400 or 422 that no table names: the caller's mistake, unless one other provider takes it."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    failover = "once"
    reason = "rejected"


class UpstreamRefusedContent(UpstreamError):
    status = 400
    type = "invalid_request_error"
    code = "content_policy_violation"
    failover = "no"
    reason = "content_policy"


class UpstreamModelFailed(UpstreamError):
    """The model's own failure (a malformed tool call, JSON mode not met), or a parameter that only this provider refuses."""

    reason = "model_failed"
    hurts_health = True


class UpstreamContextTooLong(UpstreamError):
    """The prompt does not fit. `limit_tokens` and `prompt_tokens` are None where the provider does not tell."""

    status = 400
    type = "invalid_request_error"
    code = "context_length_exceeded"
    failover = "larger"
    reason = "context_length"

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int | None = None,
        limit_tokens: int | None = None,
        prompt_tokens: int | None = None,
    ) -> None:
        super().__init__(message, upstream_status=upstream_status, param="messages")
        self.limit_tokens = limit_tokens
        self.prompt_tokens = prompt_tokens


class UpstreamFailed(UpstreamError):
    cooldown_scope: CooldownScope = "model"
    reason = "failed"
    hurts_health = True
    worth_second_try = True


class UpstreamGarbled(UpstreamError):
    cooldown_scope: CooldownScope = "model"
    reason = "garbled"
    hurts_health = True


class StreamBroken(UpstreamError):
    """The stream broke after the client had part of it: told in-band, never retried by the dispatcher."""

    failover = "no"
    cooldown_scope: CooldownScope = "model"
    reason = "broken"
    hurts_health = True


# --- neither -------------------------------------------------------------------------------------------------------


class StateError(Exception):
    """The state store is down, slow or locked: proceed as if headroom were unknown, and count it."""


class ConfigurationError(Exception):
    """Settings or catalog are wrong. `problems` has one line each; str() is the short message for the operator."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(["The gateway cannot start:", *(f"  - {problem}" for problem in problems)]))
        self.problems = tuple(problems)
