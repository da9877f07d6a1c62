"""Readers have budgets: none of them stops another, an erasure, or whether the service is ready."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from api.http import disconnects
from infra import bootstrap
from infra.postgres.admission import BOUNDS, Demand
from infra.postgres.engines import STREAMS
from infra.settings import Settings
from tests.projections.read_models import owner
from tests.serving import Clients, problem, served, until

ADD_PEOPLE = """
WITH made AS (
    INSERT INTO views.contacts (log_partition, subject, kind, properties, name)
    SELECT n %% 256, gen_random_uuid(), 'user', jsonb_build_object('name', x), x
    FROM generate_series(1, %s::int) n, repeat('x', 4000) x
    RETURNING log_partition, subject, kind)
INSERT INTO views.seen (log_partition, subject, kind) SELECT * FROM made"""


class Slow:
    """An export whose reader takes a little and then nothing."""

    def __init__(self, client: Clients, format: str = "ndjson") -> None:
        host, _, port = client.url.removeprefix("http://").partition(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.socket.connect((host, int(port)))
        key = client.keys["read"]
        self.socket.sendall(
            f"GET /api/users/export?format={format} HTTP/1.1\r\nHost: annals\r\n"
            f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        self.socket.settimeout(20)
        self.text = self.socket.recv(1_000)

    @property
    def status(self) -> int:
        return int(self.text.split()[1])

    def rest(self) -> bytes:
        """All that comes until the connection is closed."""
        try:
            while piece := self.socket.recv(65_536):
                self.text += piece
        except ConnectionResetError:
            pass
        return self.text


@pytest.fixture
def crowd(client: Clients, database_url: str) -> Clients:
    """Many users, so that an export is longer than what lies in buffers."""
    client.send({"type": "identify", "userId": "u1", "traits": {"name": "Ada"}})
    client.see("/api/users")
    with owner(database_url) as conn:
        conn.execute(ADD_PEOPLE, (3_000,))
    return client


@pytest.fixture
def slowly(crowd: Clients) -> Iterator[Callable[..., Slow]]:
    with ExitStack() as stack:

        def begin(format: str = "ndjson") -> Slow:
            slow = Slow(crowd, format)
            stack.callback(slow.socket.close)
            return slow

        yield begin


def test_exports_read_slowly_stop_neither_lists_nor_readiness_and_more_are_refused(
    crowd: Clients, slowly: Callable[..., Slow]
) -> None:
    bound = BOUNDS[Demand.EXPORT]
    exports = [slowly() for _ in range(bound.by_key + 3)]
    assert sorted(one.status for one in exports) == [200] * bound.by_key + [429] * 3
    assert b"retry-after: 10" in exports[-1].text
    for _ in range(10):
        assert crowd("read").get("/api/users").status_code == 200
        assert crowd(None).get("/health/ready").status_code == 200
    refused = crowd("read").get("/api/users/export")
    assert "at once" in problem(refused, 429, "too-many")["detail"]
    assert crowd("audit").get("/api/users/export?search=nobody").status_code == 200
    for one in exports:
        one.socket.close()
    until(lambda: crowd.annals.admission.taken(Demand.EXPORT) == 0)


def test_a_reader_that_takes_nothing_is_ended(
    crowd: Clients, slowly: Callable[..., Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disconnects, "SEND_SECONDS", 0.5)
    slow = slowly()
    until(lambda: crowd.annals.admission.taken(Demand.EXPORT) == 0)
    assert not slow.rest().endswith(b"\r\n0\r\n\r\n")


def streams_of(conn: psycopg.Connection) -> int:
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = %s AND datname = current_database() AND state <> 'idle'",
        (STREAMS,),
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("takes", [True, False])
def test_an_erasure_ends_an_export_that_is_read_slowly_and_the_export_says_so(
    crowd: Clients, slowly: Callable[..., Slow], database_url: str, takes: bool
) -> None:
    slow = slowly()
    with owner(database_url) as conn:
        assert streams_of(conn) == 1
        crowd.erase("user", "external:u1")
        found = crowd("comply").get("/api/erasures").json()["items"][0]

        def is_cleaned() -> bool:
            answer = crowd("comply").get(f"/api/erasures/{found['id']}").json()
            return bool(answer["cleaned_at"])

        if takes:
            until(lambda: streams_of(conn) == 0)
            rest = slow.rest()
            assert b'{"error":{"code":"interrupted"' in rest.split(b"\n")[-2] + rest[-300:]
            assert not rest.endswith(b"\r\n0\r\n\r\n")
        until(is_cleaned)
        assert streams_of(conn) == 0
    until(lambda: crowd.annals.admission.taken(Demand.EXPORT) == 0)


def test_a_csv_that_is_ended_is_not_whole_to_its_reader(
    crowd: Clients, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with owner(database_url) as conn, crowd("read").stream("GET", "/api/users/export") as answer:
        pieces = answer.iter_bytes(1_000)
        next(pieces)
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            (STREAMS,),
        )
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert (said.out + said.err).count("answer.broken_off") == 1
    assert len(crowd("read").get("/api/users/export").content) > 10**6


@pytest.fixture
def hurried(database_url: str, tmp_path: Path) -> Iterator[Clients]:
    """A server whose questions may take 0.4 seconds."""
    settings = Settings(data=tmp_path, query_seconds=0.4)
    with bootstrap.opened(settings, database_url) as annals, served(annals) as clients:
        yield clients


def test_a_question_that_takes_too_long_says_how_to_be_answered(
    hurried: Clients, database_url: str
) -> None:
    with owner(database_url) as conn:
        conn.execute(ADD_PEOPLE, (20_000,))
    parts = [
        {"type": "property", "name": "name", "test": {"op": "contains", "value": f"{n}y"}}
        for n in range(200)
    ]
    hurried.send({"type": "identify", "userId": "u1", "traits": {"name": "Ada"}})
    until(lambda: hurried("read").get("/api/users").status_code == 200)
    asked = {"filter": {"type": "any", "of": parts}}
    answer = hurried("read").post("/api/users", json=asked)
    assert "narrow" in problem(answer, 503, "takes-too-long")["detail"]
    until(lambda: hurried("read").get("/api/users").status_code == 200)


def test_what_nobody_waits_for_any_more_is_cancelled_in_the_database(
    client: Clients, database_url: str
) -> None:
    client.send({"type": "identify", "userId": "u1", "traits": {"name": "Ada"}})
    client.see("/api/users")
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%ILIKE%'"
    )
    with (
        psycopg.connect(database_url) as locking,
        psycopg.connect(database_url, autocommit=True) as conn,
    ):
        locking.execute("LOCK TABLE views.whole_contacts, views.contacts IN ACCESS EXCLUSIVE MODE")
        for path in ("/api/users?search=Ad", "/api/users/bars?search=Ad"):
            with pytest.raises(httpx.ReadTimeout):
                client("read").get(path, timeout=0.5)
        until(lambda: conn.execute(running).fetchone() == (0,))
        until(lambda: client.annals.admission.taken(Demand.QUESTION) == 0)
        assert client(None).get("/health/ready").status_code == 200
    assert client("read").get("/api/users").status_code == 200
