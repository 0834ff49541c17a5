"""What the tests of the OpenAI-compatible adapters share."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import responses

from gateway.domain import Candidate, ChatRequest, Credential, Model, ProviderRow
from gateway.providers.base import ChatAnswer, ChatStream, Chunk
from gateway.providers.openai_compatible import Adapter
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

FIXTURES = Path(__file__).parent / "fixtures"
NOW = 1_795_300_000.0  # Sat, 21 Nov 2026 22:26:40 GMT
SECRET = "secret-of-a-test"


class Notes(dict[str, str]):
    def remember(self, key: str, value: str, ttl_s: float) -> None:
        self[key] = value

    def recall(self, keys: Any) -> dict[str, str]:
        return {key: self[key] for key in keys if key in self}


class Bench:
    """One adapter with a candidate to call, at a fixed time."""

    def __init__(self, adapter: type[Adapter], base_url: str, model: Model) -> None:
        self.row = ProviderRow(key=model.provider, base_url=base_url)
        self.adapter = adapter(self.row, Transport(), Notes())
        self.adapter.now = lambda: NOW
        self.model = model
        self.chat_url = base_url + "/chat/completions"
        self.fixtures = FIXTURES / model.provider

    def candidate(self, model: Model | None = None) -> Candidate:
        return Candidate(self.row, model or self.model, Credential(self.row.key, 1, self.row.base_url, SECRET))

    # --- requests --------------------------------------------------------------------------------------------------

    def sent(self, request: ChatRequest, model: Model | None = None) -> dict[str, Any]:
        body = self.adapter.encode_chat(request, self.candidate(model)).request.body
        assert body is not None
        return json.loads(body)

    def dropped(self, request: ChatRequest, model: Model | None = None) -> tuple[str, ...]:
        return self.adapter.encode_chat(request, self.candidate(model)).dropped

    def sent_message(self, message: dict[str, Any], model: Model | None = None) -> dict[str, Any]:
        return self.sent(chat(messages=[message]), model)["messages"][0]

    # --- answers ---------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        return (self.fixtures / name).read_bytes()

    def complete(self, mock: responses.RequestsMock, body: Any, status: int = 200, **options: Any) -> ChatAnswer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        mock.post(self.chat_url, body=data, status=status, **options)
        return self.adapter.complete(chat(), self.candidate(), limits(), Handle())

    def stream(self, mock: responses.RequestsMock, body: bytes, content_type: str = "text/event-stream") -> list[Chunk]:
        mock.post(self.chat_url, body=body, content_type=content_type)
        return drain(self.adapter.open_stream(chat(stream=True), self.candidate(), limits(), Handle()))

    def error(self, status: int, payload: Any, headers: dict[str, str] | None = None) -> Any:
        return self.adapter.classify_error(status, headers or {}, payload, self.candidate())


def chat(*, messages: Any = None, **fields: Any) -> ChatRequest:
    """Return a request; fields that a ChatRequest does not have stand in its body."""
    attributes = {name: fields.pop(name) for name in list(fields) if name in ChatRequest.__dataclass_fields__}
    return ChatRequest(body={"messages": messages or [{"role": "user", "content": "2+2?"}], **fields}, **attributes)


def limits() -> CallLimits:
    return CallLimits(connect_s=1, first_token_s=5, idle_s=5, deadline_mono=time.monotonic() + 10)


def drain(stream: ChatStream) -> list[Chunk]:
    chunks: list[Chunk] = []
    try:
        while (more := stream.next_chunks(1)) is not None:
            chunks += more
    finally:
        stream.close()
    return chunks


def text_of(chunks: list[Chunk]) -> str:
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
    return "".join(choice.get("delta", {}).get("content") or "" for choice in choices)
