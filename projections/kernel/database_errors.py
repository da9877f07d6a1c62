"""Classifies database errors: of the connection, which a retry may pass, or of the row, which
fails each time.

The SQLSTATE decides, never the class of the exception: psycopg raises an index entry that is too
long (54000) as the same class as a lost server.
"""

from __future__ import annotations

import psycopg
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as NoConnectionInTime

_OF_CONNECTION = ("08", "53", "57P")
"""Prefixes of SQLSTATEs: connection exceptions, insufficient resources, operator intervention
except a cancelled statement (57014)."""

_OF_CONTENTION = ("40001", "40P01", "55P03")
"""SQLSTATEs: serialization failure, deadlock, lock not available."""


def is_of_contention(error: BaseException) -> bool:
    """Whether another transaction was in the way, so that a retry may succeed."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _OF_CONTENTION


_CANCELLED = "57014"
"""A statement ran into its timeout, or its caller cancelled it."""


def is_cancelled(error: BaseException) -> bool:
    """Whether PostgreSQL cancelled the statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.Error) and cause.sqlstate == _CANCELLED


def is_of_connection(error: BaseException) -> bool:
    """Whether the connection or the server failed, and not the statement.

    Args:
        error: of psycopg, its pool or SQLAlchemy; False for all others.
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
