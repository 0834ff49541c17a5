"""When to come back, as providers say it: headers, texts, durations in several grammars. Pure.

Grammar of `Retry-After`: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after (seconds or a date); providers add
`retry-after-ms`, decimal seconds, and sentences like "Please try again in 9m38.016s".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

MAX_HINT_S = 31 * 86400.0  # beyond any quota window of any provider: more is a mistake
DAY_S = 86400.0
_PACIFIC = ZoneInfo("America/Los_Angeles")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PIECE = re.compile(
    r"(\d+(?:\.\d+)?) ?(ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hours?|d|days?)(?![a-z])", re.IGNORECASE
)
_DURATION = re.compile(rf"{_PIECE.pattern}(?:,? ?{_PIECE.pattern})*", re.IGNORECASE)
_SENTENCE = re.compile(rf"(?:try again|retry)(?: your request)? (?:in|after)\s+({_DURATION.pattern})", re.IGNORECASE)
_EPOCH_MS = 100_000_000_000  # as seconds it would be the year 5138, as milliseconds it is 1973


def parse_duration(text: str) -> float | None:
    """Return seconds of `7.66s`, `2m59.56s`, `560ms`, `1h12m3s`, `2 minutes`, or a bare number; None for anything else."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return _bounded(sum(float(number) * _seconds_of(unit) for number, unit in _PIECE.findall(text)))
    try:
        return _bounded(float(text))
    except ValueError:
        return None


def read_retry_after(headers: Mapping[str, str], text: str, now: float) -> float | None:
    """Return the seconds to wait that an answer names, the headers before the text; None where it names none.

    `headers` in any case of letters if the mapping ignores case, else in lower case. `now`: epoch seconds, for a date
    where the answer does not tell its own (`Date`): what counts is how far they are apart, on the provider's clock.
    """
    milliseconds = headers.get("retry-after-ms")
    if milliseconds and (parsed := parse_duration(milliseconds)) is not None:
        return parsed / 1000
    header = headers.get("retry-after")
    if header:
        seconds = parse_duration(header)
        seconds = seconds if seconds is not None else _seconds_until_date(header, headers.get("date", ""), now)
        if seconds is not None:
            return seconds
    sentence = _SENTENCE.search(text)
    return parse_duration(sentence[1]) if sentence else None


def seconds_until(epoch: str, now: float) -> float | None:
    """Return the seconds until a moment in epoch seconds or milliseconds, 0 if it has passed; None if it is no number."""
    try:
        moment = float(epoch)
    except ValueError:
        return None
    return _bounded((moment / 1000 if moment > _EPOCH_MS else moment) - now)


def seconds_until_utc_midnight(now: float) -> float:
    """Return the seconds until the next UTC day begins."""
    return DAY_S - now % DAY_S


def seconds_until_pacific_midnight(now: float) -> float:
    """Return the seconds until the next day begins in California; days of 23 and 25 hours are counted as they are."""
    today = datetime.fromtimestamp(now, _PACIFIC).date()
    midnight = datetime.combine(today + timedelta(days=1), datetime.min.time(), _PACIFIC)
    return midnight.timestamp() - now


def _seconds_of(unit: str) -> float:
    unit = unit.lower()
    return _UNITS["ms" if unit.startswith(("ms", "mil")) else unit[0]]


def _seconds_until_date(date: str, said_at: str, now: float) -> float | None:
    moment, said = _moment_of(date), _moment_of(said_at)
    return None if moment is None else _bounded(moment - (now if said is None else said))


def _moment_of(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _bounded(seconds: float) -> float | None:
    return min(max(0.0, seconds), MAX_HINT_S) if math.isfinite(seconds) else None
