"""A scripted provider on a raw socket: all seven wire protocols on one port, strict by default, faulty on request.

    with Simulator() as simulator:
        simulator.script("groq", errors.groq_rate_limit(), delay(0.2), cut_after(n_events=3))
        gateway = start_gateway(simulator.env("groq", "cerebras"))
        ...
        assert [call.model for call in simulator.calls("groq")] == [...]

One module a protocol (`groq`, `gemini`, `workers_ai`, `openrouter`, `cerebras`, `voyage_ai`; `openai_api` has what is
common, and `plain`), its quirks at its top. `behaviours` are what can be scripted, `errors` the documented failures,
`mind` what the models say, `wire` the HTTP, `server` the `Simulator`.
"""

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import (
    Answer,
    Behaviour,
    Reply,
    Stream,
    altered,
    close_idle,
    cut_after,
    delay,
    drip,
    empty,
    error_after,
    faithful,
    go_stale,
    hang_up,
    html,
    raw,
    reply,
    reset_after,
    restream,
    stall,
    stall_after,
    stream,
    wrong_length,
)
from tests.e2e.simulator.server import Simulator
from tests.e2e.simulator.wire import Connection, PeerClosed, Request

__all__ = [
    "Answer",
    "Behaviour",
    "Connection",
    "PeerClosed",
    "Reply",
    "Request",
    "Simulator",
    "Stream",
    "altered",
    "close_idle",
    "cut_after",
    "delay",
    "drip",
    "empty",
    "error_after",
    "errors",
    "faithful",
    "go_stale",
    "hang_up",
    "html",
    "raw",
    "reply",
    "reset_after",
    "restream",
    "stall",
    "stall_after",
    "stream",
    "wrong_length",
]
