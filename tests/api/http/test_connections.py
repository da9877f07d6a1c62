"""What a client does before and beside a request is bounded: over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import connections
from api.http.connections import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, Doors
from tests.serving import Clients

LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def connect(standing: Clients) -> Iterator[Callable[[], socket.socket]]:
    address = urlsplit(standing.url)
    opened: list[socket.socket] = []

    def one() -> socket.socket:
        assert address.port is not None
        opened.append(socket.create_connection(("127.0.0.1", address.port), timeout=20))
        return opened[-1]

    yield one
    for connection in opened:
        connection.close()


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the body of the next answer."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(65_536) or b"\r\n\r\n"
    head, _, body = content.partition(b"\r\n\r\n")
    [length] = [int(line[15:]) for line in head.lower().split(b"\r\n") if b"content-length" in line]
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split()[1]), json.loads(body)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True


def send(connection: socket.socket, content: bytes) -> None:
    """Sends what the server may already have had enough of."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(content)


Connect = Callable[[], socket.socket]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (LIVE + b"X: " + b"x" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n", 200),
        (LIVE + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (LIVE + b"X: " + b"x" * 3_000_000, 431),
        (LIVE + b"X: x\r\n" * (MAX_HEADERS - 1) + b"\r\n", 200),
        (LIVE + b"X: x\r\n" * MAX_HEADERS + b"\r\n", 431),
        (b"GET /" + b"x" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"\r\n" * MAX_HEAD_BYTES, 431),
        (b"nonsense\r\n\r\n", 400),
    ],
    ids=["long", "too long", "endless", "many", "too many", "address", "empty lines", "no HTTP"],
)
@pytest.mark.parametrize("is_second", [False, True], ids=["first", "second"])
def test_a_head_that_is_too_large_is_refused_and_its_connection_closed(
    connect: Connect, head: bytes, status: int, is_second: bool
) -> None:
    connection = connect()
    if is_second:
        connection.sendall(LIVE + b"\r\n")
        assert answer(connection) == (200, {"status": "live"})
    send(connection, head)
    found, body = answer(connection)
    assert found == status
    if status == 200:
        connection.sendall(LIVE + b"\r\n")
        assert answer(connection) == (200, {"status": "live"})
    else:
        assert body["status"] == status
        assert body["type"] == f"urn:annals:problem:{body['code']}"
        assert is_closed(connection)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "PROGRESS_SECONDS", "LINGER_SECONDS", "REFUSED_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)


@pytest.mark.usefixtures("impatient")
class TestTime:
    def test_what_is_sent_by_halves_and_no_further_is_given_up(
        self, standing: Clients, connect: Connect
    ) -> None:
        key = standing.keys["write"].encode()
        post = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n"
        silent, head, body, second = connect(), connect(), connect(), connect()
        head.sendall(LIVE)
        body.sendall(post + b"Authorization: Bearer " + key + b"\r\n\r\n{")
        second.sendall(LIVE + b"\r\n")
        assert answer(second)[0] == 200
        second.sendall(b"GET /health")
        for connection in (head, body, second):
            status, problem = answer(connection)
            assert (status, problem["code"]) == (408, "too-slow")
        for connection in (silent, head, body, second):
            assert is_closed(connection)

    def test_a_body_that_nobody_reads_is_waited_for_but_not_for_long(
        self, connect: Connect
    ) -> None:
        connection = connect()
        connection.sendall(
            b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n"
            b"Authorization: Bearer nobody\r\n\r\n" + b"x" * 10_000
        )
        assert answer(connection)[0] == 401
        assert is_closed(connection)

    def test_a_body_that_comes_slowly_but_comes_is_taken(
        self, standing: Clients, connect: Connect
    ) -> None:
        connection = connect()
        body = b'{"batch":[]' + b" " * 6_000 + b"}"
        connection.sendall(
            b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % (len(body), standing.keys["write"].encode())
        )
        for start in range(0, len(body), 500):
            connection.sendall(body[start : start + 500])
            time.sleep(0.15)
        assert answer(connection)[0] == 200


def test_after_an_answer_before_its_body_the_connection_goes_on(connect: Connect) -> None:
    connection = connect()
    body = b"x" * 300_000
    connection.sendall(
        b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nobody\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    assert answer(connection)[0] == 401
    connection.sendall(body + LIVE + b"\r\n")
    assert answer(connection) == (200, {"status": "live"})


def test_who_asks_before_sending_is_answered_without_the_body(connect: Connect) -> None:
    connection = connect()
    connection.sendall(
        b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        b"Authorization: Bearer nobody\r\nContent-Length: 1000000\r\n\r\n"
    )
    assert answer(connection)[0] == 401
    assert is_closed(connection)


def test_requests_that_are_sent_before_an_answer_are_bounded(connect: Connect) -> None:
    connection = connect()
    send(connection, (LIVE + b"\r\n") * 2_000)
    content = b""
    while piece := _received(connection):
        content += piece
    assert content.count(b"HTTP/1.1 200 ") < 2_000


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""


@contextmanager
def few(clients: Clients, **limits: int) -> Iterator[None]:
    """Lets the server of a test have few connections."""
    from tests import serving

    [server] = [one for one in serving.running if one.url == clients.url]
    before, server.config.doors = server.config.doors, Doors(**limits)
    try:
        yield
    finally:
        server.config.doors = before


def test_a_client_with_too_many_connections_gets_no_more_until_some_close(
    standing: Clients, connect: Connect
) -> None:
    with few(standing, limit_a_client=3):
        held = [connect() for _ in range(3)]
        for connection in held:
            connection.sendall(LIVE + b"\r\n")
            assert answer(connection)[0] == 200
        refused = connect()
        assert answer(refused)[0] == 503
        assert is_closed(refused)
        held[0].close()
        deadline = time.monotonic() + 20
        while True:
            again = connect()
            send(again, LIVE + b"\r\n")
            if answer(again)[0] == 200:
                break
            assert time.monotonic() < deadline


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["192.0.2.1", "10.0.0.1", "::1"]))))
def test_doors_count_each_client_and_all_but_a_proxy_is_no_single_client(
    steps: list[tuple[bool, str]],
) -> None:
    doors = Doors((ip_network("10.0.0.0/8"),), limit=5, limit_a_client=2)
    inside: list[str] = []
    for comes, client in steps:
        if comes:
            has_room = len(inside) < 5 and (client == "10.0.0.1" or inside.count(client) < 2)
            assert doors.enter(client) is has_room
            inside += [client] if has_room else []
        elif client in inside:
            inside.remove(client)
            doors.leave(client)
