"""An HTTP/1.1 answer as a provider's connection gives it: its head in one pass, its body by what the socket has.

http.client reads a head as that of a mail and a chunked body chunk by chunk, and urllib3 wraps what it reads once more: of
a call's 210 us they took 90 (measured 2026-11). The grammar: https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import http.client
import re
from typing import Any

import urllib3

from gateway.upstream.chunked import Dechunker

READ_BYTES = 65536
MOST_FIELDS = 500  # of a head
MOST_LINE_BYTES = 65536

_LENGTH = re.compile(r"[0-9]{1,18}")


class BadFraming(http.client.HTTPException):
    """Where the body ends cannot be told."""


class Answer(http.client.HTTPResponse):
    """Stands in for urllib3's response as far as its pool and the transport use one.

    `headers` have names in lower case; what came several times is joined by commas.
    """

    version_string = "HTTP/1.1"  # for urllib3's debug log
    retries = None
    _connection: Any = None
    _pool: Any = None
    _decoded: urllib3.HTTPResponse | None = None
    headers: dict[str, str]  # type: ignore[assignment]

    # --- the head ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read the head, and before it those of informational answers. Blocks as the socket does."""
        version, status, reason = self._read_status()  # type: ignore[attr-defined]
        while 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS:
            self._read_fields()
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = self.msg = self._read_fields()  # type: ignore[assignment]
        codings = {coding.strip() for coding in self.headers.get("transfer-encoding", "").lower().split(",")}
        self.chunked = "chunked" in codings and not self._is_without_body
        self.length = self._body_length()
        self.will_close = self._check_close() or (self.length is None and not self.chunked)  # type: ignore[attr-defined]
        self._dechunker = Dechunker()

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        name = ""
        for _ in range(MOST_FIELDS):
            line = self.fp.readline(MOST_LINE_BYTES + 1)
            if len(line) > MOST_LINE_BYTES:
                raise http.client.LineTooLong("header line")
            text = line.decode("latin-1").rstrip("\r\n")
            if not text:
                return fields
            if text[0] in " \t":  # what goes on, in the obsolete way
                if name in fields:
                    fields[name] += " " + text.strip()
                continue
            name, colon, value = text.partition(":")
            name, value = name.strip().lower(), value.strip()
            if colon:
                fields[name] = f"{fields[name]}, {value}" if name in fields else value
        raise http.client.HTTPException("more header fields than any real answer has")

    @property
    def _is_without_body(self) -> bool:
        return self.status in (http.client.NO_CONTENT, http.client.NOT_MODIFIED) or self._method == "HEAD"  # type: ignore[attr-defined]

    def _body_length(self) -> int | None:
        """Return how many bytes the body has, None where its chunks or the connection's end tell."""
        if self._is_without_body:
            return 0
        told = {part.strip() for part in self.headers.get("content-length", "").split(",")} - {""}
        if self.chunked or not told:
            return None
        if len(told) > 1 or not all(_LENGTH.fullmatch(part) for part in told):
            raise BadFraming("Content-Length")
        return int(told.pop())

    # --- the body ----------------------------------------------------------------------------------------------------

    def read1(self, n: int = -1, *, decode_content: bool = False) -> bytes:
        """Return bytes of the body, waiting for the first of them as the socket does; b"" at its end.

        `decode_content`: take off a compression that nobody asked for.
        """
        if decode_content and "content-encoding" in self.headers:
            self._decoded = self._decoded or urllib3.HTTPResponse(self, self.headers, preload_content=False)
            content = self._decoded.read1(n, decode_content=True)
            self._decoded = self._decoded if content else None  # which holds this answer
            return content
        if self.isclosed():
            return b""
        data = self._read_chunked() if self.chunked else self._read_plain(n)
        if not data or self.length == 0:
            self._finish()
        return data

    def _read_chunked(self) -> bytes:
        while not self._dechunker.ended:
            if self._dechunker.broken:
                raise BadFraming("chunk")
            data = self.fp.read1(READ_BYTES)
            if not data:
                raise http.client.IncompleteRead(b"")
            if content := self._dechunker.feed(data):
                return content
        return b""

    def _read_plain(self, n: int) -> bytes:
        most = READ_BYTES if n < 0 else n
        if self.length is None:
            return self.fp.read1(most)
        data: bytes = self.fp.read1(min(most, self.length))
        if not data and self.length:
            raise http.client.IncompleteRead(b"", self.length)
        self.length -= len(data)
        return data

    def _finish(self) -> None:
        if self._dechunker.has_surplus and self._connection is not None:  # whatever it is, it answers no request
            self._connection.close()
        self._close_conn()  # type: ignore[attr-defined]  # of the file only: the connection may serve the next call
        self.release_conn()

    @property
    def has_bytes(self) -> bool:
        """Whether a read would have something at once. The socket must not block."""
        return self._dechunker.ended or self._dechunker.broken or bool(self.fp.peek(1))

    # --- the connection ----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:  # type: ignore[override]
        """Whether it was closed or read to its end: the connection may be another call's by now."""
        return self.isclosed()

    @property
    def length_remaining(self) -> int | None:
        """For urllib3's debug log."""
        return self.length

    def release_conn(self) -> None:
        """Give the connection back to its pool. Does nothing the second time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool._put_conn(connection)

    def close(self) -> None:
        """Close it, and its connection where the body was not read to its end."""
        if self._connection is not None and not self.isclosed():
            self._connection.close()
        super().close()
