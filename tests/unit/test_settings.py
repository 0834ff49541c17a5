import pytest

from gateway.errors import ConfigurationError
from gateway.settings import ClientKey, Settings


def test_without_a_variable_the_defaults_of_the_class_hold():
    read = Settings.from_env({})
    fields = set(Settings.__dataclass_fields__) - {"variables", "log_format"}
    assert {name: getattr(read, name) for name in fields} == {name: getattr(Settings(), name) for name in fields}


def test_an_empty_variable_counts_as_unset():
    assert Settings.from_env({"PORT": " ", "GATEWAY_API_KEY": ""}).port == 8000


HASH_A, HASH_B = ClientKey("ann", "a" * 64), ClientKey("bob", "b" * 64)
READ = [
    ({"PORT": "9000"}, "host", "0.0.0.0"),
    ({"PORT": "9000", "HOST": "127.0.0.1"}, "host", "127.0.0.1"),
    ({"GATEWAY_API_KEY": "sk-1"}, "api_keys", (("default", "sk-1"),)),
    ({"GATEWAY_API_KEY": "ann:sk-1, sk-2"}, "api_keys", (("ann", "sk-1"), ("key-2", "sk-2"))),
    ({"GATEWAY_API_KEY_HASHES": "ann:" + "A" * 64 + "\nbob:" + "b" * 64}, "api_key_hashes", (HASH_A, HASH_B)),
    ({"DYNO": "web.1"}, "commit_budget_s", 25),
    ({"DYNO": "web.1", "COMMIT_BUDGET_S": "20"}, "commit_budget_s", 20),
    ({"REDIS_URL": "redis://a"}, "state_url", "redis://a"),
    ({"REDIS_URL": "redis://a", "STATE_URL": "sqlite:///b"}, "state_url", "sqlite:///b"),
    ({"CLIENT_RATE_LIMIT": "600/minute"}, "client_rate_limit", (600, 60)),
    ({"PUBLIC_RATE_LIMIT": "off"}, "public_rate_limit", None),
    ({"GATEWAY_SANDBOX": "ON"}, "sandbox", "on"),
    ({"GATEWAY_ALLOW_ANONYMOUS": "true"}, "cors_origins", ()),
    ({"GATEWAY_ALLOW_ANONYMOUS": "true", "CORS_ORIGINS": "https://a, https://b"}, "cors_origins", ("https://a", "https://b")),
    ({"GATEWAY_API_KEY_HASHES": "ann:" + "a" * 64 + ",\n"}, "api_key_hashes", (HASH_A,)),
    ({"HOST": "::"}, "bind", "[::]:8000"),
    ({"HOST": "[::1]", "PORT": "9"}, "bind", "[::1]:9"),
    ({"CORS_ORIGINS": "http://localhost:3000,null,tauri://localhost"}, "cors_origins",
        ("http://localhost:3000", "null", "tauri://localhost")),
    ({"REQUESTS_CA_BUNDLE": "/dev/null"}, "ca_bundle", "/dev/null"),
    ({"HTTPS_PROXY": "p:3128"}, "proxies", {"https": "http://p:3128"}),
    ({"HTTP_PROXY": "p", "HTTPS_PROXY": "p", "ALL_PROXY": "socks5://p"}, "proxies", {"http": "http://p", "https": "http://p"}),
    ({"ALL_PROXY": "http://p", "https_proxy": "http://q"}, "proxies", {"all": "http://p", "https": "http://q"}),
    ({"RETRY_AFTER_PATIENCE_S": "0"}, "retry_after_patience_s", 0),
    ({"https_proxy": "http://p", "HTTP_PROXY": "http://q"}, "proxies", {"http": "http://q", "https": "http://p"}),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "name", "value"), READ, ids=[f"{case[1]} of {'+'.join(case[0])}" for case in READ])
def test_variables_are_read(environ, name, value):
    assert getattr(Settings.from_env(environ), name) == value


WRONG = {
    "PORT": "http",
    "WEB_CONCURRENCY": "0",
    "GATEWAY_THREADS": "1.5",
    "GATEWAY_ALLOW_ANONYMOUS": "perhaps",
    "STATE_URL": "postgres://user:hunter2@x",
    "GATEWAY_API_KEY": "has space hunter2",
    "GATEWAY_API_KEY_HASHES": "ann:hunter2",
    "IDLE_TIMEOUT_S": "-1",
    "FIRST_TOKEN_TIMEOUT_S": "nan",
    "CLIENT_RATE_LIMIT": "many/minute",
    "GATEWAY_SANDBOX": "maybe",
    "LOG_LEVEL": "loud",
    "REQUESTS_CA_BUNDLE": "/no/such/file",
    "HTTPS_PROXY": "not a url hunter2",
    "ALL_PROXY": "socks5://user:hunter2@p",
    "CORS_ORIGINS": "https://a/path",
}


def test_every_problem_is_named_at_once_and_no_secret_is_repeated():
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_env(WRONG)
    assert sorted(problem.split()[0] for problem in raised.value.problems) == sorted(WRONG)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("HTTPS_PROXY", value) for value in ("http://", "http://p:port", "http://p:0", "http://[", ":::")],
        *[("CORS_ORIGINS", value) for value in ("example.com", "https://a/", "https://*.a", "https://a b", "https://(a+)+")],
        ("GATEWAY_API_KEY", ","),
        ("GATEWAY_API_KEY_HASHES", ", ,"),
    ],
)
def test_a_value_that_would_fail_later_is_refused_at_once(name, value):
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        Settings.from_env({name: value})


def test_secrets_do_not_show_in_a_repr():
    settings = Settings.from_env({"GATEWAY_API_KEY": "sk-hunter2", "GROQ_API_KEY": "gsk_hunter2", "METRICS_TOKEN": "hunter2"})
    assert "hunter2" not in repr(settings)
    assert settings.variable("GROQ_API_KEY") == "gsk_hunter2" and settings.variable("NO_SUCH") is None
