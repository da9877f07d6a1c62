"""The processes of a deployment: a server, a worker, PostgreSQL; killed at random, and started
again by a supervisor as an operator's would."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

START_SECONDS = 120


class Deployment:
    """`annals serve` and `annals work` on one data folder, restarted whenever they end.

    Attributes:
        log: file with what both wrote to standard error.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = data.with_name("annals.log")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.exits: list[tuple[str, int]] = []
        """How processes ended that were not killed here, by command."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[int] = set()
        self._stop = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise)

    def start(self) -> None:
        self._start("serve")
        self._wait_until_ready()
        self._start("work")
        self._supervisor.start()

    def stop(self) -> None:
        """Ends both as an operator does, the server last; raises where one does not end well."""
        self._stop.set()
        self._supervisor.join()
        for command in ("work", "serve"):
            process = self._processes[command]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, f"annals {command} exits with an error"

    def abandon(self) -> None:
        """Ends whatever is left, for a test that failed."""
        self._stop.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def kill(self, command: str) -> None:
        process = self._processes[command]
        self._killed.add(process.pid)
        process.kill()

    def postgres(self) -> dict[int, bytes]:
        """The server's processes, each with its command line."""
        cluster = (self.data / "postgres").resolve()
        found: dict[int, bytes] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    if (entry / "cwd").readlink() == cluster:
                        found[int(entry.name)] = (entry / "cmdline").read_bytes()
        return found

    def _start(self, command: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ANNALS_")}
        settings = {
            "ANNALS_DATA": str(self.data),
            "ANNALS_PORT": str(self.port),
            "ANNALS_PRIVATE_DESTINATIONS": "allow",
        }
        with self.log.open("ab") as log:
            self._processes[command] = subprocess.Popen(
                [sys.executable, "-m", "api", command],
                env=kept | settings,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def _supervise(self) -> None:
        while not self._stop.wait(0.05):
            for command, process in list(self._processes.items()):
                if process.poll() is not None:
                    if process.pid not in self._killed:
                        self.exits.append((command, process.returncode))
                    self._start(command)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health/ready", timeout=5).is_success:
                    return
            time.sleep(0.1)
        raise AssertionError(f"annals serve does not get ready; see {self.log}")


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kills(deployment: Deployment, chance: random.Random) -> dict[str, Callable[[], None]]:
    """What may be killed, by name."""

    def postmasters() -> list[int]:
        return [pid for pid, line in deployment.postgres().items() if b"\0-D\0" in line]

    def backends(*titles: bytes) -> list[int]:
        found = deployment.postgres().items()
        return [pid for pid, line in found if any(title in line for title in titles)]

    def some(pids: list[int]) -> list[int]:
        return chance.sample(pids, min(len(pids), chance.randint(1, 3)))

    def everything() -> None:
        deployment.kill("serve")
        deployment.kill("work")
        _kill(list(deployment.postgres()))

    return {
        "server": lambda: deployment.kill("serve"),
        "worker": lambda: deployment.kill("work"),
        "postmaster": lambda: _kill(postmasters()),
        "backends": lambda: _kill(some(backends(b"annals_"))),
        "checkpointer": lambda: _kill(backends(b"checkpointer", b"walwriter")[:1]),
        "postgres": lambda: _kill(list(deployment.postgres())),
        "everything": everything,
    }


@contextmanager
def deployed(data: Path) -> Iterator[Deployment]:
    """A running deployment, which is over at the end whatever happened."""
    deployment = Deployment(data)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.abandon()
