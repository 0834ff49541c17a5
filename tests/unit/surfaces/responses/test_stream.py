import random
from itertools import pairwise

import pytest

from gateway.errors import ClientRateLimited, Draining, InternalError, StreamBroken, UpstreamTimeout
from gateway.surfaces.responses import Responses
from gateway.surfaces.responses.ids import item_in
from gateway.surfaces.responses.parts import MOST_HELD_CHARS
from tests.responses_judge import judge_response, judge_stream, output_of, read_events, without_ids
from tests.unit.surfaces.responses.conftest import NOW, X_GATEWAY, call, chunk, completion, last_chunks


def stream(request, chunks, finish_reason="stop"):
    """Return the judged events of a stream that arrives chunk by chunk and ends well."""
    form = Responses(request, clock=lambda: NOW).form()
    raw = b"".join(form.chunks([one]) for one in chunks) + form.chunks(last_chunks(finish_reason)) + form.end()
    return judge_stream(raw)


def types_of(events):
    """The types of events, without their common prefix; repeated ones once."""
    types = [event["type"].removeprefix("response.") for event in events]
    return [type_ for number, type_ in enumerate(types) if number == 0 or type_ != types[number - 1]]


def words(*texts, field="content"):
    return [chunk({field: text}) for text in texts]


def pieces(name, *arguments, number=0, id_="call_1"):
    """The chunks of a call whose arguments come in these pieces."""
    first = {"index": number, "id": id_, "type": "function", "function": {"name": name, "arguments": arguments[0]}}
    rest = [{"index": number, "function": {"arguments": piece}} for piece in arguments[1:]]
    return [chunk({"tool_calls": [piece]}) for piece in (first, *rest)]


# --- what a model says -------------------------------------------------------------------------------------------------

BEGIN = ["created", "in_progress"]
ITEM = ["output_item.added", "output_item.done"]
MESSAGE = [
    *("output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
    "output_item.done",
]
REASONING = [
    *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done"),
    *("reasoning_summary_part.done", "output_item.done"),
]
CALL = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
CUSTOM = ["output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done"]
REFUSAL = ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"]

ANSWERS = {
    "text": (words("Hel", "lo."), {"content": "Hello."}, MESSAGE),
    "text in one chunk with the role": ([chunk({"role": "assistant", "content": "Hello."})], {"content": "Hello."}, MESSAGE),
    "thoughts and text": (
        [*words("H", "m.", field="reasoning_content"), *words("Hello.")],
        {"content": "Hello.", "reasoning_content": "Hm."},
        [*REASONING, *MESSAGE],
    ),
    "thoughts and text in one chunk": (
        [chunk({"reasoning_content": "Hm.", "content": "Hello."})],
        {"content": "Hello.", "reasoning_content": "Hm."},
        [*REASONING, *MESSAGE],
    ),
    "refusal": (
        words("N", "o.", field="refusal"),
        {"refusal": "No."},
        ["output_item.added", *REFUSAL, "output_item.done"],
    ),
    "text, then a refusal": (
        [*words("Well. "), *words("No.", field="refusal")],
        {"content": "Well. ", "refusal": "No."},
        [*MESSAGE[:-1], *REFUSAL, "output_item.done"],
    ),
    "call": (pieces("f", "", '{"a"', ":1}"), {"tool_calls": [call("f", '{"a":1}')]}, CALL),
    "text and calls": (
        [*words("Well."), *pieces("f", '{"a":', "1}"), *pieces("f", "{}", number=1, id_="call_2")],
        {"content": "Well.", "tool_calls": [call("f", '{"a":1}'), call("f", "{}", "call_2")]},
        [*MESSAGE, *CALL, *CALL],
    ),
    "calls in one chunk": (
        [
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "f", "arguments": "[1]"}},
                    ]
                }
            )
        ],
        {"tool_calls": [call("f", "{}"), call("f", "[1]", "call_2")]},
        [*CALL, *CALL],
    ),
    "custom call": (
        pieces("patch", '{"in', 'put": "*** Be', "gin\\", 'n"', "}"),
        {"tool_calls": [call("patch", '{"input": "*** Begin\\n"}')]},
        CUSTOM,
    ),
    "custom call without JSON": (
        pieces("patch", "*** Be", "gin"),
        {"tool_calls": [call("patch", "*** Begin")]},
        CUSTOM,
    ),
    "custom call without input": (
        pieces("patch", '{"input": ""}'),
        {"tool_calls": [call("patch", '{"input": ""}')]},
        [CUSTOM[0], *CUSTOM[2:]],
    ),
    "call in a namespace": (pieces("crm__find", "{}"), {"tool_calls": [call("crm__find", "{}")]}, CALL),
    "nothing": ([], {"content": ""}, [name for name in MESSAGE if name != "output_text.delta"]),
    "thoughts alone": (words("Hm.", field="reasoning_content"), {"reasoning_content": "Hm."}, REASONING),
}


@pytest.mark.parametrize("store", [False, None], ids=["", "carried"])
@pytest.mark.parametrize(("chunks", "message", "types"), ANSWERS.values(), ids=list(ANSWERS))
def test_a_stream_says_what_the_whole_answer_says(wanted, chunks, message, types, store):
    request = wanted(store=store)
    events = stream(request, chunks)
    assert types_of(events) == [*BEGIN, *types, "completed"]
    whole = Responses(request, clock=lambda: NOW).whole(completion(message))
    judge_response(whole)
    streamed = events[-1]["response"]
    assert without_ids(output_of(events)) == without_ids(whole["output"])
    assert {k: v for k, v in streamed.items() if k not in ("id", "output")} == {
        k: v for k, v in whole.items() if k not in ("id", "output")
    }


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_how_chunks_arrive_changes_nothing_but_the_writes(wanted, size):
    chunks = [*words("H", "m.", field="reasoning_content"), *words("Hel", "lo."), *pieces("f", "{", "}"), *last_chunks()]
    form = Responses(wanted(), clock=lambda: NOW).form()
    raw = b"".join(form.chunks(chunks[start : start + size]) for start in range(0, len(chunks), size)) + form.end()
    assert types_of(judge_stream(raw)) == [*BEGIN, *REASONING, *MESSAGE, *CALL, "completed"]


def test_each_piece_leaves_with_its_chunk(wanted):
    form = Responses(wanted()).form()
    seen = [list(read_events(form.chunks([one]))) for one in [*words("a", "b"), *pieces("f", '{"a"', ":1}")]]
    assert [[event["delta"] for event in events if "delta" in event] for events in seen] == [["a"], ["b"], ['{"a"'], [":1}"]]


def test_the_second_choice_is_nobodys(wanted):
    other = chunk({"content": "other"})
    other["choices"][0]["index"] = 1
    events = stream(wanted(), [*words("one"), other])
    assert [event["delta"] for event in events if "delta" in event] == ["one"]


def test_probabilities_come_with_their_text(wanted):
    other = {"token": "b", "logprob": -3.0}
    token = {"token": "a", "logprob": -0.5, "top_logprobs": [other]}
    full = {**token, "bytes": [97], "top_logprobs": [{**other, "bytes": [98]}]}
    events = stream(wanted(), [chunk({"content": "a"}, logprobs={"content": [full]}), *words("b")])
    told = [event["logprobs"] for event in events if "logprobs" in event]
    assert told == [[token], [], [token]]  # of both deltas, and of all the text
    assert output_of(events)[0]["content"][0]["logprobs"] == [full]


@pytest.mark.parametrize(("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_ends_in_incomplete(wanted, finish_reason, reason):
    last = stream(wanted(), [*words("Hel"), *pieces("f", '{"a')], finish_reason)[-1]
    assert last["type"] == "response.incomplete" and last["response"]["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]
    assert last["response"]["usage"]["total_tokens"] == 12 and last["response"]["x_gateway"] == X_GATEWAY


# --- one item at a time ------------------------------------------------------------------------------------------------


def test_calls_that_take_turns_are_written_one_after_the_other(wanted):
    first, second = pieces("f", '{"a":', "1}"), pieces("f", '{"b":', "2}", number=1, id_="call_2")
    events = stream(wanted(), [first[0], second[0], first[1], second[1]])
    assert types_of(events) == [*BEGIN, *CALL, *CALL, "completed"]
    assert [item["arguments"] for item in output_of(events)] == ['{"a":1}', '{"b":2}']


def test_what_comes_amid_a_call_waits_for_it(wanted):
    first, second = pieces("f", '{"a":', "1}")
    events = stream(wanted(), [first, *words("By the way.", " Done."), second])
    assert [item["type"] for item in output_of(events)] == ["function_call", "message"]
    assert output_of(events)[1]["content"][0]["text"] == "By the way. Done."


def test_what_waited_is_written_as_soon_as_it_may(wanted):
    form = Responses(wanted()).form()
    first, second = pieces("f", '{"a":', "1}")
    form.chunks([first, *words("By the way.")])
    told = list(read_events(form.chunks([second])))
    assert [event["delta"] for event in told if "delta" in event] == ["1}", "By the way."]


def test_a_call_that_never_is_whole_keeps_nobody_waiting_for_ever(wanted):
    broken, other = pieces("f", '{"a":'), pieces("f", "{}", number=1, id_="call_2")
    events = stream(wanted(), [*broken, *other, *words("x")])
    assert [item["type"] for item in output_of(events)] == ["function_call", "function_call", "message"]


def test_arguments_that_come_with_the_end_are_the_calls(wanted):
    bare, other = pieces("f", ""), pieces("f", "{}", number=1, id_="call_2")
    late = chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
    events = stream(wanted(), [*bare, *other, late])
    assert [item["arguments"] for item in output_of(events)] == ["{}", "{}"]


def test_what_follows_a_whole_call_that_is_done_is_dropped(wanted):
    late = chunk({"tool_calls": [{"index": 0, "function": {"arguments": " "}}]})
    events = stream(wanted(), [*pieces("f", "{}"), *words("x"), late])
    assert [item["type"] for item in output_of(events)] == ["function_call", "message"]


def cut(text, dice):
    """Return a text in pieces of any size."""
    sizes = [dice.randint(1, max(1, len(text) // 2)) for _ in text]
    ends = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    return [text[start:end] for start, end in pairwise(ends) if text[start:end]]


def mixed(calls, dice):
    """Return the chunks of calls so that any may go on after another has begun; they begin in their order."""
    waiting, begun, out = [list(call) for call in calls], 0, []
    while any(waiting):
        number = dice.choice([n for n, call in enumerate(waiting) if call and n <= begun])
        out.append(waiting[number].pop(0))
        begun = max(begun, number + 1)
    return out


@pytest.mark.parametrize("store", [False, None], ids=["", "carried"])
@pytest.mark.parametrize("seed", range(40))
def test_however_an_answer_is_cut_and_mixed_it_is_the_whole_one(wanted, seed, store):
    dice = random.Random(seed)
    texts = {"reasoning_content": dice.choice(["", "Hm. \u2028"]), "content": dice.choice(["", "Hé \U0001f600"])}
    arguments = [
        "{}",
        '{"a": [1]}',
        '{"input": "a\\n\\ud83d\\ude00"}',
        f'{{"input": "{"x" * (MOST_HELD_CHARS + 1)}"}}',
        "no JSON",
    ]
    made = [(dice.choice(["f", "patch", "crm__find"]), dice.choice(arguments)) for _ in range(dice.randint(0, 3))]
    calls = [call(name, given, f"call_{number}") for number, (name, given) in enumerate(made)]
    said = [chunk({field: piece}) for field, text in texts.items() for piece in cut(text, dice)]
    called = [pieces(name, *cut(given, dice), number=number, id_=f"call_{number}") for number, (name, given) in enumerate(made)]
    events = stream(wanted(store=store), [*said, *mixed(called, dice)])
    whole = Responses(wanted(store=store)).whole(completion({**texts, "tool_calls": calls}))
    assert without_ids(output_of(events)) == without_ids(whole["output"])


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [['{"a":1}'], ['{"a"', ":1}"]], ids=["in one piece", "in several"])
def test_a_call_is_carried_in_its_id(wanted, arguments):
    (item,) = output_of(stream(wanted(store=None), pieces("f", *arguments)))
    assert item_in(item["id"]) == {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}


def test_a_call_that_grows_too_long_is_written_as_it_comes(wanted):
    form = Responses(wanted(store=None)).form()
    long = pieces("f", '{"a": "', "x" * MOST_HELD_CHARS, "y", '"}')
    sent = [len(form.chunks([one])) for one in long]
    assert sent[0] < sent[1] and all(sent[1:])
    assert item_in(next(read_events(form.chunks(last_chunks()) + form.end()))["item_id"]) is None


def test_a_call_that_was_cut_is_carried_in_no_id(wanted):
    (item,) = output_of(stream(wanted(store=None), pieces("f", '{"a'), "length"))
    assert item_in(item["id"]) is None


# --- failures --------------------------------------------------------------------------------------------------------


def broken(request, error, chunks):
    form = Responses(request, clock=lambda: NOW).form()
    return judge_stream(b"".join(form.chunks([one]) for one in chunks) + form.failure(error))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StreamBroken("It broke."), "server_error"),
        (UpstreamTimeout("It was silent.", phase="idle"), "server_error"),
        (Draining("Shutting down.", retry_after_s=1), "server_error"),
        (InternalError("A defect."), "server_error"),
        (ClientRateLimited("Too many."), "rate_limit_exceeded"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_break_ends_in_failed_with_the_error_inside(wanted, error, code):
    last = broken(wanted(), error, words("Hel"))[-1]
    assert last["type"] == "response.failed" and last["response"]["status"] == "failed"
    told = last["response"]["error"]
    assert (told["code"], told["message"], told["type"]) == (code, error.message, error.type)
    assert last["response"]["x_gateway"]["error"] == error.to_body()["error"]


@pytest.mark.parametrize(
    ("chunks", "types"),
    [
        ([], []),
        (words("Hel"), MESSAGE),
        (words("H", field="reasoning_content"), REASONING),
        (pieces("f", '{"a'), CALL),
        (pieces("patch", '{"input": "a'), CUSTOM),
    ],
    ids=["before anything", "in a text", "in thoughts", "in a call", "in a custom call"],
)
@pytest.mark.parametrize("store", [False, None])
def test_what_was_open_is_closed_as_incomplete(wanted, chunks, types, store):
    events = broken(wanted(store=store), StreamBroken("It broke."), chunks)
    assert types_of(events) == [*BEGIN, *types, "failed"]
    assert all(item.get("status") in ("incomplete", None) for item in output_of(events))


def test_a_heartbeat_is_read_over_wherever_it_stands(wanted):
    form = Responses(wanted()).form()
    raw = form.heartbeat + form.chunks(words("a")) + form.heartbeat + form.chunks(last_chunks()) + form.end()
    assert types_of(judge_stream(raw))[-1] == "completed"
