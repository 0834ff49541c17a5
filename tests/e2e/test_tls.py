"""The transport over real TLS: whom it believes, and that nobody else gets to read a request."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from gateway.errors import UpstreamUnreachable
from gateway.upstream.transport import CallLimits, Transport, UpstreamRequest
from gateway.upstream.watch import Handle

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def certify(tmp_path_factory):
    """Return a function that makes a certificate of a name, which vouches for itself, and returns it and its key."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing")
        pytest.skip("needs openssl")

    def make(name):
        folder = tmp_path_factory.mktemp("tls")
        files = folder / "cert.pem", folder / "key.pem"
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        names = ["-subj", "/CN=test", "-addext", f"subjectAltName={name}"]
        command = ["openssl", "req", "-x509", *kind, *names, "-out", files[0], "-keyout", files[1]]
        subprocess.run(command, check=True, capture_output=True, timeout=20)
        return tuple(map(str, files))

    return make


class Server:
    """Answers over TLS, one connection after the other, and keeps what it could read."""

    def __init__(self, certificate, key):
        self.read = b""
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as secured:
                    self.read += secured.recv(65536)
                    secured.sendall(ANSWER)
            except OSError:
                plain.close()

    def close(self):
        self._listener.close()


def ask(url, ca_bundle):
    limits = CallLimits(2, 2, 2, time.monotonic() + 5)
    transport = Transport(ca_bundle=ca_bundle)
    try:
        response = transport.open(UpstreamRequest(url, {"Authorization": "Bearer SECRET"}, b"{}"), limits, Handle())
        return response.read_all(limits)
    finally:
        transport.close()


@pytest.mark.parametrize(
    ("name", "believes", "reaches"),
    [
        ("IP:127.0.0.1", "it", True),
        ("IP:127.0.0.1", "another", False),
        ("IP:127.0.0.1", "the usual ones", False),
        ("DNS:api.groq.com", "it", False),
    ],
)
def test_only_whoever_proves_the_name_gets_the_request(certify, name, believes, reaches):
    certificate, key = certify(name)
    ca_bundle = {"it": certificate, "another": certify(name)[0], "the usual ones": None}[believes]
    server = Server(certificate, key)
    try:
        if reaches:
            assert ask(server.url, ca_bundle) == b"ok" and b"SECRET" in server.read
        else:
            with pytest.raises(UpstreamUnreachable):
                ask(server.url, ca_bundle)
            assert server.read == b""
    finally:
        server.close()


def test_the_bundle_of_cas_is_read_once_and_not_for_each_connection(certify, monkeypatch):
    certificate, key = certify("IP:127.0.0.1")
    read, real = [], ssl.SSLContext.load_verify_locations

    def load(self, *args, **kwargs):
        read.append(args or kwargs)
        real(self, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load)
    server = Server(certificate, key)
    try:
        assert [ask(server.url, certificate) for _ in range(3)] == [b"ok"] * 3
    finally:
        server.close()
    assert len(read) == 1
