import pytest

from gateway.analytics.series import DAYS, MINUTES, TTFT_GROWTH, day_key, from_day_key, ttft_field, ttft_median

DAY_S = 86400


@pytest.mark.parametrize("at", [0, 20_000 * DAY_S, 20_000 * DAY_S + 0.5, 20_001 * DAY_S - 0.001])
def test_a_day_is_one_of_utc(at):
    assert DAYS.slot_of(at) == at // DAY_S


def test_a_period_is_kept_while_it_can_be_asked_for():
    assert DAYS.keep_until(20_000) == (20_000 + DAYS.kept) * DAY_S  # the end of the last day that shows it
    assert MINUTES.keep_until(7) == (7 + MINUTES.kept) * 60


@pytest.mark.parametrize(("key", "upstream"), [("alice", "groq/a/b"), ("alice", ""), ("", "")])
def test_the_key_of_a_day_holds_who_asked_and_who_served(key, upstream):
    assert from_day_key(day_key(key, upstream)) == (key, upstream)


def histogram(times):
    amounts = {"requests": float(len(times))}
    for time_ms in times:
        amounts[ttft_field(time_ms)] = amounts.get(ttft_field(time_ms), 0) + 1
    return amounts


@pytest.mark.parametrize(
    ("times", "median"),
    [
        ([250.0], 250.0),
        ([100.0, 200.0, 90_000.0], 200.0),
        ([5.0] * 60 + [9000.0] * 40, 5.0),
        ([5.0] * 40 + [9000.0] * 60, 9000.0),
        ([0.0, 0.2, 1.0], 1.0),  # a millisecond is as short as it gets
        ([1_700_000.0], 1_700_000.0),
    ],
)
def test_a_median_is_right_within_a_bucket(times, median):
    assert ttft_median(histogram(times)) == pytest.approx(median, rel=TTFT_GROWTH - 1)


def test_without_a_time_there_is_no_median():
    assert ttft_median({"requests": 4.0}) is None and ttft_median({}) is None
