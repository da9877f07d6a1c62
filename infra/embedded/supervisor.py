"""Restarts the server when it dies: the first of its processes to notice does.

Each process that uses the server waits for the end of the postmaster, asleep, by a pidfd. The first
to get the starting lock restarts it; the others find it running. The death of a backend does not
matter here: PostgreSQL restarts the other backends by itself, and the postmaster lives on.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from infra.embedded import places, server
from infra.embedded.server import Account, EmbeddedError, GivenUp

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 30.0
"""The pause before the next start of a server that does not start, or dies soon after; doubled each
time."""

SOON_SECONDS = 10.0
STOP_SECONDS = 5.0
_LOOK_SECONDS = 1.0
"""Between two looks whether the postmaster lives, where the kernel has no pidfd."""

log = structlog.get_logger()


@contextmanager
def supervised(
    data: Path, users: int, account: Account, cluster: Path, socket: Path
) -> Iterator[None]:
    """Restarts the cluster's server whenever it dies, while in use.

    Args:
        users: the open lock file that counts this process among the users.
        socket: the folder of the server's socket, where all users look for it.
    """
    supervisor = _Supervisor(data, users, account, cluster, socket)
    supervisor.thread.start()
    try:
        yield
    finally:
        supervisor.stop()


class _Supervisor:
    def __init__(
        self, data: Path, users: int, account: Account, cluster: Path, socket: Path
    ) -> None:
        self._data = data
        self._users = users
        self._account = account
        self._cluster = cluster
        self._socket = socket
        self._stop = threading.Event()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.thread = threading.Thread(target=self._run, name="embedded-postgres", daemon=True)

    def stop(self) -> None:
        """Restarts the server no more, and gives up a start that is under way."""
        self._stop.set()
        os.eventfd_write(self._woken, 1)
        self.thread.join(timeout=STOP_SECONDS)
        if not self.thread.is_alive():
            os.close(self._woken)

    def _run(self) -> None:
        tried_at, pause, is_up = -SOON_SECONDS, FIRST_PAUSE_SECONDS, True
        while True:
            self._wait_for_death()
            if time.monotonic() - tried_at < SOON_SECONDS:
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                pause = FIRST_PAUSE_SECONDS
            if self._stop.is_set():
                return
            if is_up:
                log.warning("embedded.server_died")
            try:
                is_up = self._start()
                if not is_up:
                    log.error("embedded.data_folder_gone")
                    return
            except GivenUp:
                return
            except (EmbeddedError, OSError) as error:
                is_up = False
                log.error("embedded.not_started", error=type(error).__name__)
            tried_at = time.monotonic()

    def _wait_for_death(self) -> None:
        """Returns when there is no postmaster, or on `stop`."""
        pid = server.postmaster(self._cluster)
        if pid is None or self._stop.is_set():
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:
            while server.postmaster(self._cluster) == pid and not self._stop.wait(_LOOK_SECONDS):
                pass
            return
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.register(self._woken, select.POLLIN)
            # The pidfd was opened before this look: it cannot be another program's.
            if server.postmaster(self._cluster) == pid:
                poll.poll()
        finally:
            os.close(pidfd)

    def _start(self) -> bool:
        """Starts the server, unless another process has; False: its data folder was deleted, and no
        server is to come back there.

        Raises:
            EmbeddedError: it does not start.
            GivenUp: `stop` was called meanwhile.
        """
        if not self._is_ours():
            return False
        begun = time.monotonic()
        with places.locked(self._data / places.STARTING, self._stop.is_set):
            # Another process may have stopped the server for good, and deleted its files.
            if not self._is_ours():
                return False
            server.reap(self._cluster)
            with places.lock_file(self._cluster.with_name("postgres.server.lock")) as lock:
                if not server.is_ready(self._cluster, lock, self._stop.is_set):
                    server.start(
                        self._cluster,
                        self._account,
                        places.binaries(self._account),
                        lock,
                        socket=self._socket,
                        is_given_up=self._stop.is_set,
                    )
        log.warning("embedded.server_is_back", seconds=round(time.monotonic() - begun, 2))
        return True

    def _is_ours(self) -> bool:
        """Whether the data folder is still the one that this process opened, with its cluster."""
        with suppress(OSError):
            users = (self._data / "postgres.lock").stat()
            return (
                os.path.samestat(os.fstat(self._users), users)
                and (self._data / "postgres").resolve() == self._cluster
                and (self._cluster / "PG_VERSION").exists()
            )
        return False
