"""A pool of connections whose callers learn at once that the server is away, or back.

While a server is away, psycopg's own pool tries again after 1 s, 2 s, 4 s and so on, and callers
wait. Here each caller has a connection attempted for it, gets the error if that fails, and reaches
the server with its next call. Nothing runs in the background.
"""

from __future__ import annotations

import logging
import select
import time

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout

CONNECT_SECONDS = 2
"""Time-out of a new connection: the least that libpq supports."""

AWAY_SECONDS = 1.0
"""Longest wait of a caller where the last attempt to connect failed."""

BUSY_SECONDS = 5.0
"""Longest wait of a request for a connection while others use all of them."""

CLOSE_SECONDS = 1.0

log = structlog.get_logger()

# It logs each attempt; `reconnect_failed` logs once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class Unreachable(psycopg.OperationalError):
    """No connection to the server can be made."""


class Pool(ConnectionPool):
    """Connections in one role, made as they are needed.

    Args:
        conninfo: in the role.
        size: most connections.
        patience: seconds that a caller waits while others use all of them.
    """

    def __init__(self, conninfo: str, *, name: str, size: int, patience: float) -> None:
        self._is_away = False
        super().__init__(
            conninfo,
            kwargs={"autocommit": True},
            name=name,
            min_size=0,
            max_size=size,
            timeout=patience,
            # Given up at once: the next caller has another attempt made.
            reconnect_timeout=0,
            configure=self._note_reached,
            num_workers=1,
            open=True,
        )

    def getconn(self, timeout: float | None = None) -> psycopg.Connection:
        """A connection that works, or did a moment ago; `putconn` returns it.

        Raises:
            Unreachable: the server cannot be reached.
            PoolTimeout: others used all connections for too long.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            left = deadline - time.monotonic()
            try:
                conn = super().getconn(min(left, AWAY_SECONDS))
            except PoolTimeout:
                if self._is_away:
                    raise Unreachable("the server cannot be reached") from None
                if left <= AWAY_SECONDS:
                    raise
                continue
            if is_open(conn):
                return conn
            conn.close()
            self.putconn(conn)

    def reconnect_failed(self) -> None:
        """Called by the pool for each connection that cannot be made. Fails the waiting callers if
        no other connection is left that could be returned to them."""
        if not self._is_away:
            self._is_away = True
            log.warning("database.unreachable", pool=self.name)
        with self._lock:
            failed = list(self._waiting) if self._nconns <= 0 else []
            if failed:
                self._waiting.clear()
        for waiting in failed:
            waiting.fail(Unreachable("the server cannot be reached"))

    def _note_reached(self, _: psycopg.Connection) -> None:
        if self._is_away:
            self._is_away = False
            log.warning("database.reached", pool=self.name)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Closes the idle connections, and the others once they are returned."""
        super().close(timeout)


def is_open(connection: psycopg.Connection) -> bool:
    """Whether a connection works. Asks the server only if it sent something unasked, most often
    that it closed the connection: a round trip for each use would cost more than most
    statements."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.Error:
        return False
    return True
