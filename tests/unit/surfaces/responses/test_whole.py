import pytest

from gateway.surfaces.responses import Responses
from gateway.surfaces.responses.ids import item_in
from tests.responses_judge import judge_response, without_ids
from tests.unit.surfaces.responses.conftest import CREATED, NOW, X_GATEWAY, call, completion

TEXT = {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello."}
MESSAGE = {"type": "message", "status": "completed", "role": "assistant", "content": [TEXT]}
THOUGHTS = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
CALL = {"type": "function_call", "status": "completed", "name": "f", "arguments": "{}"}


def answer(request, body):
    response = Responses(request, clock=lambda: NOW).whole(body)
    judge_response(response)
    return response


@pytest.mark.parametrize(
    ("message", "output"),
    [
        ({"content": "Hello."}, [MESSAGE]),
        ({"content": "Hello.", "reasoning_content": "Hm."}, [THOUGHTS, MESSAGE]),
        ({"refusal": "No."}, [{**MESSAGE, "content": [{"type": "refusal", "refusal": "No."}]}]),
        ({"content": "Hello.", "refusal": "No."}, [{**MESSAGE, "content": [TEXT, {"type": "refusal", "refusal": "No."}]}]),
        ({"content": None, "tool_calls": [call("f", "{}")]}, [CALL]),
        (
            {"content": "Hello.", "tool_calls": [call("f", "{}"), call("f", '{"a":1}')]},
            [MESSAGE, CALL, {**CALL, "arguments": '{"a":1}'}],
        ),
        (
            {"tool_calls": [call("patch", '{"input": "*** Begin"}')]},
            [{"type": "custom_tool_call", "status": "completed", "name": "patch", "input": "*** Begin"}],
        ),
        ({"tool_calls": [call("crm__find", "{}")]}, [{**CALL, "name": "find", "namespace": "crm"}]),
        ({"tool_calls": [call("made_up", "{}")]}, [{**CALL, "name": "made_up"}]),
        ({"content": ""}, [{**MESSAGE, "content": [{**TEXT, "text": ""}]}]),
    ],
    ids=["text", "thoughts", "refusal", "both", "call", "text and calls", "custom", "namespace", "made up", "nothing"],
)
def test_what_a_model_says_becomes_items(wanted, message, output):
    response = answer(wanted(), completion(message))
    assert without_ids(response["output"]) == output
    assert response["status"] == "completed" and response["incomplete_details"] is None


@pytest.mark.parametrize(("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
@pytest.mark.parametrize(
    "message",
    [{"content": "Hel"}, {"content": "Hello.", "tool_calls": [call("f", '{"a')]}, {"reasoning_content": "Hm"}],
    ids=["text", "call", "thoughts"],
)
def test_an_answer_that_was_cut_says_so_and_why(wanted, message, finish_reason, reason):
    response = answer(wanted(), completion(message, finish_reason))
    assert response["status"] == "incomplete" and response["incomplete_details"] == {"reason": reason}
    assert response["completed_at"] is None
    assert [item.get("status") for item in response["output"]][-1] in ("incomplete", None)
    assert all(item.get("status") == "completed" for item in response["output"][:-1])


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, (5, 0, 7, 0, 12)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "total_tokens": 12,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            (5, 3, 7, 4, 12),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 20}, (5, 0, 15, 8, 20)),  # thoughts in the total alone
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "total_tokens": 12,
                "prompt_tokens_details": None,
                "completion_tokens_details": {"reasoning_tokens": None},
            },
            (5, 0, 7, 0, 12),
        ),
    ],
    ids=["plain", "in detail", "thoughts untold", "nulls"],
)
def test_usage_is_told_in_the_words_of_this_api(wanted, usage, told):
    usage = answer(wanted(), completion({"content": "x"}, usage=usage))["usage"]
    read, thoughts = usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]["reasoning_tokens"]
    assert (usage["input_tokens"], read, usage["output_tokens"], thoughts, usage["total_tokens"]) == told


def test_the_response_is_named_dated_and_marked(wanted):
    response = answer(wanted(), completion({"content": "x"}))
    assert response["id"].startswith("resp_") and response["object"] == "response"
    assert (response["created_at"], response["completed_at"], response["model"]) == (CREATED, int(NOW), "m")
    assert response["x_gateway"] == X_GATEWAY and response["store"] is False


def test_probabilities_are_passed_on(wanted):
    token = {"token": "é", "bytes": None, "logprob": -0.1, "top_logprobs": [{"token": "e", "logprob": -2.0, "bytes": [101]}]}
    response = answer(wanted(), completion({"content": "é"}, logprobs={"content": [token]}))
    other = {"token": "e", "bytes": [101], "logprob": -2.0}
    assert response["output"][0]["content"][0]["logprobs"] == [
        {"token": "é", "bytes": [0xC3, 0xA9], "logprob": -0.1, "top_logprobs": [other]}
    ]


def test_items_are_carried_in_their_ids_where_a_client_may_refer_to_them(wanted):
    body = completion({"content": "Hello.", "tool_calls": [call("patch", '{"input": "x"}')]})
    message, custom = answer(wanted(store=None), body)["output"]
    assert item_in(message["id"]) == {"type": "message", "role": "assistant", "content": "Hello."}
    assert item_in(custom["id"]) == {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "x"}
    assert all(item_in(item["id"]) is None for item in answer(wanted(store=False), body)["output"])
