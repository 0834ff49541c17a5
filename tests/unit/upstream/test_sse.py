import json
import time

import pytest

from gateway.upstream.sse import Event, EventParser, EventTooLong, format_data, format_event

LINE_ENDS = [b"\n", b"\r\n", b"\r"]

LINES = [
    b": a comment",
    b"",
    b'data: {"a": 1}',
    b"",
    b"event: error",
    b"id: 7",
    b"retry: 100",
    b"data:no space",
    b"data:  two lines",
    b"",
    b"",
    "data: snow \u2028 man \u2603 \U0001f600".encode(),
    b"",
    b"data",
    b"",
    b"unknown: field",
    b"data: [DONE]",
    b"",
]
EVENTS = [
    Event(b'{"a": 1}'),
    Event(b"no space\n two lines", "error"),
    Event("snow \u2028 man \u2603 \U0001f600".encode()),
    Event(b""),
    Event(b"[DONE]"),
]


def parse(pieces):
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
def test_events_are_the_same_wherever_the_stream_is_cut_in_two(end, begin):
    stream = begin + end.join(LINES) + end
    for offset in range(len(stream) + 1):
        assert parse([stream[:offset], stream[offset:]]) == EVENTS, offset


@pytest.mark.parametrize("end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_events_are_the_same_in_pieces_of_any_size(end, size):
    stream = end.join(LINES) + end
    assert parse(stream[start : start + size] for start in range(0, len(stream), size)) == EVENTS


def test_a_cut_crlf_is_one_line_end_and_not_two():
    assert parse([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]) == [Event(b"a\nb")]


def test_the_end_of_the_stream_completes_an_event_without_its_blank_line():
    assert parse([b"data: a\n\ndata: b"]) == [Event(b"a"), Event(b"b")]


def test_an_event_arrives_with_its_blank_line_and_not_before():
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [Event(b"a")]


def test_a_byte_order_mark_is_skipped():
    stream = b"\xef\xbb\xbfdata: a\n\n"
    assert parse([stream]) == [Event(b"a")]
    assert parse(stream[start : start + 1] for start in range(len(stream))) == [Event(b"a")]


@pytest.mark.parametrize("flood", [b"data: " + b"x" * 200, b"data: xxxxxxxxx\n" * 20], ids=["one line", "many lines"])
def test_an_event_that_never_ends_is_refused(flood):
    with pytest.raises(EventTooLong):
        EventParser(max_event_bytes=100).feed(flood)


def test_what_is_whole_before_an_event_that_is_too_long_is_given_out_first():
    parser = EventParser(max_event_bytes=100)
    assert parser.feed(b"data: a\n\ndata: " + b"x" * 200) == [Event(b"a")]
    with pytest.raises(EventTooLong):
        parser.feed(b"x")


def test_a_huge_event_in_small_reads_takes_linear_time():
    data, parser = b"data: " + b"x" * 4_000_000 + b"\n\n", EventParser()
    began = time.process_time()
    events = [event for start in range(0, len(data), 400) for event in parser.feed(data[start : start + 400])]
    assert [len(event.data) for event in events] == [4_000_000]
    assert time.process_time() - began < 1  # 0.01 s; 5 s where each read copies all that came before


def test_line_separators_are_escaped_in_what_is_sent():
    sent = format_data(json.dumps("a\u2028b\u2029c\u2026d\u0085", ensure_ascii=False).encode())
    assert len(sent.decode().splitlines()) == 2 and json.loads(sent[6:]) == "a\u2028b\u2029c\u2026d\u0085"
    assert b"\\u2028" in sent and "\u2026".encode() in sent


def test_an_event_may_have_a_name():
    sent = format_event("message_stop", '{"text":"a\u2028b"}'.encode())
    assert EventParser().feed(sent) == [Event(b'{"text":"a\\u2028b"}', "message_stop")]
