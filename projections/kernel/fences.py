"""Fences: each batch shares the fence of its projector; a closed fence keeps all batches out.

A batch that merges, erases or defines closes the fence: a batch that was opened before would write
rows of an erased subject, or would not know the definition. A fence is a row of `views.fences`,
locked until the transaction ends.
"""

from __future__ import annotations

import psycopg
from psycopg import errors as pg

from projections.kernel.pipeline import pipeline

WAIT_SECONDS = 10
"""Longest wait for a lock. The caller then begins again: another transaction may hang."""

SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"

ENSURE_FENCE = "INSERT INTO views.fences (projector) VALUES (%s) ON CONFLICT DO NOTHING"

SHARE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR SHARE"

CLOSE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR UPDATE"

CLOSE_FREE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR UPDATE SKIP LOCKED"


class FenceTaken(psycopg.OperationalError):
    """Another transaction held the fence for longer than `WAIT_SECONDS`. Without an SQLSTATE, as
    the statements of the caller are not at fault."""


def limit_wait(conn: psycopg.Connection) -> None:
    """Limits the wait for each lock of the transaction to `WAIT_SECONDS`. A statement that waits
    longer fails with psycopg.errors.LockNotAvailable."""
    conn.execute(SET_LOCK_TIMEOUT, (f"{WAIT_SECONDS}s",))


def ensure(conn: psycopg.Connection, name: str) -> None:
    """Adds the fence where it is missing."""
    conn.execute(ENSURE_FENCE, (name,))


def share(conn: psycopg.Connection, name: str) -> None:
    """Locks the fence beside other batches, until the transaction ends."""
    conn.execute(SHARE_FENCE, (name,))


def close(conn: psycopg.Connection, name: str) -> None:
    """Waits for the batches that share the fence, and locks it until the transaction ends."""
    ensure(conn, name)
    conn.execute(CLOSE_FENCE, (name,))


def close_if_free(conn: psycopg.Connection, name: str) -> bool:
    """Closes the fence if no other transaction holds it; returns whether it did."""
    return conn.execute(CLOSE_FREE_FENCE, (name,)).fetchone() is not None


def wait_to_lock(conn: psycopg.Connection, name: str, *, closes: bool) -> None:
    """Shares or closes a fence, in one round trip. The fence must exist.

    Raises:
        FenceTaken: after `WAIT_SECONDS`; the transaction has failed.
    """
    try:
        with pipeline(conn):
            limit_wait(conn)
            conn.execute(CLOSE_FENCE if closes else SHARE_FENCE, (name,))
            conn.execute(SET_LOCK_TIMEOUT, ("0",))
    except pg.LockNotAvailable:
        raise FenceTaken("other transactions hold the fence") from None
