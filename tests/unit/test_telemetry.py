import json
import logging

import pytest

from gateway.logs import Formatter


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
