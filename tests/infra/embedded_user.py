"""Another process inside the embedded server's context, and what can be seen of a server from
outside, told without the module under test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from infra import embedded
from infra.embedded import places
from tests.processes import Process

ROOT = os.geteuid() == 0
NOBODY = 65534


def use(data: Path, outside: Path, uid: int | None, packages: Path | None) -> None:
    """Uses the server of a data folder, says where it is, and leaves once told to."""
    places.OUTSIDE = outside
    os.chdir("/")
    if packages is not None:
        sys.path.insert(0, str(packages))
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    with embedded.running(data) as url:
        print(url, flush=True)
        sys.stdin.readline()


class User:
    """A process that uses the server until it is told to leave, or is killed."""

    def __init__(
        self,
        data: Path,
        *,
        uid: int | None = None,
        packages: Path | None = None,
        wait: bool = True,
    ) -> None:
        """
        Args:
            packages: a folder with the server's programs; None: those that are installed.
        """
        self.process = Process(use, data, places.OUTSIDE, uid, packages)
        self.url = self._line() if wait else ""

    def _line(self) -> str:
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.wait()
        assert line, self.process.errors()
        return line

    def leave(self) -> None:
        with self.process:
            self.process.tell("leave")
            assert self.process.wait() == 0, self.process.errors()

    def refusal(self) -> str:
        """What a process says that could have no server."""
        with self.process:
            assert self.process.wait() != 0
            return self.process.errors()

    def kill(self) -> None:
        self.process.close()


@contextmanager
def user_of(data: Path, uid: int | None = None, packages: Path | None = None) -> Iterator[User]:
    user = User(data, uid=uid, packages=packages)
    try:
        yield user
    finally:
        if user.process.poll() is None:
            user.leave()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def postmaster(cluster: Path) -> int:
    return int((cluster / "postmaster.pid").read_text().split()[0])


def processes(cluster: Path) -> list[int]:
    """Server processes of the cluster."""
    programs = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cwd").readlink() == cluster.resolve():
                    programs.append(int(entry.name))
            except OSError:
                continue
    return programs


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_gone(cluster: Path) -> None:
    """Waits for the end of all server processes: the last ends just after it removed its file."""
    until(lambda: not processes(cluster))
