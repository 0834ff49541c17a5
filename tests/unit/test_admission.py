import pytest

from gateway.admission import Gate
from gateway.errors import GatewayBusy


def test_a_gate_lets_in_as_many_as_it_has_places():
    gate = Gate(2)
    gate.enter()
    gate.enter()
    with pytest.raises(GatewayBusy) as raised:
        gate.enter()
    assert (gate.taken, gate.shed, raised.value.retry_after_s) == (2, 1, 1.0)
    gate.leave()
    gate.enter()
    assert (gate.taken, gate.shed) == (2, 1)
