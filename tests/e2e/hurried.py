"""The application as gunicorn loads it, but for a limit that is no setting: a whole answer is given 20 s at least."""

from gateway.routing import limits

limits.WHOLE_ANSWER_S = 1.0

from app import app  # noqa: E402, F401
