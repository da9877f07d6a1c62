"""Its database dies under a service: requests are told so at once, nothing that was answered is
lost, nothing is stored twice, and all goes on as soon as it is back."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest

from infra import bootstrap, embedded
from infra.embedded import places
from infra.postgres import database
from infra.settings import Settings
from tests.infra.embedded_user import postmaster, processes
from tests.infra.pools import exhausted
from tests.serving import Clients, problem, served, until, user

pytestmark = pytest.mark.database  # each starts a server of its own

WORKERS = ("projector", "decider", "sweeper", "filler", "filters", "deliverer", "erasures")
THREADS = 40
"""In which a server answers."""

SECONDS = 10
"""That nobody waits; those who waited for a connection took 30."""


class Service:
    """A service with an embedded server of its own."""

    def __init__(self, data: Path, url: str, clients: Clients) -> None:
        self.data = data
        self.url = url
        self.clients = clients

    def pid_of(self, kind: str) -> int:
        with psycopg.connect(self.url, autocommit=True) as conn:
            asked = "SELECT pid FROM pg_stat_activity WHERE backend_type = %s AND pid <> %s"
            row = conn.execute(asked, (kind, conn.info.backend_pid)).fetchone()
        assert row is not None
        pid: int = row[0]
        return pid

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody starts the server in the block."""
        with (self.data / places.STARTING).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.kill(postmaster(self.data / "postgres"), signal.SIGKILL)
            until(lambda: not processes(self.data / "postgres"))
            yield

    def is_ready(self) -> bool:
        return self.clients(None).get("/health/ready").status_code == 200


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("away") / "data"
    try:
        with embedded.running(data) as server:
            url = database.create_database(server, "annals")
            with bootstrap.opened(Settings(data=data), url) as annals, served(annals) as clients:
                yield Service(data, url, clients)
    finally:
        embedded.remove(data)


def get(path: str, scope: str | None = "read") -> Callable[[Clients], httpx.Response]:
    return lambda clients: clients(scope).get(path, timeout=SECONDS)


def send(clients: Clients) -> httpx.Response:
    message = {"type": "track", "userId": "away", "event": "left"}
    return clients("write").post("/v1/batch", json={"batch": [message]}, timeout=SECONDS)


ASKED = {
    "readiness": get("/health/ready", None),
    "list": get("/api/users"),
    "view": get("/api/users/external:ada"),
    "timeline": get("/api/users/external:ada/timeline"),
    "waiting": get("/api/users?wait_for=1:1"),
    "status": get("/api/status"),
    "pasts": get("/api/pasts"),
    "erasures": get("/api/erasures", "comply"),
    "keys": get("/api/api-keys", "admin"),
    "batch": send,
}


def test_while_it_is_away_everybody_is_told_so_and_the_process_says_that_it_lives(
    service: Service,
) -> None:
    clients = service.clients
    until(service.is_ready)
    with service.away(), ThreadPoolExecutor(2 * THREADS) as threads:
        for name, ask in ASKED.items():
            answer = ask(clients)
            assert problem(answer, 503, "unavailable"), name
            assert int(answer.headers["retry-after"]) == 1
        asked = [threads.submit(ASKED["batch"], clients) for _ in range(2 * THREADS)]
        assert problem(ASKED["readiness"](clients), 503)
        assert get("/health/live", None)(clients).status_code == 200
        assert {one.result().status_code for one in asked} == {503}
        key = {"key": clients.keys["read"]}
        page = clients(None).post("/console/sign-in", data=key, timeout=SECONDS)
        assert (page.status_code, page.headers["retry-after"]) == (503, "1")
        assert "The database cannot be reached" in page.text
    until(service.is_ready)


@contextmanager
def load(service: Service, name: str) -> Iterator[Counter[int]]:
    """Two senders, each of whose batches is sent again until it is taken; the answers, by status.
    At the end, all that was taken is stored, and once."""
    answers: Counter[int] = Counter()
    stop, numbers = threading.Event(), count()
    taken: list[str] = []

    def work() -> None:
        with httpx.Client(base_url=service.clients.url, timeout=60) as client:
            key = service.clients.keys["write"]
            while not stop.is_set():
                ids = [f"{name} {next(numbers)}" for _ in range(5)]
                batch = [
                    {"type": "track", "userId": name, "event": "counted", "messageId": id}
                    for id in ids
                ]
                while True:
                    answer = client.post("/v1/batch", json={"batch": batch}, auth=(key, ""))
                    answers[answer.status_code] += 1
                    if answer.status_code == 200:
                        break
                    assert problem(answer, 503)
                    time.sleep(0.05)
                service.clients.taken(answer)
                taken.extend(ids)

    with ThreadPoolExecutor(2) as threads:
        senders = [threads.submit(work) for _ in range(2)]
        try:
            until(lambda: len(taken) > 20)
            yield answers
            so_far = len(taken)
            until(lambda: len(taken) > so_far + 20)
        finally:
            stop.set()
        for one in senders:
            one.result()
    shown = service.clients.see(user(name, "/events"))["items"]
    assert [(one["name"], one["count"]) for one in shown] == [("counted", len(taken))]


@pytest.mark.parametrize("kind", ["postmaster", "client backend", "checkpointer", "all"])
def test_what_dies_under_load_costs_nothing_that_was_answered_and_stores_nothing_twice(
    service: Service, kind: str
) -> None:
    cluster = service.data / "postgres"
    until(service.is_ready)
    with load(service, kind) as answers:
        if kind == "all":
            for pid in processes(cluster):
                os.kill(pid, signal.SIGKILL)
        else:
            pid = postmaster(cluster) if kind == "postmaster" else service.pid_of(kind)
            os.kill(pid, signal.SIGKILL)
        until(lambda: answers[503] > 0)
    assert answers.keys() == {200, 503}
    assert service.clients("read").get("/api/status").json()["parked"] == 0
    assert set(WORKERS) <= {one.name for one in threading.enumerate() if one.is_alive()}


def test_a_pool_that_others_use_up_is_no_failure(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(service.is_ready)
    pools = service.clients.annals.pools
    with exhausted(pools.reading, pools.readers.queries):
        monkeypatch.setattr(pools.reading, "timeout", 0.05)
        monkeypatch.setattr(pools.readers.queries.pool, "_timeout", 0.05)
        for path in ("/api/saved-views", "/api/users"):
            answer = get(path)(service.clients)
            assert "too much" in problem(answer, 503, "unavailable")["detail"]
        assert service.is_ready()
