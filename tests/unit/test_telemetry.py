import json
import logging

import pytest

from gateway.domain import Attempt
from gateway.logs import Formatter
from gateway.telemetry import FanOut, LogTelemetry, RequestRecord, Telemetry
from tests.conftest import RecordingTelemetry
from tests.unit.routing.conftest import candidate


def line_of(fields, *, as_json):
    record = logging.LogRecord("gateway", logging.INFO, __file__, 1, "request", (), None)
    record.fields = fields
    return Formatter(as_json=as_json).format(record)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/v1/models?x=1", "/v1/models?x=1"),
        (200, "200"),
        (1.5, "1.5"),
        ("a b", '"a b"'),
        ("", '""'),
        ('a"b', '"a\\"b"'),
        ("x\n12:00:00 error forged status=200", '"x\\n12:00:00 error forged status=200"'),
        ("x\r\x1b[31m", '"x\\r\\u001b[31m"'),
        ("x\u2028y\x85", '"x\\u2028y\\u0085"'),
    ],
)
def test_in_text_no_value_ends_a_line_or_forges_a_field(value, shown):
    line = line_of({"path": value}, as_json=False)
    assert line.endswith(f" path={shown}") and len(line.splitlines()) == 1


def test_in_json_a_line_is_one_object():
    line = json.loads(line_of({"path": "x\n y"}, as_json=True))
    assert line["path"] == "x\n y" and line["level"] == "info" and line["message"] == "request"


def test_an_outage_of_the_state_store_is_two_lines_however_many_calls_it_takes(caplog, monkeypatch):
    monkeypatch.setattr("gateway.telemetry.log", logging.getLogger("outage"))  # that no other test has set up
    telemetry = LogTelemetry()
    with caplog.at_level(logging.INFO, "outage"):
        telemetry.state_went_down("disk full")
        for verb in ("reserve", "reserve", "lease"):
            telemetry.state_failed(verb)
        telemetry.state_came_back(12.345, 3)
    assert telemetry.state_failures == {"reserve": 2, "lease": 1}
    assert [(record.levelname, record.fields) for record in caplog.records] == [
        ("ERROR", {"why": "disk full"}),
        ("WARNING", {"lasted_s": 12.3, "calls_without_it": 3}),
    ]


def test_a_refused_credential_is_an_error_that_names_its_number_and_its_variable_alone(caplog, monkeypatch):
    monkeypatch.setattr("gateway.telemetry.log", logging.getLogger("refused"))
    with caplog.at_level(logging.INFO, "refused"):
        LogTelemetry().credential_refused(candidate("a/m", key=2, credential_env="A_KEY"), "credential")
    (record,) = caplog.records
    told = {"provider": "a", "credential": 2, "variable": "A_KEY", "why": "credential"}
    assert (record.levelname, record.fields) == ("ERROR", told)


@pytest.mark.parametrize(
    ("status", "error", "successful"),
    [
        (200, None, True),
        (200, "upstream_error", False),  # a stream that broke
        (400, "invalid_value", False),
        (429, "quota_exhausted", False),
        (499, None, False),
        (502, "upstream_error", False),
    ],
)
def test_a_request_is_successful_when_it_was_answered_to_the_end(status, error, successful):
    assert RequestRecord("req_1", status=status, error=error).successful is successful


@pytest.mark.parametrize(
    ("served_by", "tried", "upstream"),
    [(None, [], None), ("a/x/y", ["a", "b"], "a/x/y"), (None, ["a", "b"], "b/m")],
)
def test_a_request_that_nobody_served_counts_for_who_was_tried_last(served_by, tried, upstream):
    attempts = [Attempt(provider, "m", "500") for provider in tried]
    assert RequestRecord("req_1", served_by=served_by, attempts=attempts).upstream == upstream


def test_every_part_is_told_of_everything():
    parts = RecordingTelemetry(), Telemetry(), RecordingTelemetry()
    everybody, record = FanOut(*parts), RequestRecord("req_1")
    everybody.request_admitted()
    everybody.stream_began()
    everybody.attempt_ended(candidate("a/one"), "ok", 1.0, rested=True)
    everybody.request_ended(record)
    everybody.credential_refused(candidate("a/one"), "credential")
    everybody.state_failed("write")
    for part in parts[::2]:
        assert isinstance(part, RecordingTelemetry)
        assert (part.admitted, part.streams, part.requests, part.attempts) == (1, 1, [record], [("a/one", "ok")])
        assert part.refused == [candidate("a/one").credential.id] and part.failed_verbs == ["write"]
