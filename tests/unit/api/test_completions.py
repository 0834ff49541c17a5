"""Legacy completions over the sandbox, in this process."""

from __future__ import annotations

import json

import pytest

from gateway.api.schemas import load_completion
from gateway.errors import InvalidRequest


def load(**fields):
    return load_completion({"prompt": "Say hello", **fields}, {})


def test_a_prompt_is_what_the_user_says():
    for prompt in ("Say hello", ["Say hello"]):
        chat, echo = load(prompt=prompt, model="m", max_tokens=7, temperature=0.5, n=2, stop=["x"], seed=3, user="u", echo=False)
        assert chat.messages == [{"role": "user", "content": "Say hello"}] and echo == ""
        assert chat.body.items() >= {"temperature": 0.5, "n": 2, "stop": ["x"], "seed": 3, "user": "u"}.items()
        assert (chat.choice.names, chat.max_output_tokens, chat.dropped) == (("m",), 7, ())


def test_the_prompt_is_repeated_where_it_is_asked_for():
    assert load(echo=True).echo == "Say hello"


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": 0}, {"logprobs": True, "top_logprobs": 0}),
        ({"logprobs": None, "suffix": None, "best_of": None}, {}),
        ({"suffix": ""}, {}),
        ({"messages": [{"role": "user", "content": "other"}], "input": "other"}, {}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
    ],
)
def test_the_rest_is_a_chats(fields, left):
    chat, _ = load(**fields)
    assert chat.body == {"messages": [{"role": "user", "content": "Say hello"}], **left}


@pytest.mark.parametrize(
    ("fields", "dropped"), [({"best_of": 3}, ("best_of",)), ({"best_of": 2, "n": 2}, ()), ({"best_of": 1}, ())]
)
def test_the_best_of_several_is_not_chosen_and_that_is_told(fields, dropped):
    assert load(**fields).chat.dropped == dropped


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_field"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": {}}, "prompt", "invalid_value"),
        ({"prompt": ["a", "b"]}, "prompt", "unsupported_feature"),
        ({"prompt": [1, 2]}, "prompt", "invalid_value"),
        ({"prompt": [[1, 2]]}, "prompt", "invalid_value"),
        ({"prompt": [[1, 2], [3]]}, "prompt", "unsupported_feature"),
        ({"suffix": "end"}, "suffix", "unsupported_feature"),
        ({"logprobs": True}, "logprobs", "invalid_value"),
        ({"logprobs": 21}, "logprobs", "invalid_value"),
        ({"echo": 1}, "echo", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
    ],
)
def test_a_wrong_field_is_named(fields, param, code):
    with pytest.raises(InvalidRequest) as caught:
        load(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)


ECHO = {"model": "sandbox/echo", "prompt": "Say hello"}


def test_a_whole_answer(application):
    answer = application.post("/v1/completions", ECHO)
    assert answer.json["object"] == "text_completion" and "Say hello" in answer.json["choices"][0]["text"]
    assert answer.json["x_gateway"]["model"] == answer.headers["x-gateway-model"] == "sandbox/echo"
    assert answer.json["usage"]["total_tokens"] > 0


def test_a_streamed_answer(application):
    body = {**ECHO, "stream": True, "echo": True, "n": 2, "stream_options": {"include_usage": True}}
    events = application.post("/v1/completions", body).text.strip().split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    whole = application.post("/v1/completions", {**ECHO, "echo": True, "n": 2}).json
    texts = ["".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == index) for index in (0, 1)]
    assert texts == [choice["text"] for choice in whole["choices"]] and texts[0].startswith("Say helloThis is")
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"] and events[-1] == "data: [DONE]"


def test_an_error_has_the_usual_envelope(application):
    answer = application.post("/v1/completions", {**ECHO, "model": "sandbox/error"})
    assert (answer.status_code, answer.json["error"]["code"]) == (502, "upstream_error")
    broken = application.post("/v1/completions", {**ECHO, "model": "sandbox/cut", "stream": True}).text.strip().split("\n\n")
    assert "error" in json.loads(broken[-2].removeprefix("data: ")) and broken[-1] == "data: [DONE]"


def test_what_is_left_out_is_named(application):
    assert application.post("/v1/completions", {**ECHO, "best_of": 3}).headers["x-gateway-params-dropped"] == "best_of"
