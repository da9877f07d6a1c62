"""Cuts off work of one thread on one connection that takes too long.

The watchdog cancels the statement in the server. If the work still does not end, it shuts the
socket down, which ends every wait for the server, also one that neither side could end.
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
"""For the server to take a cancellation, and for the work to end after it."""

MAX_FRAMES = 40

log = structlog.get_logger()


class Hung(psycopg.OperationalError):
    """The watchdog cut the work off and closed its connection. Without an SQLSTATE, as the
    statements are not at fault."""


@contextmanager
def watched(pool: ConnectionPool, worker: str, seconds: float) -> Iterator[psycopg.Connection]:
    """A connection of a pool, for work of limited duration.

    Args:
        worker: names the work in the log.

    Raises:
        Hung: the watchdog cut the work off. The transaction may have been committed.
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
    """Shuts the socket of a connection down, so that a thread that waits for the server fails."""
    # A copy of the descriptor: the thread that uses the connection closes its own.
    with (
        suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(conn.fileno())) as link,
    ):
        link.shutdown(socket.SHUT_RDWR)


def where(thread: int) -> list[str]:
    """The functions that a thread is in, outermost first, each with its line, without values.

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
    """Watches one piece of work, of the thread that creates it.

    Attributes:
        is_cut: the work took too long.
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
        """Ends the watch. Closes a connection that was cut: a late cancellation would hit its
        next statement."""
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
