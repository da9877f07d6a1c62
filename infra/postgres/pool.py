"""A pool of connections that hears at once that the server is away, and at once that it is back.

psycopg's own pool tries again after 1 s, 2 s, 4 s and so on while a server is away, and has its
callers wait meanwhile. Here a caller has a connection made for it, hears of it if that fails, and
finds the server when it asks the next time. Nothing goes on in the background.
"""

from __future__ import annotations

import logging
import select
import time

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout

CONNECT_SECONDS = 2
"""In which the server has to take a new connection: the least that libpq lets one ask."""

AWAY_SECONDS = 1.0
"""That a caller waits, at most, where the last attempt to connect has failed."""

BUSY_SECONDS = 5.0
"""That a request waits for a connection while others use them all."""

CLOSE_SECONDS = 1.0

log = structlog.get_logger()

# It repeats for each attempt what is said here once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class Unreachable(psycopg.OperationalError):
    """No connection to the server can be made."""


class Pool(ConnectionPool):
    """Connections in one role, made as they are needed.

    Args:
        conninfo: of the role.
        size: connections, at most.
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
            # Given up at once: whoever asks next has it tried again.
            reconnect_timeout=0,
            configure=self._note_reached,
            num_workers=1,
            open=True,
        )

    def getconn(self, timeout: float | None = None) -> psycopg.Connection:
        """A connection that works, or did a moment ago; to be given back by `putconn`.

        Raises:
            Unreachable: the server cannot be reached.
            PoolTimeout: others use all connections all the time.
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
            if _is_open(conn):
                return conn
            conn.close()
            self.putconn(conn)

    def reconnect_failed(self) -> None:
        """Called by the pool for each connection that cannot be made: those who wait hear of it
        where none is left that another could give back."""
        if not self._is_away:
            self._is_away = True
            log.warning("database.unreachable", pool=self.name)
        with self._lock:
            told = list(self._waiting) if self._nconns <= 0 else []
            if told:
                self._waiting.clear()
        for one in told:
            one.fail(Unreachable("the server cannot be reached"))

    def _note_reached(self, _: psycopg.Connection) -> None:
        if self._is_away:
            self._is_away = False
            log.warning("database.reached", pool=self.name)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Closes the connections that nobody uses, and the others when they are given back."""
        super().close(timeout)


def _is_open(connection: psycopg.Connection) -> bool:
    """Asks the server only where it has said something while nobody asked: most often that it
    closed the connection. A round trip for each use would cost more than most statements."""
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
