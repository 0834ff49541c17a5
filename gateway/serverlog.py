"""gunicorn's own log lines, without what they quote.

Of a request that it cannot read it quotes the part that is wrong: a header with a key in it, or, where a body is longer than
it says, the rest of a prompt. And the text of an exception may hold anything (gunicorn 27.0.1, read 2026-11).
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

from gunicorn.glogging import Logger

BOOT = "Exception in worker process"  # before the first request: the operator needs every word


class ServerLog(Logger):
    """gunicorn's logger: what it says while an exception is handled tells the kind of that and the place, not more."""

    def debug(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        super().debug(*discreet(msg, args), **kwargs)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        super().warning(*discreet(msg, args), **kwargs)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        if str(msg).startswith(BOOT):
            super().exception(msg, *args, **kwargs)
            return
        line, *arguments = discreet(msg, args)
        places = "".join(traceback.format_tb(sys.exc_info()[2]))
        super().error(f"{line}\n%s", *arguments, places)


def discreet(msg: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a format and its arguments as they may be logged: unchanged, unless an exception is being handled."""
    kind = sys.exc_info()[0]
    if kind is None:
        return msg, *args
    return "%s (%s)", str(msg).partition("%")[0].partition(": ")[0].strip(), kind.__name__
