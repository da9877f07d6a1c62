"""Cancels the statements of readers that have left.

A request names its reader in the context of its task; threads that work for the task inherit it.
The engines that `attend` extends and `ReadersPool` tell the reader of each connection that is taken
or returned.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from infra.postgres.pool import Pool

CANCEL_SECONDS = 2.0
AGAIN_SECONDS = 0.2
"""A cancelled request may begin another statement on the same connection."""


class ReaderLeft(Exception):
    """The client has left: the answer has no reader."""


class Reader:
    """A client that waits for an answer; safe for use from many threads.

    Attributes:
        key: the id of its API key, once it is known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[psycopg.Connection[Any]] = set()
        self._cancelled: set[psycopg.Connection[Any]] = set()
        self.has_left = False
        self.key: UUID | None = None

    @property
    def is_asking(self) -> bool:
        return bool(self._running)

    def begin(self, conn: psycopg.Connection[Any]) -> None:
        """Raises: ReaderLeft."""
        with self._lock:
            if self.has_left:
                raise ReaderLeft
            self._running.add(conn)

    def end(self, conn: psycopg.Connection[Any]) -> bool:
        """Returns whether the connection was cancelled. Then no other reader may use it: the
        cancellation may reach the server after the statement, and cancel the next one."""
        with self._lock:
            self._running.discard(conn)
            is_cancelled = conn in self._cancelled
            self._cancelled.discard(conn)
            return is_cancelled

    def leave(self) -> None:
        """Cancels the running statements and refuses new ones; returns when none runs. For a thread
        of its own."""
        with self._lock:
            self.has_left = True
        while self._running:
            with self._lock:
                for conn in list(self._running):
                    self._cancelled.add(conn)
                    try:
                        conn.cancel_safe(timeout=CANCEL_SECONDS)
                    except psycopg.Error:
                        self._running.discard(conn)
            time.sleep(AGAIN_SECONDS)


_reader: ContextVar[Reader | None] = ContextVar("reader", default=None)


def current() -> Reader | None:
    """The reader of the current request; None: there is none, as for a worker."""
    return _reader.get()


@contextmanager
def reading(reader: Reader) -> Iterator[None]:
    """Sets the reader of all statements in the block."""
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


@contextmanager
def asking(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Cancels a connection of no pool when the reader leaves. Raises: ReaderLeft."""
    reader = current()
    if reader is None:
        yield
        return
    reader.begin(conn)
    try:
        yield
    finally:
        reader.end(conn)


def require_present() -> None:
    """Raises: ReaderLeft."""
    reader = current()
    if reader is not None and reader.has_left:
        raise ReaderLeft


def is_ended(conn: sa.Connection) -> bool:
    """Whether the server ended an idle connection; then closes it on this side too, for its cursors
    cannot be closed any more. Sends nothing: a server that ends a connection says so unasked."""
    driver = conn.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    if not driver.closed and select.select([driver.fileno()], [], [], 0)[0]:
        driver.close()
    return bool(driver.closed)


def attend(engine: sa.Engine) -> sa.Engine:
    """Makes an engine tell readers of its connections."""

    def taken(conn: Any, record: Any, _: Any) -> None:
        if record.info.pop("is_cancelled", False):
            raise sa.exc.DisconnectionError  # the pool opens another in its place
        reader = current()
        if reader is not None:
            reader.begin(conn)
            record.info["reader"] = reader

    def given_back(conn: Any, record: Any) -> None:
        reader = record.info.pop("reader", None)
        if reader is not None and conn is not None and reader.end(conn):
            record.info["is_cancelled"] = True

    sa.event.listen(engine, "checkout", taken)
    sa.event.listen(engine, "checkin", given_back)
    return engine


class ReadersPool(Pool):
    """A pool that tells readers of its connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._readers: dict[psycopg.Connection[Any], Reader] = {}
        super().__init__(*args, **kwargs)

    def getconn(self, timeout: float | None = None) -> psycopg.Connection[Any]:
        conn = super().getconn(timeout)
        reader = current()
        if reader is not None:
            try:
                reader.begin(conn)
            except ReaderLeft:
                super().putconn(conn)
                raise
            self._readers[conn] = reader
        return conn

    def putconn(self, conn: psycopg.Connection[Any]) -> None:
        reader = self._readers.pop(conn, None)
        if reader is not None and reader.end(conn):
            conn.close()
        super().putconn(conn)
