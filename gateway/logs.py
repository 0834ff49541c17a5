"""The gateway's log: one line a record on stderr, as JSON or as text."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import lru_cache
from typing import Any, TextIO

from gateway import jsonio

GATHER_S = 0.05  # how long a line waits for others to be written with it
MOST_LINES = 10_000  # that wait to be written

log = logging.getLogger("gateway")

_BARE = re.compile(r"[!#-~]+")  # what a value may hold to stand in a line of text as it is


class Formatter(logging.Formatter):
    """One line a record, as JSON or as text. Tracebacks show places, never the values in an exception's message.

    In text, a value with spaces, quotes or control characters stands as a JSON string: what a client sends neither ends a
    line nor forges a field.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if self._as_json:
            text = jsonio.dumps(line)
            return text.decode() if text.isascii() else json.dumps(line)  # U+2028 ends a line for some readers
        time_of_day, level, message = line.pop("time")[11:], line.pop("level"), line.pop("message")
        return f"{time_of_day} {level:7s} {message} " + " ".join(f"{name}={_as_text(value)}" for name, value in line.items())


@lru_cache(maxsize=4)
def _second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def _as_text(value: Any) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


class Gathering(logging.Handler):
    """Writes lines together, a moment after the first of them; from a warning on at once.

    The thread of a request then waits for no write, and no slow reader of the log stops the gateway: beyond MOST_LINES the
    oldest are lost. What is written down is up to GATHER_S old; kill -9 takes that much with it.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._something = threading.Event()
        self._writing = threading.Lock()
        self._writer: threading.Thread | None = None  # a fork takes it not along

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
        if record.levelno >= logging.WARNING:
            self.flush()
        else:
            self._start_writer()
            self._something.set()

    def flush(self) -> None:
        """Write what is gathered. Blocks for as long as the stream does."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
                    self._stream.write("\n".join(lines) + "\n")
                    self._stream.flush()

    def _start_writer(self) -> None:
        if self._writer is None or not self._writer.is_alive():
            writer = threading.Thread(target=self._write, name="log", daemon=True)
            with suppress(RuntimeError):  # no thread to be had: the next line tries again
                writer.start()
                self._writer = writer

    def _write(self) -> None:
        while True:
            self._something.wait()
            time.sleep(GATHER_S)
            self._something.clear()
            self.flush()


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send the gateway's log lines to stderr in one format. Idempotent."""
    for handler in log.handlers:
        handler.flush()
    gathering = Gathering(sys.stderr)
    gathering.setFormatter(Formatter(as_json=as_json))
    log.handlers[:] = [gathering]
    log.setLevel(level.upper())
    log.propagate = False
