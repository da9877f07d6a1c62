"""Another process inside the embedded server's context, and what can be seen of a server from
outside, told without the module under test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from infra import embedded
from infra.embedded import places

ROOT = os.geteuid() == 0
NOBODY = 65534

_PROGRAM = """
import os, sys
from pathlib import Path
from infra import embedded
from infra.embedded import places
places.OUTSIDE = Path(sys.argv[2])
if len(sys.argv) > 3:
    # Only now: this Python itself may lie where an ordinary user cannot reach it.
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
with embedded.running(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""


class User:
    """A process that uses the server until it is told to leave, or is killed."""

    def __init__(
        self,
        data: Path,
        *,
        uid: int | None = None,
        path: Path | None = None,
        wait: bool = True,
    ) -> None:
        code = path or Path(embedded.__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(data), str(places.OUTSIDE)]
            + ([] if uid is None else [str(uid)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.url = self._line() if wait else ""

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.process.communicate()[1]
        return line

    def leave(self) -> None:
        _, errors = self.process.communicate("\n", timeout=90)
        assert self.process.returncode == 0, errors

    def refusal(self) -> str:
        """What a process says that could have no server."""
        _, errors = self.process.communicate(timeout=90)
        assert self.process.returncode != 0
        return errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def user_of(data: Path, uid: int | None = None, path: Path | None = None) -> Iterator[User]:
    user = User(data, uid=uid, path=path)
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
