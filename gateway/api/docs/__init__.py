"""GET /openapi.json, and GET /docs: Swagger UI, from the package that carries its files."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, request, send_from_directory

from gateway import jsonio
from gateway.api.pages import page_reply
from gateway.errors import UnknownPath

bp = Blueprint("docs", __name__, static_folder="static", static_url_path="/docs/static")

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")  # of many in the package, its own page with links elsewhere among them

_DOCUMENT = "gateway.openapi"  # in the application's extensions, once it is built
_building = threading.Lock()


@bp.get("/openapi.json")
def openapi() -> Response:
    """Describe this API, as OpenAPI 3.1."""
    answer = Response(document_of(current_app), mimetype="application/json", headers={"Cache-Control": "no-cache"})
    answer.add_etag()
    return answer.make_conditional(request)  # type: ignore[return-value]


@bp.get("/docs")
def docs() -> Response:
    """Show the description of this API, to read and to try."""
    return page_reply(PAGE)


@bp.get("/docs/swagger/<path:filename>")
def swagger_static(filename: str) -> Response:
    """Return a file of Swagger UI."""
    package = find_spec("flask_swagger_ui")
    if filename not in SWAGGER_FILES or package is None or package.origin is None:
        raise UnknownPath("There is no such file.")
    return send_from_directory(Path(package.origin).parent / "dist", filename)


def document_of(app: Flask) -> bytes:
    """Return the document as JSON, built when it is first asked for: workers start without what builds it."""
    with _building:
        if _DOCUMENT not in app.extensions:
            from gateway.api.description import build_document

            app.extensions[_DOCUMENT] = jsonio.dumps(build_document(app))
        return app.extensions[_DOCUMENT]  # type: ignore[no-any-return]
