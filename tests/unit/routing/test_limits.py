import pytest

from gateway.domain import ChatRequest, Model
from gateway.routing.evidence import UNKNOWN, Health
from gateway.routing.limits import AttemptClock, idle_s
from gateway.settings import Settings

NOW = 1000.0
THINKS = {"reasoning_tier": "low"}
SETTINGS = Settings()  # 3 s to connect, 10 s for the first token, 20 s of silence


def limits(*, stream=True, ends_in_s=500.0, health=UNKNOWN, row=(), **asked):
    """The limits of one call; `row`: fields of the model, `asked`: of the request."""
    clock = AttemptClock(SETTINGS, NOW + ends_in_s, stream=stream, now=lambda: NOW)
    return clock.chat_limits(ChatRequest(body={"messages": []}, **asked), Model(provider="a", id="m", **dict(row)), health)


@pytest.mark.parametrize(
    ("facts", "first_token_s"),
    [
        ({}, 10),
        ({"prompt_tokens": 50_000}, 20),  # a large prompt takes its time to be read
        ({"health": Health(ttft_p95_s=2.0)}, 10),
        ({"health": Health(ttft_p95_s=8.0)}, 24),
        ({"health": Health(ttft_p95_s=8.0), "prompt_tokens": 50_000}, 34),
        ({"row": THINKS}, 30),
        ({"row": THINKS, "prompt_tokens": 50_000}, 40),
        ({"row": THINKS, "health": Health(ttft_p95_s=20.0)}, 60),
        ({"row": {"first_token_timeout_s": 2.5}}, 2.5),
        ({"row": {"first_token_timeout_s": 2.5, **THINKS}, "prompt_tokens": 50_000}, 2.5),
    ],
)
def test_how_long_a_first_token_may_take(facts, first_token_s):
    assert limits(**facts).first_token_s == pytest.approx(first_token_s)


@pytest.mark.parametrize(("needs", "seconds"), [((), 20), (("vision",), 20), (("tools",), 120)])
def test_how_long_a_stream_may_be_silent(needs, seconds):
    assert limits(needs=frozenset(needs)).idle_s == seconds


def test_tools_never_shorten_a_silence():
    assert idle_s(Settings(idle_timeout_s=300), ChatRequest(body={"messages": []}, needs=frozenset({"tools"}))) == 300


def test_a_stream_has_until_the_budget_ends_to_begin():
    assert limits(ends_in_s=7).deadline_mono == NOW + 7 and limits().connect_s == 3


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({"max_output_tokens": 1000}, 20),  # nobody knows its speed
        ({"max_output_tokens": 1000, "row": THINKS}, 30),
        ({"prompt_tokens": 100_000}, 30),
        ({"row": {"first_token_timeout_s": 45.0}}, 45),
        ({"max_output_tokens": 1000, "health": Health(tokens_per_s=200.0)}, 20),
        ({"max_output_tokens": 1000, "health": Health(tokens_per_s=10.0)}, 110),
        ({"max_output_tokens": 64_000, "row": {"max_output_tokens": 500}, "health": Health(tokens_per_s=25.0)}, 30),
        ({"max_output_tokens": 64_000, "health": Health(tokens_per_s=25.0)}, 10 + 8192 / 25),
        ({"health": Health(tokens_per_s=10.0)}, 20),
        ({"max_output_tokens": 100, "health": Health(whole_p95_s=30.0)}, 90),
        ({"max_output_tokens": 1000, "ends_in_s": 12}, 12),
    ],
)
def test_how_long_a_whole_answer_may_take(facts, seconds):
    found = limits(stream=False, **facts)
    assert found.deadline_mono - NOW == pytest.approx(seconds) and found.idle_s >= seconds <= found.first_token_s


def test_each_call_of_a_batch_of_embeddings_has_the_time_of_one_and_all_have_the_request_s():
    found = AttemptClock(SETTINGS, NOW + 300, stream=False, now=lambda: NOW).embedding_limits()
    assert (found.first_token_s, found.deadline_mono) == (20, NOW + 300)
