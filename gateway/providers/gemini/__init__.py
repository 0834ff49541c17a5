"""Google's Gemini API in its native form.

Why not Google's OpenAI-compatible endpoint (read 2026-11-22, https://ai.google.dev/gemini-api/docs/openai and the
issues it left open): it refuses penalties, `seed` and `top_k` by name; whether it ends streams in [DONE], takes images
by https, counts embeddings, and where it puts thoughts is not documented. The native API takes the parameters and
says exactly what was thought, signed, blocked and which quota ran out. It has no [DONE]: a stream ends at its end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import quote

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, Credential, EmbeddingRequest, Model, QuotaReading
from gateway.errors import UpstreamError
from gateway.providers.base import Headers
from gateway.providers.driver import Decoder, Encoded, HttpProvider, ModelsPage, Vectors
from gateway.providers.gemini.decode import AnswerReader, EventDecoder, build_completion
from gateway.providers.gemini.embeddings import encode_inputs, read_vectors
from gateway.providers.gemini.encode import build_body
from gateway.providers.gemini.errors import classify, hidden_status, read_quotas
from gateway.providers.gemini.family import Family
from gateway.providers.gemini.messages import unservable_part, unsigned_call_ids
from gateway.upstream.transport import UpstreamRequest

# Signatures are asked for while an agent works on one task. A conversation that rests longer goes on with Google's
# stand-in, which only costs some quality.
SIGNATURE_TTL_S = 86400.0

# https://ai.google.dev/api/models#method:-models.list, read 2026-11-22: it tells no quotas. Those of pro models are 0
# without billing; what makes images, speech or music answers to `generateContent` too.
PAGE_SIZE = 1000
_SERVED = frozenset({"generateContent", "embedContent"})
_NOT_FREE = re.compile(r"-pro\b")
_NO_TEXT = re.compile(r"-(?:image|tts|audio|live|robotics|computer-use)\b|^(?:imagen|veo|lyria)")


class Adapter(HttpProvider):
    """`generateContent`, `streamGenerateContent` and `batchEmbedContents`."""

    # --- chat ------------------------------------------------------------------------------------------------------

    def cannot_serve(self, request: ChatRequest, model: Model) -> str | None:
        wants_json = (request.body.get("response_format") or {}).get("type") in ("json_object", "json_schema")
        if wants_json and request.body.get("tools") and not Family.of(model).mixes_tools_and_json:
            return "takes no tools together with a JSON response_format"
        return next(filter(None, map(unservable_part, request.messages)), None)

    def encode_chat(self, request: ChatRequest, candidate: Candidate) -> Encoded:
        family = Family.of(candidate.model)
        body, dropped = build_body(request, candidate.model, family, self._recall_signatures(request, family))
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return Encoded(_post(candidate, method, body), dropped)

    def decode_chat(self, payload: Any, request: ChatRequest, candidate: Candidate) -> dict[str, Any]:
        return build_completion(self._reader(candidate), payload)

    def stream_decoder(self, request: ChatRequest, candidate: Candidate) -> Decoder:
        def classify_event(payload: Any) -> UpstreamError:
            return self.error_of(hidden_status(payload) or 500, {}, payload, candidate)

        return EventDecoder(self._reader(candidate), classify_event)

    def _reader(self, candidate: Candidate) -> AnswerReader:
        return AnswerReader(candidate.model.id, int(self.now()), self._remember_signature)

    def _remember_signature(self, call_id: str, signature: str) -> None:
        self.notes.remember(_note(call_id), signature, SIGNATURE_TTL_S)

    def _recall_signatures(self, request: ChatRequest, family: Family) -> dict[str, str]:
        """Return, by tool call, the signatures that the client did not send back."""
        ids = unsigned_call_ids(request.messages) if family.signs else []
        if not ids:
            return {}
        found = self.notes.recall([_note(call_id) for call_id in ids])
        return {call_id: found[_note(call_id)] for call_id in ids if _note(call_id) in found}

    # --- embeddings ------------------------------------------------------------------------------------------------

    def encode_embeddings(self, inputs: Sequence[str], request: EmbeddingRequest, candidate: Candidate) -> Encoded:
        body, dropped = encode_inputs(inputs, request, candidate.model)
        return Encoded(_post(candidate, "batchEmbedContents", body), dropped)

    def decode_embeddings(self, payload: Any, candidate: Candidate) -> Vectors:
        return read_vectors(payload, candidate.model)

    # --- models ----------------------------------------------------------------------------------------------------

    def models_request(self, credential: Credential, page: str | None) -> UpstreamRequest | None:
        query = f"pageSize={PAGE_SIZE}" + (f"&pageToken={quote(page)}" if page else "")
        return UpstreamRequest(f"{_models_url(credential)}?{query}", _headers(credential), method="GET")

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        ids = {entry["name"].removeprefix("models/"): entry for entry in payload["models"]}
        free = [id_ for id_, entry in ids.items() if serves_for_free(id_, entry.get("supportedGenerationMethods") or ())]
        return ModelsPage(list(ids), free, payload.get("nextPageToken") or None)

    # --- failures --------------------------------------------------------------------------------------------------

    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        return classify(status, headers, payload, secret=candidate.credential.secret, now=self.now())

    def read_quota(self, headers: Headers, failure: Any = None) -> tuple[QuotaReading, ...]:
        return read_quotas(failure, self.now())

    def find_error(self, payload: Any) -> int | None:
        return hidden_status(payload)


def serves_for_free(model_id: str, methods: Collection[str]) -> bool:
    """Whether a model of the list is for texts, and has quotas without billing, as far as its name tells."""
    return not _SERVED.isdisjoint(methods) and not _NOT_FREE.search(model_id) and not _NO_TEXT.search(model_id)


def _post(candidate: Candidate, method: str, body: dict[str, Any]) -> UpstreamRequest:
    credential = candidate.credential
    headers = {"Content-Type": "application/json", **_headers(credential)}
    return UpstreamRequest(f"{_models_url(credential)}/{candidate.model.upstream_id}:{method}", headers, jsonio.dumps(body))


def _models_url(credential: Credential) -> str:
    return f"{credential.base_url.rstrip('/')}/models"


def _headers(credential: Credential) -> dict[str, str]:
    return {"x-goog-api-key": credential.secret}


def _note(call_id: str) -> str:
    return f"thought:{call_id}"
