"""Connections to PostgreSQL: pools and engines by role, and new databases."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.postgres.pool import BUSY_SECONDS, CONNECT_SECONDS, Pool, is_open
from infra.postgres.readers import ReadersPool

# Read models lie in memory or on solid state: a random page costs little more than the next one.
_PAGES_AT_HAND = "-c random_page_cost=1.1"


def as_role(conninfo: str, role: str) -> str:
    """The same database, with the rights of a role only."""
    given = conninfo_to_dict(conninfo)
    options = given.get("options") or ""
    return make_conninfo(
        conninfo,
        options=f"{options} -c role={role} -c timezone=UTC -c client_encoding=UTF8".strip(),
        application_name=role,
        connect_timeout=given.get("connect_timeout") or CONNECT_SECONDS,
    )


_OUT_OF_REACH = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
}
"""Gives up a server that no packet reaches any more after 15 s."""


def within_bounds(conninfo: str) -> str:
    """The same with time-outs, so that no caller waits for ever for a server that is out of reach;
    time-outs that it has already stay."""
    given = conninfo_to_dict(conninfo)
    return make_conninfo(
        conninfo, **{name: value for name, value in _OUT_OF_REACH.items() if name not in given}
    )


def pool(
    conninfo: str, role: str, *, size: int, name: str = "", patience: float = BUSY_SECONDS
) -> Pool:
    """An open pool of connections in a role, in autocommit mode, made as they are needed.

    Args:
        size: most connections.
        name: in log events; empty: the role.
        patience: seconds that a caller waits for a connection while others use all of them.
    """
    return Pool(as_role(conninfo, role), name=name or role, size=size, patience=patience)


def readers_pool(conninfo: str, role: str, *, size: int, name: str, seconds: float) -> ReadersPool:
    """As `pool`, for readers: a statement is cancelled after `seconds`, and when its reader
    leaves."""
    options = conninfo_to_dict(conninfo).get("options") or ""
    given = make_conninfo(conninfo, options=f"{_within(seconds)} {options}".strip())
    return ReadersPool(as_role(given, role), name=name, size=size, patience=BUSY_SECONDS)


def transaction_of(conn: psycopg.Connection) -> str:
    """The id of the current transaction of a connection: later than that of any transaction that
    ended before this one wrote or locked anything."""
    row = conn.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    id: str = row[0]
    return id


def engine(
    conninfo: str,
    role: str,
    *,
    size: int,
    patience: float = BUSY_SECONDS,
    seconds: float | None = None,
    application: str | None = None,
) -> sa.Engine:
    """A SQLAlchemy engine for queries in a role, over psycopg.

    Args:
        patience: as in `pool`.
        seconds: a statement is cancelled after so many; None: never.
        application: the name of the connections that the server shows; None: the role.
    """
    options = conninfo_to_dict(conninfo).get("options") or ""
    given = make_conninfo(conninfo, options=f"{_PAGES_AT_HAND} {_within(seconds)} {options}")
    target = make_conninfo(as_role(given, role), application_name=application or role)
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(target),
        pool_size=size,
        max_overflow=0,
        pool_timeout=patience,
        # The connection used last has the prepared statements and the warm caches.
        pool_use_lifo=True,
    )
    sa.event.listen(engine, "checkout", _require_open)
    return engine


def _require_open(conn: psycopg.Connection, *_: object) -> None:
    """Has the pool make another connection in place of one that the server ended."""
    if not is_open(conn):
        raise sa.exc.InvalidatePoolError


def _within(seconds: float | None) -> str:
    return "" if seconds is None else f"-c statement_timeout={round(1_000 * seconds)}"


def create_database(server: str, name: str) -> str:
    """Creates a database on a server, unless it exists; returns its connection string."""
    with psycopg.connect(server, autocommit=True) as connection:
        existing = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if existing.fetchone() is None:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
            )
    return make_conninfo(server, dbname=name)
