"""The application as gunicorn loads it, but for how long it waits for clients: no setting, and too long for tests."""

from gateway import pace

pace.READ_SILENCE_S = pace.WRITE_SILENCE_S = 1.0
pace.GRACE_S = 2.0

from app import app  # noqa: E402, F401
