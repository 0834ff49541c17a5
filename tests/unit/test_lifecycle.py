from types import SimpleNamespace

import pytest

from gateway.lifecycle import Reply


class Sent(list):
    def sendall(self, data):
        self.append(data)


def reply(headers, *, method="GET", status="200 OK"):
    """Return an answer to a request, and what it sends."""
    request = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False)
    sent = Sent()
    answer = Reply(request, sent, SimpleNamespace(protocol="http"))  # type: ignore[arg-type]
    answer.start_response(status, headers)
    return answer, sent


def test_a_head_leaves_with_the_beginning_of_its_body():
    answer, sent = reply([("Content-Length", "4")])
    answer.write(b"ab")
    answer.write(b"cd")
    answer.close()
    assert len(sent) == 2 and sent[0].startswith(b"HTTP/1.1 200 OK\r\n") and sent[0].endswith(b"\r\n\r\nab") and sent[1] == b"cd"


def test_a_body_without_a_length_is_chunked():
    answer, sent = reply([("X-A", "1")])
    answer.write(b"ab")
    answer.write(b"")
    answer.write(b"c")
    answer.close()
    assert sent[0].endswith(b"X-A: 1\r\n\r\n2\r\nab\r\n") and sent[1:] == [b"1\r\nc\r\n", b"0\r\n\r\n"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content")])
def test_a_head_alone_leaves_at_the_end(method, status):
    answer, sent = reply([("X-A", "1")], method=method, status=status)
    answer.write(b"none of this")
    answer.close()
    assert len(sent) == 1 and sent[0].endswith(b"X-A: 1\r\n\r\n")


def test_a_head_that_is_held_has_not_left():
    answer, sent = reply([("X-A", "1")])
    answer.write(b"")
    assert not answer.has_left and not sent
    answer.write(b"a")
    assert answer.has_left
