"""A process that is told to end does, whatever hangs in it."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg

from infra import bootstrap, embedded
from infra.postgres import database
from tests.stories.test_run import command, environment, forked

SECONDS = 12
"""Ten, and some for a machine that has other work."""


@contextmanager
def started(data: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(*words),
        env=environment(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Nobody gets at the contacts: each batch waits."""
    with psycopg.connect(url) as conn:
        conn.execute("LOCK TABLE views.contacts IN ACCESS EXCLUSIVE MODE")
        yield


def until_somebody_waits(url: str) -> None:
    deadline = time.monotonic() + 60
    with psycopg.connect(url, autocommit=True) as conn:
        while not conn.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def ends(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.wait(timeout=SECONDS)


def test_a_server_whose_batch_hangs_ends_in_time_and_a_rebuild_as_well(data: Path) -> None:
    with embedded.running(data) as server:
        url = database.create_database(server, bootstrap.DATABASE)
        with started(data, "serve") as process:
            assert process.stdout is not None
            address = process.stdout.readline().split(";")[0].split()[-1]
            keys = json.loads((data / "keys.json").read_text())
            with locked(url):
                httpx.post(
                    f"{address}/v1/batch",
                    json={"batch": [{"type": "identify", "userId": "ada"}]},
                    headers={"Authorization": f"Bearer {keys['write']}"},
                ).raise_for_status()
                until_somebody_waits(url)
                ends(process, signal.SIGTERM)
        with locked(url), started(data, "rebuild", "--yes") as process:
            until_somebody_waits(url)
            ends(process, signal.SIGINT)
            assert process.returncode == 1


def test_a_signal_that_another_thread_receives_ends_a_server_as_well(data: Path) -> None:
    """The kernel may hand it to any, and then it wakes no lock that the main thread waits for."""
    with forked("serve", data=data) as process:
        assert process.stdout.readline()
        threads = {int(folder.name) for folder in Path(f"/proc/{process.pid}/task").iterdir()}
        other = max(threads - {process.pid})
        assert ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM) == 0
        assert process.wait(timeout=SECONDS) == 0, process.errors()
