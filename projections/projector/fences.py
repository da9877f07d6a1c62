"""Waiting for the fence of a projector, but not for ever: who holds it may hang."""

from __future__ import annotations

import psycopg
from psycopg import errors as pg

from projections.kernel.pipeline import pipeline

WAIT_SECONDS = 10
"""That a lock is waited for; then what waits tries again, from the beginning."""

LIMIT_WAIT = "SELECT set_config('lock_timeout', %s, true)"
NO_LIMIT = "SELECT set_config('lock_timeout', '0', true)"


class FenceTaken(psycopg.OperationalError):
    """Another batch, an emptying or a filler held the fence for too long. Without an SQLSTATE, as
    it says nothing about what was to be written."""


def limit_wait(conn: psycopg.Connection) -> None:
    """No lock is waited for longer than `WAIT_SECONDS`, in the transaction that is under way.
    What is longer fails by psycopg.errors.LockNotAvailable."""
    conn.execute(LIMIT_WAIT, (f"{WAIT_SECONDS}s",))


def wait_for(conn: psycopg.Connection, statement: str, projector: str) -> None:
    """Takes the fence of a projector, for the transaction that is under way, in one round trip.

    Args:
        statement: that locks it, of `projections.projector.projector`.

    Raises:
        FenceTaken: see there; the transaction has failed.
    """
    try:
        with pipeline(conn):
            limit_wait(conn)
            conn.execute(statement, (projector,))
            conn.execute(NO_LIMIT)
    except pg.LockNotAvailable:
        raise FenceTaken("the fence is held by others") from None
