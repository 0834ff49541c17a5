"""What every simulated provider is: a path prefix, a key, models, and a faithful answer to a request."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from tests.e2e.simulator.behaviours import Answer
from tests.e2e.simulator.wire import Request

CREATED = 1795300000


class Refused(Exception):
    """The provider refuses the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


@dataclass(frozen=True)
class Facts:
    """What a provider's documentation says of one model. `dims`: sizes of embeddings, the default first."""

    kind: Literal["chat", "embedding", "rerank"] = "chat"
    efforts: tuple[str, ...] = ()  # of reasoning; () with `reasons`: cannot be chosen
    reasons: bool = False
    vision: bool = False
    tools: bool = True
    json_mode: bool = True
    json_schema: bool = True
    context: int = 131072
    max_output: int = 65536
    dims: tuple[int, ...] = ()
    retired: bool = False


class Service(ABC):
    """A provider below a path prefix. Good keys are those that begin with `test_key`, so that one may have several."""

    name: ClassVar[str]
    prefix: ClassVar[str]
    base: ClassVar[str]  # what the provider's documented base URL has after its host
    test_key: ClassVar[str]
    catalog: ClassVar[Mapping[str, Facts]] = {}

    def __init__(self) -> None:
        self.models: dict[str, Facts] = dict(self.catalog)
        self.numbers = itertools.count(1)

    def env(self, root: str) -> dict[str, str]:
        """Return the gateway's variables for this provider; `root` is the simulator's URL."""
        return {}

    def base_url(self, root: str) -> str:
        return root + self.prefix + self.base

    def revive(self, model: str) -> None:
        """Serve a retired model again, for tests of the contract's published ids."""
        self.models[model] = replace(self.models[model], retired=False)

    def model_of(self, request: Request) -> str | None:
        """Return the model that a request asks for, without judging it."""
        body = request.json
        model = body.get("model") if isinstance(body, dict) else None
        return model if isinstance(model, str) else None

    def answer(self, request: Request) -> Answer:
        """Return what this provider answers to the request, refusals included."""
        try:
            return self.respond(request)
        except Refused as refused:
            return refused.answer

    @abstractmethod
    def respond(self, request: Request) -> Answer:
        """Return the answer. :raises Refused: with the failing one."""

    def is_good_key(self, key: str | None) -> bool:
        return bool(key) and str(key).startswith(self.test_key)


def unknown_names(value: Mapping[str, Any], allowed: frozenset[str] | set[str]) -> list[str]:
    return [name for name in value if name not in allowed]
