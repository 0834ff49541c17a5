"""Every current chat row against the simulator, which is as strict as the providers: what clients send goes through."""

import time

import pytest

from gateway.boot import load_configuration
from gateway.domain import ChatRequest, Model
from gateway.errors import UpstreamModelFailed
from gateway.providers import load_adapter
from gateway.providers.openai_compatible import Adapter
from gateway.upstream.shape import repair_completion
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle
from tests.contract.compatible import Bench, Notes
from tests.contract.test_catalog import CHAT, NEUTRAL
from tests.e2e.simulator import Simulator

CHATTING = [candidate.model for candidate in CHAT]
CURRENT = [m for m in CHATTING if m.status in ("active", "preview") and 0 not in m.limits.values()]
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5, "stop": ["a", "b"], "seed": 7}
REQUESTS = {
    "defaults of SDKs": ChatRequest(body={**HELLO, **NEUTRAL}, prompt_tokens=8),
    "more than the model writes": ChatRequest(body=HELLO, max_output_tokens=64000, prompt_tokens=8),
    "no thoughts": ChatRequest(body=HELLO, reasoning_effort="none", prompt_tokens=8),
    "all thoughts": ChatRequest(body=HELLO, reasoning_effort="high", prompt_tokens=8),
    "whatever else": ChatRequest(body={**HELLO, "top_k": 3, "n": 1, "anything": 1, "user": "u"}, prompt_tokens=8),
}
SCHEMA = {"type": "object", "properties": {"a": {"type": ["object", "null"]}}, "required": ["a"]}
STRICT = ChatRequest(
    body={**HELLO, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}},
    needs=frozenset({"json_schema"}),
    prompt_tokens=8,
)


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def candidates(simulator):
    inventory = load_configuration({"GATEWAY_API_KEY": "sk-1", **simulator.env()}).inventory
    return {model.name: inventory.candidates(model)[0] for model in inventory.listed}


def complete(candidate, request):
    provider = load_adapter(candidate.provider.adapter)(candidate.provider, Transport(), Notes())
    body = provider.complete(request, candidate, CallLimits(1, 5, 5, time.monotonic() + 5), Handle()).body
    return repair_completion(body, model="m", splits_thoughts=candidate.model.reasons)["choices"][0]["message"]


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("name", [model.name for model in CURRENT])
def test_what_clients_send_is_answered(candidates, name, kind):
    message = complete(candidates[name], REQUESTS[kind])
    assert message["content"] == "echo: Hello"
    if kind == "no thoughts":
        assert not message.get("reasoning_content")


@pytest.mark.parametrize("name", [model.name for model in CURRENT if "json_schema" in model.capabilities])
def test_a_strict_schema_is_met(candidates, name):
    assert complete(candidates[name], STRICT)["content"].startswith("{")


def test_a_schema_without_a_backend_for_it_is_no_fault_of_the_model(candidates):
    with pytest.raises(UpstreamModelFailed):
        complete(candidates["openrouter/meta-llama/llama-3.3-70b-instruct:free"], STRICT)


def test_a_small_window_is_not_asked_for_more_than_it_has(simulator):
    model = Model(provider="plain", id="plain-chat", upstream_id="plain-chat", context_window=8192)
    bench = Bench(Adapter, simulator.base_url("plain"), model)
    assert complete(bench.candidate(), REQUESTS["more than the model writes"])["content"] == "echo: Hello"
