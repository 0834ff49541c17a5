import socket

import pytest

from gateway.upstream.connections import set_timeout


@pytest.mark.parametrize(
    ("asked_s", "kept_s"),
    [(None, None), (0.0, 0.0), (0.123, 0.123), (1.0, 1.0), (1.01, 1.1), (9.44, 9.5), (9.4999, 9.5), (20.0, 20.0)],
)
def test_a_socket_waits_to_the_next_tenth_and_never_less_than_asked_for(asked_s, kept_s):
    with socket.socket() as connection:
        set_timeout(connection, asked_s)
        assert connection.gettimeout() == kept_s
