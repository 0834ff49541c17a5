import pytest
from werkzeug.routing import Map, Rule

from gateway.api.paths import CanonicalPaths

ROUTES = Map([Rule(rule) for rule in ("/v1/models", "/v1/models/<path:id>", "/v1/chat/completions", "/healthz", "/")])


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        ("/v1/models", "/v1/models"),
        ("/models", "/v1/models"),
        ("/v1/v1/models", "/v1/models"),
        ("//v1//models//", "/v1/models"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/models/@cf/meta/llama", "/v1/models/@cf/meta/llama"),
        ("/v1/models/openai/gpt-oss-20b:free", "/v1/models/openai/gpt-oss-20b:free"),
        ("/healthz/", "/healthz"),
        ("/v1/healthz", "/healthz"),
        ("/v1/v1/healthz", "/healthz"),
        ("/", "/"),
        ("", "/"),
        ("/v1", "/"),
        ("/nothing/here", "/nothing/here"),
    ],
)
def test_every_spelling_reaches_its_route(asked, route):
    environ = {"PATH_INFO": asked}
    CanonicalPaths(lambda environ, start_response: [], ROUTES)(environ, lambda *_: None)
    assert environ["PATH_INFO"] == route
