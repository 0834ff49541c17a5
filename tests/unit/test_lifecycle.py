import pytest

from gateway.lifecycle import closes_on_request


class Server:
    """As much of gunicorn's response as the wrapper sees."""

    def __init__(self):
        self.started = []
        self.closes = False

    def force_close(self):
        self.closes = True

    def start_response(self, status, headers, exc_info=None):
        self.started.append((status, headers, exc_info))


@pytest.mark.parametrize(("headers", "closes"), [([("Connection", "close")], True), ([("Retry-After", "1")], False), ([], False)])
def test_an_answer_that_says_so_closes_its_connection(headers, closes):
    server = Server()

    def app(environ, start_response):
        start_response("503 Service Unavailable", headers)
        return [environ["body"]]

    assert closes_on_request(app)({"body": b"x"}, server.start_response) == [b"x"]
    assert server.closes == closes and server.started == [("503 Service Unavailable", headers, None)]
