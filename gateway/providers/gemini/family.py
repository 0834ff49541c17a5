"""What the generations of Google's models take: the API refuses with 400 what a model does not know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gateway.domain import Model

_ID = re.compile(r"(gemini|gemma)-(\d+)(?:\.(\d+))?")
_NEWEST = (3, 0)  # what an id without a number (gemini-flash-latest) is taken for


@dataclass(frozen=True, slots=True)
class Family:
    """A generation of models, as its upstream id tells."""

    name: Literal["gemini", "gemma"]
    version: tuple[int, int]
    lite: bool = False

    @classmethod
    def of(cls, model: Model) -> Family:
        match = _ID.search(model.upstream_id)
        if not match:
            return cls("gemma" if "gemma" in model.upstream_id else "gemini", _NEWEST)
        name: Literal["gemini", "gemma"] = "gemma" if match[1] == "gemma" else "gemini"
        return cls(name, (int(match[2]), int(match[3] or 0)), "-lite" in model.upstream_id)

    def _is_gemini(self, since: tuple[int, int]) -> bool:
        return self.name == "gemini" and self.version >= since

    @property
    def is_open(self) -> bool:
        return self.name == "gemma"

    @property
    def takes_json_schema(self) -> bool:
        """Ordinary JSON Schema; the others read a subset of OpenAPI's."""
        # 2026-11: https://ai.google.dev/gemini-api/docs/structured-output
        return self._is_gemini((2, 5)) or (self.is_open and self.version >= (4, 0))

    @property
    def takes_system(self) -> bool:
        # 2026-08: Gemma 3 answers "Developer instruction is not enabled", Gemma 4 takes it.
        return not self.is_open or self.version >= (4, 0)

    @property
    def takes_penalties(self) -> bool:
        # 2026-11: several 3.x models answer "Penalty is not enabled for this model".
        return self.name == "gemini" and self.version < (3, 0)

    @property
    def takes_candidate_count(self) -> bool:
        # 2026-05: 3.x answers "Multiple candidates is not enabled for this model".
        # https://github.com/googleapis/js-genai/issues/1609
        return self.name == "gemini" and self.version < (3, 0)

    @property
    def mixes_tools_and_json(self) -> bool:
        # 2026-11: 2.x answers "Function calling with a response mime type: 'application/json' is unsupported".
        return self._is_gemini((3, 0))

    @property
    def signs(self) -> bool:
        """Whether calls carry the thoughts that led to them, encrypted, and may be given them back."""
        return self._is_gemini((2, 5))

    @property
    def wants_signatures(self) -> bool:
        """Whether a call in the history without its signature is refused."""
        # 2026-11: https://ai.google.dev/gemini-api/docs/thought-signatures
        return self._is_gemini((3, 0))

    @property
    def names_calls(self) -> bool:
        """Whether calls have ids of their own, and results refer to them."""
        return self._is_gemini((3, 0))

    @property
    def takes_thinking(self) -> bool:
        # 2026-11: 2.0 and older answer a thinkingConfig with 400. https://ai.google.dev/gemini-api/docs/thinking
        return self._is_gemini((2, 5)) or (self.is_open and self.version >= (4, 0))

    @property
    def thinks_by_budget(self) -> bool:
        """Whether thinking is limited in tokens; newer models know levels."""
        return self.takes_thinking and self.version < (3, 0)

    @property
    def thinks_unasked(self) -> bool:
        """Whether thoughts can be asked for without a level: they are refused where thinking is off."""
        return self._is_gemini((2, 5)) and not (self.lite and self.version == (2, 5))
