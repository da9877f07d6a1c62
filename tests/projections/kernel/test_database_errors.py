"""Faults of the connection are told from faults of a row by SQLSTATE."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg
from psycopg_pool import PoolTimeout
from sqlalchemy import exc

from projections.kernel.database_errors import is_of_connection

OF_CONNECTION = [
    psycopg.OperationalError("server closed the connection unexpectedly"),
    psycopg.InterfaceError("the connection is closed"),
    pg.AdminShutdown("57P01"),
    pg.CannotConnectNow("57P03"),
    pg.ConnectionFailure("08006"),
    pg.DiskFull("53100"),
    pg.TooManyConnections("53300"),
    PoolTimeout("couldn't get a connection"),
    exc.TimeoutError("QueuePool limit"),
    exc.OperationalError("SELECT", {}, psycopg.OperationalError("gone")),
]
OF_ROW = [
    pg.ProgramLimitExceeded("index row size 8000 exceeds maximum"),
    pg.StatementTooComplex("54001"),
    pg.QueryCanceled("57014"),
    pg.UniqueViolation("23505"),
    pg.DataError("22000"),
    exc.OperationalError("SELECT", {}, pg.ProgramLimitExceeded("54000")),
    ValueError("not of the database"),
    TimeoutError("not of a pool"),
]


@pytest.mark.parametrize("error", OF_CONNECTION, ids=lambda error: type(error).__name__)
def test_a_later_try_may_succeed(error: Exception) -> None:
    assert is_of_connection(error)


@pytest.mark.parametrize("error", OF_ROW, ids=lambda error: type(error).__name__)
def test_every_try_fails_the_same(error: Exception) -> None:
    assert not is_of_connection(error)
