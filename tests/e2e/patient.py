"""The application as gunicorn loads it, but for how long it waits for its state store: no setting, and too short where tests
run side by side.
"""

from tests.state.patience import have_patience

have_patience()

from app import app  # noqa: E402, F401
