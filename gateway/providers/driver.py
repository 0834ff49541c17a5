"""The HTTP driver that most providers share: `complete`, `open_stream`, `embed` and `rerank` do the I/O.

The hooks they call are pure, so that a protocol is tested without a network.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, Credential, EmbeddingRequest, Model, QuotaReading, RerankRequest, Scored
from gateway.errors import UpstreamError, UpstreamFailed, UpstreamGarbled, UpstreamModelFailed, UpstreamTimeout
from gateway.providers.base import ChatAnswer, ChatStream, Chunk, EmbeddingAnswer, Headers, Listing, Provider, RerankAnswer
from gateway.upstream.shape import reading
from gateway.upstream.sse import Event, EventParser, EventTooLong
from gateway.upstream.transport import CallLimits, UpstreamRequest, UpstreamResponse
from gateway.upstream.watch import Handle

MAX_FLOAT32 = 3.4028234663852886e38
FAILURE_BODY_S = 2.0  # for what a failing status says beside its number
MOST_PAGES = 50  # of a list of models: more than any provider has, less than for ever


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request in the provider's form. `dropped`: the client's parameters that this provider does not take."""

    request: UpstreamRequest
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings in the order of the inputs. `prompt_tokens` None: the provider did not count."""

    vectors: list[list[float]]
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a call's documents, in any order. `total_tokens` None: the provider did not count."""

    results: list[Scored]
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ModelsPage:
    """A page of a provider's list of models (see `Listing`). `next_page` None: it is the last."""

    ids: Sequence[str]
    free: Sequence[str] = ()
    next_page: str | None = None


class Decoder(ABC):
    """Turns the events of one stream into chunks. One for each stream: it may keep what the protocol spreads out."""

    @abstractmethod
    def decode(self, event: Event) -> Iterable[Chunk]:
        """Return the chunks that an event holds, none where it cannot carry content.

        :raises UpstreamError: the event says that the stream failed, or is an object that cannot be parsed.
        """

    def is_last(self, event: Event) -> bool:
        """Whether the stream is over with this event, whatever follows."""
        return event.data == b"[DONE]"


def read_object(event: Event) -> dict[str, Any] | None:
    """Return the JSON object of an event, None where the data cannot carry content (contract §4).

    :raises UpstreamGarbled: it begins as an object and is none: skipping it could lose words.
    """
    data = event.data.strip()
    if not data.startswith(b"{"):
        return None
    try:
        payload: dict[str, Any] = jsonio.loads(data)
    except ValueError:
        raise UpstreamGarbled("The provider sent a piece of the answer that could not be read.", upstream_status=200) from None
    return payload


class HttpProvider(Provider):
    """A provider behind HTTP: the drivers, over hooks without I/O that an adapter fills in.

    Hooks that read may take the protocol at its word: what they stumble over then is `reading`'s business.
    """

    now = staticmethod(time.time)  # epoch seconds, for moments that a provider names

    # --- hooks -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def encode_chat(self, request: ChatRequest, candidate: Candidate) -> Encoded:
        """Return the call for a chat request; `request.stream` tells the form of answer to ask for."""

    @abstractmethod
    def decode_chat(self, payload: Any, request: ChatRequest, candidate: Candidate) -> dict[str, Any]:
        """Return a whole answer as an OpenAI chat.completion.

        :raises UpstreamError: the payload is no answer.
        """

    @abstractmethod
    def stream_decoder(self, request: ChatRequest, candidate: Candidate) -> Decoder:
        """Return what reads the events of one stream."""

    @abstractmethod
    def encode_embeddings(self, inputs: Sequence[str], request: EmbeddingRequest, candidate: Candidate) -> Encoded:
        """Return the call that embeds these inputs, a part of `request.inputs`."""

    @abstractmethod
    def decode_embeddings(self, payload: Any, candidate: Candidate) -> Vectors:
        """Return the vectors of an answer, in the order of the inputs.

        :raises UpstreamError: the payload holds none.
        """

    def split_documents(self, request: RerankRequest, model: Model) -> Iterable[Sequence[str]]:
        """Return the documents of a request in groups, in order: one for each call."""
        size = model.batch or len(request.documents)
        return [request.documents[start : start + size] for start in range(0, len(request.documents), size)]

    def encode_rerank(self, documents: Sequence[str], top_n: int, request: RerankRequest, candidate: Candidate) -> Encoded:
        """Return the call that scores these documents, a part of `request.documents`, and tells of the `top_n` best.

        :raises UpstreamError: the protocol has no reranking.
        """
        raise UpstreamModelFailed("The provider's protocol has no reranking.")

    def decode_rerank(self, payload: Any, candidate: Candidate) -> Scores:
        """Return the scores of an answer."""
        raise NotImplementedError

    @abstractmethod
    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        """Return what a failing answer means. `payload` is its JSON, or its text where it is none."""

    def find_error(self, payload: Any) -> int | None:
        """Return the status of a failure that hides in a 200, None where the payload is an answer."""
        return None

    def read_quota(self, headers: Headers, failure: Any = None) -> tuple[QuotaReading, ...]:
        """Return what an answer says of quotas, one reading a window. `failure`: the payload of one that failed."""
        return ()

    def streams_natively(self, request: ChatRequest, candidate: Candidate) -> bool:
        """Whether the protocol streams this request; if not, the whole answer is asked for and sent in one piece."""
        return True

    def models_request(self, credential: Credential, page: str | None) -> UpstreamRequest | None:
        """Return the call for a page of the list of models, the first one for None; None where there is no list."""
        return None

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        """Return what a page of the list says."""
        raise NotImplementedError

    def credential_request(self, credential: Credential) -> UpstreamRequest | None:
        """Return a call that costs nothing and that a wrong credential fails, None where there is none."""
        return self.models_request(credential, None) if self.row.discover else None

    def error_of(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        """Return what a failing answer means, with what it says of quotas."""
        error = self.classify_error(status, headers, payload, candidate)
        error.quota = self.read_quota(headers, payload)
        return error

    # --- drivers ---------------------------------------------------------------------------------------------------

    def complete(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatAnswer:
        call = self.encode_chat(request, candidate)
        payload, quota = self._fetch(call.request, candidate, limits, handle)
        with reading():
            return ChatAnswer(self.decode_chat(payload, request, candidate), call.dropped, quota)

    def open_stream(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatStream:
        if not self.streams_natively(request, candidate):
            answer = self.complete(_unstreamed(request), candidate, _whole(limits), handle)
            with reading():
                return WholeAsStream(answer)
        call = self.encode_chat(request, candidate)
        response = self.transport.open(call.request, limits, handle)
        try:
            quota = self.read_quota(response.headers)
            if response.status == 200 and response.is_event_stream:
                return EventStream(response, self.stream_decoder(request, candidate), call.dropped, quota)
            # Some models answer a stream request with plain JSON. Anything else is no answer, and not waited for as one.
            is_answer = response.status == 200 and "json" in response.headers.get("content-type", "json")
            if is_answer and not response.wait(limits.first_token_s):
                raise UpstreamTimeout("The provider did not begin to answer in time.", phase="first_token")
            payload = self._read_payload(response, candidate, limits if is_answer else _brief(limits))
            response.close()
        except BaseException:
            response.close()
            raise
        with reading():
            return WholeAsStream(ChatAnswer(self.decode_chat(payload, request, candidate), call.dropped, quota))

    def embed(self, request: EmbeddingRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> EmbeddingAnswer:
        size = candidate.model.batch or len(request.inputs)
        vectors: list[list[float]] = []
        tokens: int | None = 0
        dropped: tuple[str, ...] = ()
        quota: Sequence[QuotaReading] = ()
        for start in range(0, len(request.inputs), size):
            inputs = request.inputs[start : start + size]
            call = self.encode_embeddings(inputs, request, candidate)
            payload, quota = self._fetch(call.request, candidate, _brief(limits), handle)
            with reading():
                part = self.decode_embeddings(payload, candidate)
            if len(part.vectors) != len(inputs):
                raise UpstreamGarbled("The provider returned another number of embeddings than inputs.")
            vectors += part.vectors
            tokens = None if tokens is None or part.prompt_tokens is None else tokens + part.prompt_tokens
            dropped = call.dropped
        check_vectors(vectors)
        return EmbeddingAnswer(vectors, tokens, dropped, quota)

    def rerank(self, request: RerankRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> RerankAnswer:
        results: list[Scored] = []
        tokens: int | None = 0
        start = 0
        dropped: tuple[str, ...] = ()
        quota: Sequence[QuotaReading] = ()
        for documents in self.split_documents(request, candidate.model):
            top_n = min(request.top_n or len(documents), len(documents))
            call = self.encode_rerank(documents, top_n, request, candidate)
            payload, quota = self._fetch(call.request, candidate, _brief(limits), handle)
            with reading():
                part = self.decode_rerank(payload, candidate)
                check_scores(part.results, len(documents), top_n)
            results += [Scored(start + result.index, result.score) for result in part.results]
            tokens = None if tokens is None or part.total_tokens is None else tokens + part.total_tokens
            start += len(documents)
            dropped = call.dropped
        results.sort(key=lambda result: -result.score)
        return RerankAnswer(results[: request.top_n], tokens, dropped, quota)

    def try_credential(self, credential: Credential, limits: CallLimits, handle: Handle) -> bool:
        request = self.credential_request(credential)
        if request is None:
            return False
        self._fetch(request, self._no_model(credential), limits, handle)
        return True

    def list_models(self, credential: Credential, limits: CallLimits, handle: Handle) -> Listing | None:
        no_model = self._no_model(credential)
        pages: list[ModelsPage] = []
        page = None
        while (request := self.models_request(credential, page)) is not None:
            payload, _ = self._fetch(request, no_model, limits, handle)
            with reading():
                pages.append(self.decode_models(payload, page))
            page = pages[-1].next_page
            if page is None:
                break
            if len(pages) == MOST_PAGES:
                raise UpstreamGarbled("The provider's list of models had no end.", upstream_status=200)
        with reading():
            return _listing_of(pages) if pages else None

    def _no_model(self, credential: Credential) -> Candidate:
        """Return whom a call is charged to that is about no model."""
        return Candidate(self.row, Model(provider=self.row.key, id="models"), credential)

    def _fetch(
        self, call: UpstreamRequest, candidate: Candidate, limits: CallLimits, handle: Handle
    ) -> tuple[Any, Sequence[QuotaReading]]:
        response = self.transport.open(call, limits, handle)
        try:
            return self._read_payload(response, candidate, limits), self.read_quota(response.headers)
        finally:
            response.close()

    def _read_payload(self, response: UpstreamResponse, candidate: Candidate, limits: CallLimits) -> Any:
        """Return the JSON of a successful answer; raise what a failed one means."""
        payload = parse_payload(_read_body(response, limits))
        with reading(response.status):
            status = response.status if response.status != 200 else self.find_error(payload)
            if status is not None:
                raise self.error_of(status, response.headers, payload, candidate)
        if not isinstance(payload, (dict, list)):
            raise UpstreamGarbled("The provider's answer was empty or not JSON.", upstream_status=response.status)
        return payload


def _read_body(response: UpstreamResponse, limits: CallLimits) -> bytes:
    """Return a body; b"" where that of a failing status does not come, or cannot be read: the status tells enough."""
    if response.status == 200:
        return response.read_all(limits)
    ends_at = min(limits.deadline_mono, time.monotonic() + FAILURE_BODY_S)
    try:
        return response.read_all(replace(limits, deadline_mono=ends_at))
    except UpstreamError:
        return b""


def parse_payload(body: bytes) -> Any:
    """Return the JSON of a body, or its text where it is none: an HTML error page, a plain line."""
    try:
        return jsonio.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _whole(limits: CallLimits) -> CallLimits:
    """Return the limits of an answer that comes in one piece: its first byte is as late as its last."""
    return replace(limits, first_token_s=max(0.0, limits.deadline_mono - time.monotonic()))


def _listing_of(pages: Sequence[ModelsPage]) -> Listing:
    ids = frozenset(id_ for page in pages for id_ in page.ids)
    free = dict.fromkeys(id_ for page in pages for id_ in page.free)
    if not ids or not all(isinstance(id_, str) for id_ in ids):
        raise UpstreamGarbled("The provider's list of models held none.", upstream_status=200)
    return Listing(ids, tuple(free))


def check_vectors(vectors: Sequence[Sequence[float]]) -> None:
    """Accept vectors of one size, of numbers that clients can decode as float32.

    :raises UpstreamGarbled: they are not.
    """
    if not vectors[0] or len({len(vector) for vector in vectors}) > 1:
        raise UpstreamGarbled("The provider returned embeddings of no or of several sizes.", upstream_status=200)
    if not all(-MAX_FLOAT32 <= number <= MAX_FLOAT32 for vector in vectors for number in vector):
        raise UpstreamGarbled("The provider returned embeddings that are no numbers.", upstream_status=200)


def check_scores(results: Sequence[Scored], documents: int, least: int) -> None:
    """Accept scores of so many documents at least, each of another one.

    :raises UpstreamGarbled: they are not.
    """
    indexes = {result.index for result in results}
    if len(indexes) < len(results) or not indexes <= set(range(documents)):
        raise UpstreamGarbled("The provider scored other documents than those it was given.", upstream_status=200)
    if len(results) < least:
        raise UpstreamGarbled("The provider scored fewer documents than it was asked to.", upstream_status=200)
    if not all(-MAX_FLOAT32 <= result.score <= MAX_FLOAT32 for result in results):
        raise UpstreamGarbled("The provider returned scores that are no numbers.", upstream_status=200)


def _brief(limits: CallLimits) -> CallLimits:
    """Return the limits of one call of several, or of a body that is no answer: as long as a first token may take."""
    return replace(limits, deadline_mono=min(limits.deadline_mono, time.monotonic() + limits.first_token_s))


def _unstreamed(request: ChatRequest) -> ChatRequest:
    return replace(request, stream=False)


class EventStream(ChatStream):
    """A stream of server-sent events, decoded as they arrive."""

    def __init__(
        self, response: UpstreamResponse, decoder: Decoder, dropped: tuple[str, ...], quota: Sequence[QuotaReading]
    ) -> None:
        self._response = response
        self._parser = EventParser()
        self._decoder = decoder
        self._over = False
        self._error: UpstreamError | None = None
        self.dropped = dropped
        self.quota = quota

    def wait(self, wait_s: float) -> bool:
        return self._over or self._error is not None or self._response.wait(wait_s)

    def next_chunks(self, wait_s: float) -> list[Chunk] | None:
        if self._error:
            raise self._error
        if self._over:
            return None
        data = self._response.read(wait_s)
        try:
            events = self._parser.feed(data) if data else self._parser.finish()
        except EventTooLong:
            raise UpstreamGarbled("The provider's stream held an event that was too long to be one.") from None
        self._over = not data
        chunks: list[Chunk] = []
        try:
            with reading():
                self._decode(events, chunks)
        except UpstreamError as error:
            if not chunks:
                raise
            self._error = error  # the client has what stood before it first, wherever the bytes were cut
        return None if self._over and not chunks else chunks

    def _decode(self, events: Iterable[Event], chunks: list[Chunk]) -> None:
        for event in events:
            if self._decoder.is_last(event):
                self._over = True
                return
            before = len(chunks)
            chunks.extend(self._decoder.decode(event))
            if event.name == "error" and len(chunks) == before:  # its data tells nothing, its name does
                raise UpstreamFailed("The provider's stream ended in an error.", upstream_status=200)

    def close(self) -> None:
        self._response.close(finished=self._over)


@dataclass
class WholeAsStream(ChatStream):
    """A whole answer, given out as the chunks of a stream would be."""

    answer: ChatAnswer
    is_whole: bool = field(default=True, init=False)
    dropped: tuple[str, ...] = field(init=False)
    quota: Sequence[QuotaReading] = field(init=False)

    def __post_init__(self) -> None:
        self.dropped, self.quota = self.answer.dropped, self.answer.quota
        with reading():
            self._chunks: list[Chunk] | None = chunks_of(self.answer.body)

    def next_chunks(self, wait_s: float) -> list[Chunk] | None:
        chunks, self._chunks = self._chunks, None
        return chunks

    def close(self) -> None:
        pass


def chunks_of(completion: Mapping[str, Any]) -> list[Chunk]:
    """Return a chat.completion as a chunk: in one, so that an end which tells of a failure comes before any content."""
    head = {key: completion[key] for key in ("id", "created", "model", "system_fingerprint") if key in completion}
    choices = []
    for position, choice in enumerate(completion.get("choices") or []):
        delta = dict(choice.get("message") or {})
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{**call, "index": number} for number, call in enumerate(delta["tool_calls"])]
        index, reason = choice.get("index", position), choice.get("finish_reason")
        reason = "stop" if reason in (None, "") else reason  # it is whole
        choices.append({"index": index, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": reason})
    return [{**head, "object": "chat.completion.chunk", "choices": choices, "usage": completion.get("usage")}]
