"""Trying a credential."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.cli.check import Trial
from gateway.domain import Credential, ProviderRow
from gateway.errors import UpstreamModelGone, UpstreamTimeout
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


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        (None, "nothing at http://p/models (status 404): does base_url end in /v1?"),
        ("P_BASE_URL", "nothing there (status 404): does P_BASE_URL end as in http://built-in/v1?"),
    ],
)
def test_an_address_that_has_no_list_of_models_is_doubted(variable, told):
    def answer_404(credential, limits, handle):
        raise UpstreamModelGone("404 page not found", upstream_status=404)

    provider = cast(Any, SimpleNamespace(try_credential=answer_404))
    row = ProviderRow(key="p", base_url="http://built-in/v1", base_url_env=variable)
    found = Trial(row, Credential("p", 1, "http://p", ""), provider, Watch(), of=1).finding(time.monotonic() + 9)
    assert (found.state, found.detail) == ("problem", told)
