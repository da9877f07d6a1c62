"""Whose fault a database error is: the connection's, which a later try may not meet again, or the
row's, which every try meets again. Told by SQLSTATE, never by the class of the exception: psycopg
raises an index entry that is too long (54000) as the same class as a server that is gone."""

from __future__ import annotations

import psycopg
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as NoConnectionInTime

_OF_CONNECTION = ("08", "53", "57P")
"""Beginnings of SQLSTATEs: connection exceptions, insufficient resources, operator intervention
without the cancelling of a statement (57014)."""

_OF_CONTENTION = ("40001", "40P01", "55P03")
"""SQLSTATEs: serialization failure, deadlock, lock not available."""


def is_of_contention(error: BaseException) -> bool:
    """Whether another transaction stood in the way, as it may not the next time."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _OF_CONTENTION


_CANCELLED = "57014"
"""A statement that took longer than it may, or that nobody waits for any more."""


def is_cancelled(error: BaseException) -> bool:
    """Whether the server cancelled a statement, and nothing else is wrong."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.Error) and cause.sqlstate == _CANCELLED


def is_of_connection(error: BaseException) -> bool:
    """Whether the connection or the server failed, and not what was sent over it.

    Args:
        error: of psycopg, its pool or SQLAlchemy; anything else is not the connection's.
    """
    if isinstance(error, NoConnectionInTime):
        return True
    if isinstance(error, DBAPIError):
        if error.orig is None or not isinstance(error.orig, psycopg.Error):
            return isinstance(error, InterfaceError)
        return is_of_connection(error.orig)
    if isinstance(error, pg.PipelineAborted):
        return False  # a statement before it failed, whose own error has its state
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_OF_CONNECTION)
