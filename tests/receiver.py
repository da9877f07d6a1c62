"""An outside system that receives messages: a real HTTP server, with or without TLS, on the
loopback, that takes or refuses what comes as a test has it."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Message:
    """One that came in, and the status that it was answered with; 0: with nothing at all."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.status = 0

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["data"].get("items", [])
        return found


class Receiver:
    """
    Attributes:
        answer: gives the status for a message; 0: the connection is cut instead.
        came: all messages, in the order of their arrival.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Callable[[Message], int] = lambda _: 204
        self.headers: dict[str, str] = {}
        self.answer_body = b""
        self.came: list[Message] = []

    def taken(self, path: str | None = None) -> list[dict[str, Any]]:
        """The items of the messages that were answered well, in order."""
        return [
            item
            for message in self.came
            if 200 <= message.status < 300 and path in (None, message.path)
            for item in message.items
        ]


@contextmanager
def receiving(certificate: Path | None = None) -> Iterator[Receiver]:
    """
    Args:
        certificate: file with key and certificate, for TLS.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            message = Message(self.path, headers, body)
            with lock:
                message.status = receiver.answer(message)
                receiver.came.append(message)
            if not message.status:
                self.close_connection = True
                return
            self.send_response(message.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            if message.status not in (204, 304):
                self.send_header("Content-Length", str(len(receiver.answer_body)))
            self.end_headers()
            if message.status not in (204, 304):
                self.wfile.write(receiver.answer_body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Whoever goes away in the middle is expected here."""

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    receiver = Receiver(f"{scheme}://127.0.0.1:{server.server_port}/hooks")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certified(folder: Path) -> Path:
    """A file with a key and a certificate of its own for the loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "receiver.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
