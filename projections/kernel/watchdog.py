"""Ends what takes longer than it may: work of one thread on one connection.

A statement that waits in the server is cancelled there. What is not over then has its socket shut
down, which ends any wait for the server, one that neither side can end by itself included.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import structlog
from psycopg_pool import ConnectionPool

CANCEL_SECONDS = 5.0
"""That the server has to take a cancellation, and the work to end after it."""

MAX_FRAMES = 40

log = structlog.get_logger()


class Hung(psycopg.OperationalError):
    """The work took too long and was cut off; its connection is closed. Without an SQLSTATE, as it
    says nothing about what was sent."""


@contextmanager
def watched(pool: ConnectionPool, worker: str, seconds: float) -> Iterator[psycopg.Connection]:
    """A connection of a pool, for work that may take so long.

    Args:
        worker: by which the log names the work.

    Raises:
        Hung: it took longer, and failed when it was cut off. Whether a transaction was committed is
            not known.
    """
    watch: _Watch | None = None
    try:
        with pool.connection() as conn:
            watch = _Watch(conn, worker, seconds)
            try:
                yield conn
            finally:
                watch.end()
    except Exception:
        if watch is not None and watch.is_cut:
            raise Hung("it took too long and was cut off") from None
        raise


def disconnect(conn: psycopg.Connection) -> None:
    """Ends all waiting for the server on a connection, whichever thread waits."""
    # On a copy of the descriptor: the thread that uses the connection closes its own.
    with (
        suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(conn.fileno())) as link,
    ):
        link.shutdown(socket.SHUT_RDWR)


def where(thread: int) -> list[str]:
    """The functions that a thread is in, outermost first, each with its line; no values.

    Args:
        thread: as `threading.get_ident` gives it.
    """
    frame = sys._current_frames().get(thread)
    calls = [
        f"{call.f_globals.get('__name__')}.{call.f_code.co_qualname}:{line}"
        for call, line in traceback.walk_stack(frame)
    ]
    return calls[:MAX_FRAMES][::-1]


class _Watch:
    """One piece of work, of the thread that makes this.

    Attributes:
        is_cut: it took too long.
    """

    def __init__(self, conn: psycopg.Connection, worker: str, seconds: float) -> None:
        self._conn = conn
        self._worker = worker
        self._seconds = seconds
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.is_cut = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.name = f"watchdog of {worker}"
        self._timer.start()

    def end(self) -> None:
        """To be called by the thread once it is done. A connection that was cut is closed: the
        server may have heard too late, and would cancel what is done on it next."""
        self._over.set()
        self._timer.cancel()
        with self._lock:
            if self.is_cut:
                self._conn.close()

    def _cut(self) -> None:
        with self._lock:
            if self._over.is_set():
                return
            self.is_cut = True
            log.error(
                "worker.hung",
                worker=self._worker,
                seconds=round(self._seconds, 1),
                at=where(self._thread),
            )
            with suppress(psycopg.Error):
                self._conn.cancel_safe(timeout=CANCEL_SECONDS)
            if not self._over.wait(CANCEL_SECONDS):
                disconnect(self._conn)
