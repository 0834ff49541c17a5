"""Thoughts that stand in the text itself."""

from __future__ import annotations


class ThoughtSplitter:
    """Separate `<think>…</think>` at the beginning of a text from the answer behind it, in whatever pieces it comes."""

    OPEN, CLOSE = "<think>", "</think>"

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, thinking, gap (white space before the answer), answer

    def feed(self, text: str) -> tuple[str, str]:
        """Return (thoughts, answer) that are certain by now."""
        if self._state == "answer":
            return "", text
        text, self._held = self._held + text, ""
        if self._state == "start":
            begun = text.lstrip()
            if begun.startswith(self.OPEN):
                self._state, text = "thinking", begun[len(self.OPEN) :].lstrip("\n")
            elif self.OPEN.startswith(begun):
                self._held = text
                return "", ""
            else:
                self._state = "answer"
                return "", text
        if self._state == "gap":
            return "", self._skip_gap(text)
        thoughts, close, rest = text.partition(self.CLOSE)
        if close:
            self._state = "gap"
            return thoughts.rstrip("\n"), self._skip_gap(rest)
        keep = max((n for n in range(1, len(self.CLOSE)) if text.endswith(self.CLOSE[:n])), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

    def finish(self) -> tuple[str, str]:
        """Return what was still held back when the text ended."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "thinking" else ("", held)

    def _skip_gap(self, text: str) -> str:
        text = text.lstrip("\n")
        if text:
            self._state = "answer"
        return text
