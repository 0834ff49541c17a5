"""Durations, dates and sentences that tell when to come back."""

from __future__ import annotations

import pytest

from gateway.upstream.hints import MAX_HINT_S, parse_duration, read_retry_after, seconds_until, seconds_until_utc_midnight

NOW = 1_795_300_000.0  # Sat, 21 Nov 2026 22:26:40 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("9m38.016s", 578.016),
        ("1h12m3s", 4323),
        ("560ms", 0.56),
        ("1d", 86400),
        ("36893s", 36893),
        ("2 minutes", 120),
        ("1 hour, 30 minutes", 5400),
        ("20sec", 20),
        ("5 SECONDS", 5),
        ("250 milliseconds", 0.25),
        (" 12 ", 12),
        ("33011.382867", 33011.382867),
        ("0", 0),
        ("-5", 0),
        ("99999999", MAX_HINT_S),
        ("5 messages", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_durations_are_read_in_every_grammar(text, seconds):
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"retry-after": "2"}, "", 2),
        ({"retry-after": "2.5"}, "", 2.5),
        ({"retry-after": "Sat, 21 Nov 2026 22:27:10 GMT"}, "", 30),
        ({"retry-after": "Sat, 21 Nov 2026 22:27:10 -0000"}, "", 30),
        ({"retry-after": "Sat, 21 Nov 2026 22:00:00 GMT"}, "", 0),
        # Clocks disagree: the provider's own date tells how far away the moment is.
        ({"retry-after": "Sat, 21 Nov 2026 23:27:10 GMT", "date": "Sat, 21 Nov 2026 23:26:40 GMT"}, "", 30),
        ({"retry-after": "Sat, 21 Nov 2026 21:27:10 GMT", "date": "Sat, 21 Nov 2026 21:26:40 GMT"}, "", 30),
        ({"retry-after": "Sat, 21 Nov 2026 22:27:10 GMT", "date": "today"}, "", 30),
        ({"retry-after": "Sat, 99 Nov 2026 22:27:10 GMT", "date": "Sat, 21 Nov 2026 21:26:40 GMT"}, "", None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, "", 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, "", 2),
        ({"retry-after": "7"}, "Please try again in 9s", 7),
        ({"retry-after": "later"}, "Please try again in 9s", 9),
        ({}, "Please try again in 9m38.016s. Need more tokens? Upgrade", 578.016),
        ({}, "Rate limited. try again in 5.289s", 5.289),
        ({}, "Please retry in 20.2s.", 20.2),
        ({}, "Please retry after 26 seconds.", 26),
        ({}, "Retry your request in 3 minutes", 180),
        ({}, "Try again later", None),
        ({}, "Try again in 5 messages", None),
        ({}, "", None),
    ],
)
def test_headers_come_before_the_text(headers, text, seconds):
    assert read_retry_after(headers, text, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("epoch", "seconds"),
    [("1795300060", 60), ("1795300060000", 60), ("1795300060500", 60.5), ("1795299000", 0), ("", None), ("never", None)],
)
def test_a_moment_may_be_in_seconds_or_milliseconds(epoch, seconds):
    assert seconds_until(epoch, NOW) == seconds


def test_a_utc_day_ends_at_midnight():
    assert seconds_until_utc_midnight(NOW) == 5600
    assert seconds_until_utc_midnight(NOW + 5600) == 86400
