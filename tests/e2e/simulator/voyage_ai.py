"""Voyage AI: embeddings and reranking, not OpenAI's form. https://docs.voyageai.com/reference/embeddings-api (2026-11)

Quirks: errors are `{"detail": ...}`; an unknown model is a 400; `output_dimension` and `top_k` in place of `dimensions`
and `top_n`; `encoding_format` is null or base64, never "float"; usage has `total_tokens` only; rerank answers under
`data`; there is no list of models; without a payment method (`has_card`) three calls and 10,000 tokens a minute are all.
Numbers other than floats (`output_dtype`) are not simulated.
"""

from __future__ import annotations

import threading
import time
from typing import Any, NoReturn

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import Answer, reply
from tests.e2e.simulator.mind import count_tokens, rank_documents, vector_of
from tests.e2e.simulator.openai_api import Json, embedding_items
from tests.e2e.simulator.service import Facts, Refused, Service, unknown_names
from tests.e2e.simulator.wire import Request

FLEXIBLE = Facts("embedding", context=32000, dims=(1024, 256, 512, 2048))
EMBED_FIELDS = frozenset("model input input_type truncation output_dimension output_dtype encoding_format".split())
RERANK_FIELDS = frozenset("model query documents top_k return_documents truncation".split())
MAX_ITEMS = 1000
MAX_BATCH_TOKENS = 320_000
CARDLESS_RPM, CARDLESS_TPM = 3, 10_000


class VoyageAI(Service):
    name = "voyage_ai"
    prefix = "/voyage"
    base = "/v1"
    test_key = "pa-test"
    catalog = {
        "voyage-3": Facts("embedding", context=32000, dims=(1024,)),
        "voyage-3.5": FLEXIBLE,
        "voyage-3.5-lite": FLEXIBLE,
        "voyage-4": FLEXIBLE,
        "voyage-4-lite": FLEXIBLE,
        "rerank-2.5": Facts("rerank", context=32000),
        "rerank-2.5-lite": Facts("rerank", context=32000),
    }

    def __init__(self) -> None:
        super().__init__()
        self.has_card = True
        self._taken: list[tuple[float, int]] = []  # when, and how many tokens
        self._lock = threading.Lock()

    def take(self, tokens: int) -> None:
        """Count a call of an account without a payment method (`has_card = False`), over all its models.

        :raises Refused: it is one too many in a minute.
        """
        if self.has_card:
            return
        now = time.monotonic()
        with self._lock:
            self._taken = [(when, count) for when, count in self._taken if when > now - 60]
            if len(self._taken) >= CARDLESS_RPM or sum(count for _, count in self._taken) + tokens > CARDLESS_TPM:
                raise Refused(errors.voyage_rate_limit())
            self._taken.append((now, tokens))

    def env(self, root: str) -> dict[str, str]:
        return {"VOYAGE_API_KEY": self.test_key, "VOYAGE_BASE_URL": self.base_url(root)}

    def respond(self, request: Request) -> Answer:
        if not self.is_good_key(request.key):
            raise Refused(errors.voyage_bad_key())
        body = request.json
        if request.method != "POST" or request.rest not in ("/v1/embeddings", "/v1/rerank"):
            return errors.voyage(404, "Not Found")
        if not isinstance(body, dict):
            raise Refused(errors.voyage_malformed("Invalid JSON"))
        return self.embed(body) if request.rest == "/v1/embeddings" else self.rerank(body)

    def embed(self, body: Json) -> Answer:
        facts = self.facts_of(body, "embedding", EMBED_FIELDS)
        inputs = body.get("input")
        texts = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            self.refuse("Input cannot contain empty strings or empty lists. Please check your input.")
        self.check_embed(body, facts, texts)
        tokens = sum(map(count_tokens, texts))
        if tokens > MAX_BATCH_TOKENS:
            raise Refused(errors.voyage_batch_tokens(body["model"], MAX_BATCH_TOKENS, tokens))
        self.take(tokens)
        # A prompt is put before the text for each type of input: vectors differ.
        kind = body.get("input_type")
        vectors = [
            vector_of(f"{kind}: {text}" if kind else text, body.get("output_dimension") or facts.dims[0]) for text in texts
        ]
        data = embedding_items(vectors, body.get("encoding_format"))
        return reply(200, {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": tokens}})

    def check_embed(self, body: Json, facts: Facts, texts: list[str]) -> None:
        if len(texts) > MAX_ITEMS:
            self.refuse(f"The batch size limit is {MAX_ITEMS}. Your batch size is {len(texts)}.")
        if body.get("input_type") not in (None, "query", "document"):
            self.refuse(f"Argument 'input_type' must be null, 'query' or 'document', not '{body['input_type']}'.")
        if body.get("encoding_format") not in (None, "base64"):
            self.refuse(f"Value '{body['encoding_format']}' provided for 'encoding_format' is not valid: 'base64' or null.")
        if body.get("output_dtype") not in (None, "float"):
            self.refuse(f"Value '{body['output_dtype']}' provided for 'output_dtype' is not valid.")
        size = body.get("output_dimension")
        if size is not None and (len(facts.dims) == 1 or size not in facts.dims):
            self.refuse(f"Model {body['model']} does not support output_dimension {size}.")

    def rerank(self, body: Json) -> Answer:
        self.facts_of(body, "rerank", RERANK_FIELDS)
        query, documents = body.get("query"), body.get("documents")
        if not isinstance(query, str) or not isinstance(documents, list) or not all(isinstance(item, str) for item in documents):
            raise Refused(errors.voyage_malformed("query must be a string", "documents must be a list of strings"))
        if not 1 <= len(documents) <= MAX_ITEMS:
            self.refuse(f"The number of documents must be between 1 and {MAX_ITEMS}.")
        data = [
            {"relevance_score": score, "index": index, **({"document": documents[index]} if body.get("return_documents") else {})}
            for index, score in rank_documents(query, documents)[: body.get("top_k")]
        ]
        tokens = count_tokens(query) * len(documents) + sum(map(count_tokens, documents))
        self.take(tokens)
        return reply(200, {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": tokens}})

    def facts_of(self, body: Json, kind: str, fields: frozenset[str]) -> Facts:
        model = str(body.get("model"))
        facts = self.models.get(model)
        if facts is None or facts.retired or facts.kind != kind:
            supported = [name for name, known in self.models.items() if known.kind == kind]
            raise Refused(errors.voyage_unknown_model(model, supported))
        for name in unknown_names(body, fields):
            self.refuse(f"Argument '{name}' is not supported by our API.")
        return facts

    def refuse(self, detail: Any) -> NoReturn:
        raise Refused(errors.voyage(400, detail))
