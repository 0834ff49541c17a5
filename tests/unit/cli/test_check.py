"""Trying a credential."""

import time
from types import SimpleNamespace
from typing import Any, cast

from gateway.cli.check import Trial
from gateway.domain import Credential, ProviderRow
from gateway.errors import UpstreamTimeout
from gateway.upstream.watch import Watch


def test_a_call_whose_deadline_passes_is_ended():
    def drip(credential, limits, handle):
        handle.arm(0.0)
        ended_by = time.monotonic() + 5
        while time.monotonic() < ended_by:
            if handle.expired:
                raise UpstreamTimeout("late", phase="first_token")
            time.sleep(0.01)

    provider = cast(Any, SimpleNamespace(try_credential=drip))
    row = ProviderRow(key="p", base_url="http://p")
    trial = Trial(row, Credential("p", 1, "http://p", "s"), provider, Watch(), of=1)
    found = trial.finding(time.monotonic() + 9)
    assert found.state == "problem" and "cannot be reached" in found.detail
