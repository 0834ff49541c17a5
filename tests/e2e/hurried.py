"""The application as gunicorn loads it, but for limits that are no settings, and too long for tests."""

from gateway import pace
from gateway.routing import limits

limits.WHOLE_ANSWER_S = 1.0
pace.READ_SILENCE_S = pace.WRITE_SILENCE_S = 1.0
pace.GRACE_S = 2.0

from app import app  # noqa: E402, F401
