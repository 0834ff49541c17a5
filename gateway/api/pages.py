"""What is for people: pages, with the headers that keep them from doing anything but what they are for."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response

# Script and style from here alone, none within the page; it talks to this gateway and stands in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


def page_reply(html: str) -> Response:
    """Return a page of ours. Browsers ask again each time whether it changed."""
    return Response(html, mimetype="text/html", headers=dict(PAGE_HEADERS))
