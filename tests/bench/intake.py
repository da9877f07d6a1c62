"""Intake over HTTP: batches of a hundred messages, from another process, into a real server."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from api.demo import company
from tests.bench.figures import Report

BATCH = 100
CONNECTIONS = 4
COMPANY = {"users": 5_000, "accounts": 300, "until": datetime(2026, 5, 13, tzinfo=UTC)}


def run(folder: Path, report: Report, *, messages: int, rounds: int) -> None:
    """The server projects nothing meanwhile: what is measured is the way into the log. The client
    is this process."""
    bodies = _bodies(messages)
    share = len(bodies) // (rounds + 1)
    rates = []
    with _serving(folder) as (port, key):
        for n in range(rounds + 1):
            mine = bodies[n * share : (n + 1) * share]
            started = time.perf_counter()
            _send(mine, port, key)
            if n:
                rates.append(len(mine) * BATCH / (time.perf_counter() - started))
    report.rates("intake.http.100", {"annals": rates})


def _bodies(messages: int) -> list[bytes]:
    told = list(company.messages(events=messages, **COMPANY))
    return [
        msgspec.json.encode({"batch": told[n : n + BATCH], "sentAt": datetime.now(UTC)})
        for n in range(0, len(told) - BATCH, BATCH)
    ]


def _send(bodies: list[bytes], port: int, key: str) -> None:
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
        threading.Thread(target=work, args=(bodies[n::CONNECTIONS],)) for n in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise RuntimeError(f"{len(refused)} batches were not stored whole: {refused[0][:300]!r}")


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[int, str]]:
    """A server as `annals serve` starts it, with a database of its own."""
    environment = os.environ | {
        "ANNALS_DATA": str(folder),
        "ANNALS_PORT": "0",
        "ANNALS_WORKER": "none",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "api", "serve"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split(";")[0].rpartition(":")[2])
        keys = msgspec.json.decode((folder / "keys.json").read_bytes(), type=dict[str, str])
        yield port, keys["write"]
    finally:
        server.terminate()
        server.wait(timeout=60)
