"""Every fault of `faults.TABLE`, whole and streamed, with a healthy second and alone, through a real gunicorn.

    .venv/bin/pytest -m slow tests/e2e/test_faults.py --fault-table=table.md        writes what became of them as Markdown

The cases are played many at once, each with providers of its own, so that none rests for another's failures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e import faults
from tests.e2e.conftest import Gateway
from tests.e2e.faults import TEXT, Broke, Empty, Expected, Failed, Fault
from tests.e2e.simulator import Request, Simulator, faithful

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.quiet]  # how long each fault takes is told

AT_ONCE = 16
SLACK_S = 1.0  # beyond the limits, for a machine that is busy
PAUSE_S = 0.5  # before a second try, at most (routing/attempts.py)
MODELS = {
    "plain": "m",
    "groq": "llama-3.3-70b-versatile",
    "gemini": "gemini-2.0-flash",
    "workers_ai": "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
    "openrouter": "cohere/north-mini-code:free",
    "cerebras": "llama-3.3-70b",
}
RETIRED = ("groq", "gemini", "cerebras")  # their last models that do not think
LIMITS = {
    "CONNECT_TIMEOUT_S": faults.CONNECT_S,
    "FIRST_TOKEN_TIMEOUT_S": faults.FIRST_TOKEN_S,
    "IDLE_TIMEOUT_S": faults.IDLE_S,
    "STREAM_MAX_S": faults.STREAM_MAX_S,
}


@dataclass(frozen=True, eq=False)
class Case:
    """One fault in one form. The provider `first` fails; `second` does not, and is named where `has_second`."""

    number: int
    fault: Fault
    streamed: bool
    has_second: bool

    def __str__(self) -> str:
        return f"{self.fault.name}-{self.form}-{'second' if self.has_second else 'alone'}"

    @property
    def form(self) -> str:
        return "streamed" if self.streamed else "whole"

    @property
    def expected(self) -> Expected:
        expected = self.fault.streamed if self.streamed else self.fault.whole
        assert expected is not None
        return expected

    @property
    def first(self) -> str:
        return f"first{self.number}"

    @property
    def second(self) -> str:
        return f"second{self.number}"


def all_cases() -> Iterator[Case]:
    number = 0
    for fault in faults.TABLE:
        for streamed, expected in ((False, fault.whole), (True, fault.streamed)):
            for has_second in (True, False) if expected else ():
                yield Case(number, fault, streamed, has_second)
                number += 1


CASES = list(all_cases())


# --- playing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a client got. `is_sound`: it ended properly, a stream with its only [DONE]."""

    status: int
    headers: Mapping[str, str]
    text: str
    end: str | None
    x_gateway: dict[str, Any] | None
    error: dict[str, Any] | None
    is_sound: bool
    took_s: float = 0.0


@dataclass(frozen=True)
class Played:
    """`calls` that each of the two saw; `lets_go`: none of them is held any more; `later`: the next request's answer."""

    answer: Answer
    calls: tuple[int, int]
    lets_go: bool
    later: Answer


class Stage:
    """A gateway that knows two providers for each case."""

    def __init__(self, simulator: Simulator, gateway: Gateway) -> None:
        self.simulator = simulator
        self.gateway = gateway

    def play(self, case: Case) -> Played:
        service, key = case.fault.service, key_of(case.fault.service, case.first)
        if case.fault.behaviour:
            self.simulator.always(service, case.fault.behaviour, key=key)
        answer = self._ask(case, [case.first, case.second] if case.has_second else [case.first])
        first, second = self._calls(service, case.first), self._calls(service, case.second)
        lets_go = all(call.wait_ended(1.0) for call in [*first, *second])
        self.simulator.always(service, faithful(), key=key)
        later = self._ask(case, [case.first, case.second])
        return Played(answer, (len(first), len(second)), lets_go, later)

    def _calls(self, service: str, provider: str) -> list[Request]:
        return [call for call in self.simulator.calls(service) if call.key == key_of(service, provider)]

    def _ask(self, case: Case, providers: list[str]) -> Answer:
        body = {
            "models": [f"{provider}/m" for provider in providers],
            "messages": [{"role": "user", "content": faults.PROMPT}],
            "max_tokens": faults.MAX_TOKENS,
            "stream": case.streamed,
        }
        began = time.monotonic()
        with self.gateway.stream("/v1/chat/completions", body) as received:
            data = b"".join(line.data for line in received)
            read = read_stream if "event-stream" in received.headers["content-type"] else read_whole
            answer = Answer(received.status, received.headers, **read(data))
            return replace(answer, is_sound=answer.is_sound and received.is_whole, took_s=time.monotonic() - began)


def read_whole(data: bytes) -> dict[str, Any]:
    body = json.loads(data)
    choice = body.get("choices", [{"message": {"content": ""}}])[0]
    return {
        "text": choice["message"]["content"],
        "end": choice.get("finish_reason"),
        "x_gateway": body.get("x_gateway"),
        "error": body.get("error"),
        "is_sound": True,
    }


def read_stream(data: bytes) -> dict[str, Any]:
    *events, done, nothing = data.split(b"\n\n")
    items = [json.loads(event.removeprefix(b"data: ")) for event in events]
    choices = [item["choices"][0] for item in items if "choices" in item]
    return {
        "text": "".join(choice["delta"].get("content", "") for choice in choices),
        "end": choices[-1]["finish_reason"],
        "x_gateway": items[-1].get("x_gateway"),
        "error": items[-1].get("error"),
        "is_sound": (done, nothing) == (b"data: [DONE]", b"") and all(b"\n" not in event for event in events),
    }


# --- the stage ---------------------------------------------------------------------------------------------------------


def key_of(service: str, provider: str) -> str:
    """Return the credential by which the simulator tells the providers of the cases apart."""
    return f"{Simulator.key_prefix(service)}-{provider}"


def variable_of(provider: str) -> str:
    return f"KEY_{provider}".upper()


def catalog_of(simulator: Simulator) -> str:
    rows = []
    for case in CASES:
        service = case.fault.service
        adapter = "openai_compatible" if service == "plain" else service
        for provider, at in ((case.first, case.fault.at), (case.second, None)):
            url = at(simulator) if at else simulator.base_url(service)
            rows += [
                f'[[providers]]\nkey = "{provider}"\nadapter = "{adapter}"\nbase_url = "{url}"',
                f'credential_env = "{variable_of(provider)}"',
                f'[[models]]\nprovider = "{provider}"\nid = "m"\nupstream_id = "{MODELS[service]}"\nlimits = {{}}',
            ]
    return "\n".join(rows)


@pytest.fixture(scope="module")
def stage(start_gateway, tmp_path_factory):
    with Simulator(keeps_alive=False) as simulator:
        for service in RETIRED:
            simulator.revive(service, MODELS[service])
        path = tmp_path_factory.mktemp("catalog") / "faults.toml"
        path.write_text(catalog_of(simulator))
        keys = {variable_of(name): key_of(case.fault.service, name) for case in CASES for name in (case.first, case.second)}
        env = {**keys, **{name: str(seconds) for name, seconds in LIMITS.items()}, "GATEWAY_CATALOG": str(path)}
        yield Stage(simulator, start_gateway(env, threads=64, app="tests.e2e.hurried:app"))


@pytest.fixture(scope="module")
def plays(stage, request):
    """What became of every case that is asked for: a future for each, so that one which fails spoils no other."""
    chosen = {item.callspec.params["case"] for item in request.session.items if "plays" in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        plays = {case: pool.submit(stage.play, case) for case in CASES if case in chosen}
    if path := request.config.getoption("--fault-table", None):
        Path(path).write_text(markdown_of(plays))
    return plays


# --- as a table --------------------------------------------------------------------------------------------------------


def markdown_of(plays: Mapping[Case, Future[Played]]) -> str:
    lines = ["| fault | form | healthy second | the client got | calls | s |", "| --- | --- | --- | --- | --- | --- |"]
    for case, future in plays.items():
        played = future.result()
        calls = " + ".join(map(str, played.calls if case.has_second else played.calls[:1]))
        second, told = "yes" if case.has_second else "no", in_words(case, played.answer)
        lines.append(f"| {case.fault.name} | {case.form} | {second} | {told} | {calls} | {played.answer.took_s:.2f} |")
    return "\n".join(lines) + "\n"


def in_words(case: Case, answer: Answer) -> str:
    if answer.error:
        before = f"“{answer.text[:20]}”, then" if answer.text else answer.status
        return f"{before} `{answer.error['code']}`: {answer.error['message']}"
    x_gateway = answer.x_gateway or {}
    who = "the second" if x_gateway["provider"] == case.second else "the first"
    what = "the rest" if x_gateway.get("rescued") else "the answer" if answer.text else "an empty answer"
    return f"{what} from {who}"


# --- what must hold ----------------------------------------------------------------------------------------------------


class Attempt(NamedTuple):
    provider: str
    outcome: str = "ok"
    status: int | None = 200

    @property
    def trail(self) -> str:
        return f"{self.provider}/m:{self.outcome}"


def attempts_in(case: Case) -> list[Attempt]:
    """Return how each attempt ended."""
    expected, second = case.expected, [Attempt(case.second)] if case.has_second else []
    if isinstance(expected, Failed):
        return [Attempt(case.first, expected.outcome, expected.upstream_status)] * max(1, expected.calls) + second
    if isinstance(expected, Empty) and second:
        return [Attempt(case.first, "empty"), *second]
    if isinstance(expected, Broke) and expected.rescued and second:
        return [Attempt(case.first, expected.outcome), *second]
    return [Attempt(case.first)]


def error_in(case: Case) -> dict[str, Any] | None:
    """Return the error that the client is told, None where it gets an answer."""
    expected, attempts = case.expected, attempts_in(case)
    if attempts[-1].provider == case.second or not isinstance(expected, Failed | Broke):
        return None
    message = expected.message
    if isinstance(expected, Failed) and expected.type == "provider_error":  # who it was, and a step behind it
        named = message.startswith("The provider")
        message = f"{message.replace('The provider', case.first, 1) if named else f'{case.first}: {message}'} ?*"
    error: dict[str, Any] = {"message": message, "type": expected.type, "param": None, "code": expected.code}
    if isinstance(expected, Failed):
        error["attempts"] = [{"provider": a.provider, "model": "m", "status": a.status, "reason": a.outcome} for a in attempts]
    return error


def x_gateway_in(case: Case, answer: Answer) -> dict[str, Any] | None:
    if error_in(case):
        return None
    attempts = attempts_in(case)
    told = {"provider": attempts[-1].provider, "model": "m", "attempts": len(attempts), "reasoning_effort": "auto"}
    rescued = {"rescued": True, "trail": " ".join(a.trail for a in attempts)} if isinstance(case.expected, Broke) else {}
    return {**told, "request_id": answer.headers["x-request-id"], **rescued}


def without_times(error: dict[str, Any] | None, pattern: str) -> dict[str, Any] | None:
    """Return an error without what is never twice the same: the milliseconds, and a moment in the message."""
    if error is None:
        return None
    error = {**error, "message": pattern} if fnmatchcase(error["message"], pattern) else error
    if "attempts" in error:
        error["attempts"] = [{name: value for name, value in entry.items() if name != "ms"} for entry in error["attempts"]]
    return error


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_answer_is_exact_or_the_failure_is_said(plays, case):
    answer, expected, error = plays[case].result().answer, case.expected, error_in(case)
    assert answer.is_sound
    assert answer.status == (expected.status if error and isinstance(expected, Failed) else 200)
    assert without_times(answer.error, error["message"] if error else "") == error
    if error:
        assert answer.end is None and fnmatchcase(answer.text, expected.text if isinstance(expected, Broke) else "")
    else:
        is_empty = isinstance(expected, Empty) and not case.has_second
        assert (answer.text, answer.end) == ("" if is_empty else TEXT, "stop")
    assert answer.x_gateway == x_gateway_in(case, answer)
    in_time = [Attempt(case.first)] if isinstance(expected, Broke) else attempts_in(case)  # for the headers
    assert answer.headers["x-gateway-trail"] == " ".join(a.trail for a in in_time)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_takes_no_more_calls_and_time_than_it_must_and_leaves_nothing_behind(plays, case):
    played, expected = plays[case].result(), case.expected
    first = expected.calls if isinstance(expected, Failed) else 1
    assert played.calls == (first, attempts_in(case)[-1].provider == case.second)
    assert played.answer.took_s < expected.waits_s + PAUSE_S * max(0, first - 1) + SLACK_S
    assert played.lets_go
    assert (played.later.status, played.later.text, played.later.error) == (200, TEXT, None)
