"""Odd, cut and self-contradicting answers: read where sense can be made of them, told where not."""

import pytest

from gateway.errors import UpstreamFailed, UpstreamGarbled
from gateway.upstream.shape import ChunkShaper, is_empty_stop, reading, repair_completion


def shaper(**options):
    return ChunkShaper(**{"model": "m", "splits_thoughts": False, **options})


def chunk(delta=None, finish=None, index=0, **fields):
    return {"id": "c1", "model": "up", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish, **fields}]}


def finish(shaping, **options):
    return shaping.finish({}, **{"include_usage": False, "prompt_tokens": 0, **options})


def repair(message=None, end="stop", **fields):
    body = {"choices": [{"message": {"content": "Hi"} if message is None else message, "finish_reason": end, **fields}]}
    return repair_completion(body, model="m", splits_thoughts=False)


# --- odd types ---------------------------------------------------------------------------------------------------------


ODD_MESSAGES = [
    {"tool_calls": 5},
    {"tool_calls": {"a": 1}},
    {"tool_calls": ["x"]},
    {"tool_calls": [{"index": 0, "id": "a", "function": "x"}]},
    {"tool_calls": [{"index": 0, "id": "a", "function": {"name": 5, "arguments": "{}"}}]},
    {"tool_calls": [{"index": 0, "id": 5, "function": {"name": "f", "arguments": "{}"}}]},
    {"content": [{"type": "text", "text": 5}]},
]
ODD_ENDS = [{}, {"a": 1}, [], 5, True]


@pytest.mark.parametrize("message", ODD_MESSAGES)
def test_odd_pieces_are_garbled(message):
    shaping = shaper()
    assert shaping.feed_all([chunk(message)]) == [] and isinstance(shaping.error, UpstreamGarbled)
    assert not shaping.begun and not shaping.finished
    with pytest.raises(UpstreamGarbled):
        repair(message)


@pytest.mark.parametrize("end", ODD_ENDS)
def test_an_end_that_is_no_word_is_garbled(end):
    shaping = shaper()
    shaping.feed_all([chunk({}, end)])
    assert isinstance(shaping.error, UpstreamGarbled) and not shaping.finished
    with pytest.raises(UpstreamGarbled):
        repair(end=end)


@pytest.mark.parametrize(
    "raw", [{"choices": 5}, {"choices": ["x"]}, {"choices": [{"message": "x"}]}, {"choices": [{"delta": 5}]}]
)
def test_chunks_that_are_none_are_garbled(raw):
    shaping = shaper()
    shaping.feed_all([raw])
    assert isinstance(shaping.error, UpstreamGarbled)


def test_a_name_of_another_type_does_not_hurt():
    shaping = shaper()
    head = {"id": 5, "model": 7, "created": "now", "choices": [{"index": None, "delta": {"content": "a"}}]}
    (sent,) = shaping.feed_all([head])
    assert sent["id"].startswith("chatcmpl-") and sent["model"] == "m" and sent["created"] > 0
    assert sent["choices"][0]["index"] == 0
    body = repair_completion(
        {"id": 5, "model": 7, "created": 1e300, "choices": [{"index": None, "message": {"content": "a"}}]},
        model="m",
        splits_thoughts=False,
    )
    assert body["id"].startswith("chatcmpl-") and body["model"] == "m" and body["created"] < 1e11
    assert body["choices"][0]["index"] == 0


@pytest.mark.parametrize("error", [AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError])
def test_reading_turns_what_odd_types_raise_into_a_garbled_answer(error):
    with pytest.raises(UpstreamGarbled) as raised, reading():
        raise error("a secret")
    assert isinstance(raised.value.__cause__, error) and "secret" not in raised.value.message


def test_reading_lets_everything_else_through():
    for error in (UpstreamFailed("x"), RuntimeError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), reading():
            raise error


def test_what_stands_before_an_odd_chunk_is_shaped():
    shaping = shaper()
    sent = shaping.feed_all([chunk({"content": "a"}), chunk({"tool_calls": 5}), chunk({"content": "b"})])
    assert [part["choices"][0]["delta"]["content"] for part in sent] == ["a"]
    assert shaping.begun and shaping.error is not None


@pytest.mark.parametrize(
    "odd", [chunk({"content": "a"}, {}), chunk({"content": "a"}, "abort"), chunk({"content": "a", "tool_calls": 5})]
)
def test_what_was_lost_with_an_odd_chunk_did_not_begin_the_answer(odd):
    shaping = shaper()
    assert shaping.feed_all([odd]) == [] and shaping.error is not None and not shaping.begun


# --- ends --------------------------------------------------------------------------------------------------------------


ENDS = [
    *[(word, "stop") for word in ("stop", "STOP", "eos", "EOS_TOKEN", "end_turn", "stop_sequence", "completed", " Stop ")],
    *[(word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "incomplete")],
    *[(word, "content_filter") for word in ("content_filter", "SAFETY", "recitation", "content_filtered", "PROHIBITED_CONTENT")],
    ("something new", "length"),
]


@pytest.mark.parametrize(("word", "reason"), ENDS)
def test_every_provider_s_word_for_an_end_becomes_openai_s(word, reason):
    shaping = shaper()
    shaping.feed_all([chunk({"content": "a"}), chunk({}, word)])
    assert shaping.finished and finish(shaping)[-1]["choices"][0]["finish_reason"] == reason
    assert repair(end=word)["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("word", ["abort", "Aborted", "cancelled", "error", "insufficient_system_resource"])
def test_an_end_that_says_it_broke_off_is_a_failure(word):
    shaping = shaper()
    assert shaping.feed_all([chunk({"content": "a"}), chunk({}, word)])
    assert isinstance(shaping.error, UpstreamFailed) and not shaping.finished
    with pytest.raises(UpstreamFailed):
        repair(end=word)


@pytest.mark.parametrize("word", [None, "", "null", "FINISH_REASON_UNSPECIFIED"])
def test_an_answer_that_goes_on_has_no_end(word):
    shaping = shaper()
    shaping.feed_all([chunk({"content": "a"}, word)])
    assert not shaping.finished and not shaping.ended and shaping.finish_reason is None


@pytest.mark.parametrize("word", ["stop", "eos", "tool_calls", "function_call"])
def test_an_end_with_nothing_before_it_is_an_empty_stop(word):
    shaping = shaper()
    shaping.feed_all([chunk({"role": "assistant", "content": ""}), chunk({}, word)])
    assert not shaping.begun and shaping.finish_reason == "stop"
    assert is_empty_stop(repair({"content": ""}, word))


@pytest.mark.parametrize("word", ["length", "content_filter", "SAFETY"])
def test_an_empty_answer_that_ended_otherwise_is_none(word):
    shaping = shaper()
    shaping.feed_all([chunk({}, word)])
    assert shaping.finish_reason != "stop" and not is_empty_stop(repair({"content": ""}, word))


@pytest.mark.parametrize("word", ["stop", "tool_calls", "tool_use", "function_call"])
def test_calls_that_were_sent_are_named_in_the_end(word):
    calls = [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{}"}}]
    shaping = shaper()
    shaping.feed_all([chunk({}, word), chunk({"tool_calls": calls})])  # also where they come after it
    assert finish(shaping)[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert repair({"tool_calls": calls}, word)["choices"][0]["finish_reason"] == "tool_calls"


def test_a_legacy_call_keeps_its_end():
    call = {"function_call": {"name": "f", "arguments": "{}"}}
    shaping = shaper()
    (sent,) = shaping.feed_all([chunk(call, "function_call")])
    assert sent["choices"][0]["delta"] == {"role": "assistant", **call} and shaping.begun
    assert shaping.finish_reason == "function_call"
    body = repair({"content": None, **call}, "function_call")
    assert body["choices"][0]["finish_reason"] == "function_call" and not is_empty_stop(body)


# --- tool calls --------------------------------------------------------------------------------------------------------


NAMELESS = {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": '{"q":1}'}}]}


def test_a_call_whose_name_never_comes_is_garbled():
    shaping = shaper()
    assert shaping.feed_all([chunk(NAMELESS)]) == [] and shaping.error is None
    shaping.feed_all([chunk({}, "tool_calls")])
    assert isinstance(shaping.error, UpstreamGarbled) and not shaping.finished
    with pytest.raises(UpstreamGarbled):
        repair(NAMELESS)


def test_a_nameless_call_after_the_end_is_garbled_too():
    shaping = shaper()
    shaping.feed_all([chunk({"content": "a"}, "stop"), chunk(NAMELESS)])
    with pytest.raises(UpstreamGarbled):
        finish(shaping)


def test_a_call_that_was_cut_is_not_made_to_look_whole():
    shaping = shaper()
    shaping.feed_all([chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}), chunk({}, "length")])
    assert finish(shaping)[0]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]


# --- finish reasons before the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "b"},
        {"content": "<thi"},
        {"reasoning": "hm"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]},
    ],
)
def test_an_answer_that_goes_on_after_its_finish_reason_is_not_finished(delta):
    shaping = shaper(splits_thoughts=True)
    shaping.feed_all([chunk({"content": "a"}, "length"), chunk(delta)])
    assert not shaping.finished and shaping.ended and shaping.finish_reason == "length"
    shaping.feed_all([chunk(delta, "length")])
    assert not shaping.finished  # it was early before
    shaping.feed_all([chunk({}, "length")])
    assert shaping.finished


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"role": "assistant", "content": None}, {"annotations": [1]}])
def test_notes_after_the_finish_reason_change_nothing(delta):
    shaping = shaper()
    shaping.feed_all([chunk({"content": "a"}, "stop"), chunk(delta)])
    assert shaping.finished


# --- several choices ---------------------------------------------------------------------------------------------------


def test_a_stream_is_finished_when_all_choices_that_were_asked_for_have_ended():
    shaping = shaper(choices=2)
    shaping.feed_all([chunk({"content": "a"}), chunk({}, "stop")])
    assert not shaping.finished and shaping.ended  # enough if the stream is over: some servers ignore `n`
    shaping.feed_all([chunk({"content": "b"}, index=1)])
    assert not shaping.finished and not shaping.ended
    shaping.feed_all([chunk({}, "length", index=1)])
    assert shaping.finished and shaping.finish_reason == "length"


def test_a_choice_that_nobody_asked_for_is_waited_for_once_it_has_begun():
    shaping = shaper()
    shaping.feed_all([chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1)])
    assert not shaping.finished


# --- deltas by other names, and notes ----------------------------------------------------------------------------------


def test_a_message_or_text_in_place_of_a_delta_is_one():
    for stand_in in ({"message": {"role": "assistant", "content": "a"}}, {"text": "a"}):
        shaping = shaper()
        (sent,) = shaping.feed_all([{"choices": [{"index": 0, **stand_in, "finish_reason": "stop"}]}])
        assert sent["choices"][0]["delta"] == {"role": "assistant", "content": "a"} and shaping.finished


def test_a_message_after_a_delta_that_said_nothing_is_one():
    shaping = shaper()
    whole = {"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    (sent,) = shaping.feed_all([chunk({"role": "assistant", "content": ""}), whole])
    assert sent["choices"][0]["delta"]["content"] == "ab"


def test_a_message_after_deltas_repeats_them_and_is_left_out():
    shaping = shaper()
    whole = {"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    assert len(shaping.feed_all([chunk({"content": "a"}), chunk({"content": "b"}), whole])) == 2


@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content", "refusal", "audio", "images"])
def test_what_a_client_can_use_begins_the_answer(name):
    shaping = shaper()
    shaping.feed_all([chunk({name: "a"})])
    assert shaping.begun
    other = "content" if name == "reasoning" else name
    assert not is_empty_stop(repair({"content": None, other: "a"}))


@pytest.mark.parametrize("delta", [{"role": "assistant", "name": "bot"}, {"annotations": [1]}, {"reasoning": {"text": "a"}}])
def test_notes_do_not_begin_it(delta):
    shaping = shaper()
    shaping.feed_all([chunk(delta, logprobs={"content": [1]})])
    assert not shaping.begun and shaping.error is None


def test_fields_that_the_gateway_does_not_know_are_kept():
    shaping = shaper()
    first = {**chunk({"content": "a", "mark": 1}, stop_reason=None, seat=3), "service_tier": "x", "empty": []}
    silent = {**chunk({}), "citations": ["u"]}
    last = {**chunk({}, "stop", stop_reason=7), "cost": 0}
    sent = [*shaping.feed_all([first, silent, chunk({"content": "b"}), last]), *finish(shaping)]
    assert sent[0]["service_tier"] == "x" and "empty" not in sent[0]
    assert sent[0]["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": "a", "mark": 1},
        "finish_reason": None,
        "seat": 3,
    }
    assert sent[1]["citations"] == ["u"] and "service_tier" not in sent[1]
    assert sent[2]["cost"] == 0 and sent[2]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 7}


def test_notes_do_not_replace_what_the_gateway_says():
    shaping = shaper()
    (sent,) = shaping.feed_all([{**chunk({"content": "a"}), "x_gateway": "forged", "error": None, "object": "other"}])
    assert "x_gateway" not in sent and "error" not in sent and sent["object"] == "chat.completion.chunk"


LOGPROBS = {"content": [{"token": "", "logprob": -1.0}], "refusal": None}


def test_logprobs_without_content_are_kept():
    shaping = shaper()
    sent = shaping.feed_all([chunk({"content": ""}, logprobs=LOGPROBS), chunk({"content": "a"}, logprobs=LOGPROBS), chunk({})])
    assert [part["choices"][0]["logprobs"] for part in sent] == [LOGPROBS] * 2
    assert [part["choices"][0]["delta"] for part in sent] == [{"role": "assistant", "content": ""}, {"content": "a"}]


@pytest.mark.parametrize("logprobs", [None, {}, {"content": [], "refusal": None}, []])
def test_empty_logprobs_send_no_chunk(logprobs):
    assert shaper().feed_all([chunk({}, logprobs=logprobs)]) == []


def test_what_was_held_back_comes_before_the_chunk_with_the_end_and_counts():
    shaping = shaper(splits_thoughts=True)
    assert shaping.feed_all([chunk({"content": "<thi"}, "stop")]) == []
    sent = finish(shaping, include_usage=True)
    assert [choice["delta"] for part in sent for choice in part["choices"]] == [{"role": "assistant", "content": "<thi"}, {}]
    assert sent[-1]["usage"]["completion_tokens"] == 1
