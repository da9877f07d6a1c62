"""Intake over HTTP: batches of a hundred messages, from another process, into a real server."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from api.demo import company
from api.intake import segment
from api.intake.routes import take
from infra import bootstrap
from infra.settings import Settings
from tests.bench.figures import Job, Report, in_turns

BATCH = 100
CONNECTIONS, MANY_CONNECTIONS = 4, 16
COMPANY = {"users": 5_000, "accounts": 300, "until": datetime(2026, 5, 13, tzinfo=UTC)}


def run(folder: Path, report: Report, *, messages: int, rounds: int) -> None:
    """Three jobs take turns at what one company tells: the ids of several companies would name the
    same people, who would all be merged.

    The server projects nothing meanwhile: what is measured is the way into the log. The client is
    this process. Its peer takes messages without HTTP: the ratio is what HTTP costs."""
    settings = Settings(data=folder)

    with (
        serving(folder) as (port, key, _),
        bootstrap.database_url(settings) as url,
        bootstrap.opened(settings, url) as annals,
    ):

        def take_all(mine: list[bytes]) -> int:
            for body in mine:
                take(annals.handler, segment.decoded(body))
            return len(mine) * BATCH

        jobs = {
            "annals": Job(lambda: next(shares), lambda mine: _send(mine, port, key, CONNECTIONS)),
            "many": Job(
                lambda: next(shares), lambda mine: _send(mine, port, key, MANY_CONNECTIONS)
            ),
            "no http": Job(lambda: next(shares), take_all),
        }
        shares = _shares(messages, len(jobs) * (rounds + 1))
        rates = in_turns(rounds, jobs)
        for bench, one in (("intake.http.100", "annals"), ("intake.http.100.16", "many")):
            report.rates(bench, {one: rates[one], "no http": rates["no http"]})


def _shares(messages: int, count: int) -> Iterator[list[bytes]]:
    """What a company tells, in as many shares of as many batches, in order."""
    told = list(company.messages(events=messages, **COMPANY))
    bodies = [
        msgspec.json.encode({"batch": told[n : n + BATCH], "sentAt": datetime.now(UTC)})
        for n in range(0, len(told) - BATCH, BATCH)
    ]
    share = len(bodies) // count
    return iter([bodies[n * share : (n + 1) * share] for n in range(count)])


def _send(bodies: list[bytes], port: int, key: str, connections: int) -> int:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    refused: list[bytes] = []

    def work(mine: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for body in mine:
            connection.request("POST", "/v1/batch", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200 or not content.startswith(b'{"success":true'):
                refused.append(content)
        connection.close()

    threads = [
        threading.Thread(target=work, args=(bodies[n::connections],)) for n in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise RuntimeError(f"{len(refused)} batches were not stored whole: {refused[0][:300]!r}")
    return len(bodies) * BATCH


@contextmanager
def serving(folder: Path, worker: str = "none") -> Iterator[tuple[int, str, int]]:
    """A server as `annals serve` starts it, with a database of its own: its port, its write key and
    its process.

    Args:
        worker: `thread`: it projects as well.
    """
    environment = os.environ | {
        "ANNALS_DATA": str(folder),
        "ANNALS_PORT": "0",
        "ANNALS_WORKER": worker,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "api", "serve"], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split(";")[0].rpartition(":")[2])
            keys = msgspec.json.decode((folder / "keys.json").read_bytes(), type=dict[str, str])
            yield port, keys["write"], server.pid
        finally:
            server.terminate()
            server.wait(timeout=60)
