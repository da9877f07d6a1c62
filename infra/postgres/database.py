"""Connections to PostgreSQL: a pool for each role, an engine for queries, and the migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import alembic.command
import psycopg
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra import migrations
from infra.postgres.pool import BUSY_SECONDS, CONNECT_SECONDS, Pool
from infra.postgres.readers import ReadersPool

MIN_SERVER_VERSION = 150_000
_MADE_BY_ANOTHER = {"42P06", "42P07", "42710", "23505"}
# What is queried lies in memory or on solid state: a page anywhere costs little more than the next.
_PAGES_AT_HAND = "-c random_page_cost=1.1"
_MIGRATIONS = Path(migrations.__file__).parent

VERSION_TABLE = "annals_schema_version"
KNOWS_ITS_VERSION = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"
VERSIONS = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - our own name


class UnsuitableDatabase(Exception):
    """The server or the database cannot be used; the message says why and what to do."""


def as_role(conninfo: str, role: str) -> str:
    """The same database, with no more rights than a role has."""
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
"""After how long a server that no packet reaches any more is given up: 15 s."""


def within_bounds(conninfo: str) -> str:
    """The same, where nobody waits for ever for a server that is out of reach; what it says of that
    itself holds."""
    given = conninfo_to_dict(conninfo)
    return make_conninfo(
        conninfo, **{name: value for name, value in _OUT_OF_REACH.items() if name not in given}
    )


def pool(
    conninfo: str, role: str, *, size: int, name: str = "", patience: float = BUSY_SECONDS
) -> Pool:
    """An open pool of connections in a role; at most `size`, made as they are needed.

    A statement is a transaction of its own, unless it stands in `conn.transaction()`.

    Args:
        name: by which the log speaks of it; empty: the role.
        patience: seconds to wait for a connection while others use them all.
    """
    return Pool(as_role(conninfo, role), name=name or role, size=size, patience=patience)


def readers_pool(conninfo: str, role: str, *, size: int, name: str, seconds: float) -> ReadersPool:
    """The same for what readers ask: a statement takes so many seconds at most, and is cancelled
    when its reader leaves."""
    options = conninfo_to_dict(conninfo).get("options") or ""
    given = make_conninfo(conninfo, options=f"{_within(seconds)} {options}".strip())
    return ReadersPool(as_role(given, role), name=name, size=size, patience=BUSY_SECONDS)


def transaction_of(conn: psycopg.Connection) -> str:
    """The id of the transaction that a connection is in: later than that of any that had ended
    before it wrote or locked anything."""
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
        seconds: that a statement may take before the server cancels it; None: any.
        application: what the server shows as the name of its connections; None: the role.
    """
    options = conninfo_to_dict(conninfo).get("options") or ""
    given = make_conninfo(conninfo, options=f"{_PAGES_AT_HAND} {_within(seconds)} {options}")
    target = make_conninfo(as_role(given, role), application_name=application or role)
    return sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(target),
        pool_size=size,
        max_overflow=0,
        pool_timeout=patience,
        pool_pre_ping=True,
        # What is prepared, and what the server remembers, is in the connection used last.
        pool_use_lifo=True,
    )


def _within(seconds: float | None) -> str:
    return "" if seconds is None else f"-c statement_timeout={round(1_000 * seconds)}"


@contextmanager
def _owner(conninfo: str) -> Iterator[psycopg.Connection]:
    try:
        connection = psycopg.connect(conninfo, connect_timeout=10)
    except psycopg.OperationalError as error:
        reason = str(error).splitlines()[0]
        raise UnsuitableDatabase(f"cannot connect to the database: {reason}") from None
    with connection:
        yield connection


def migrate(conninfo: str) -> None:
    """Brings the schema up to date; safe when several processes start at once.

    Raises:
        UnsuitableDatabase: no connection, a server before 15, or rights that are lacking.
    """
    with _owner(conninfo) as connection:
        if connection.info.server_version < MIN_SERVER_VERSION:
            raise UnsuitableDatabase(
                f"PostgreSQL 15 or later is needed, the server is {connection.info.server_version}"
            )
        if _is_up_to_date(connection):
            return
    config = _config()
    owner = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(conninfo),
        poolclass=sa.NullPool,
    )
    for attempts_left in (3, 2, 1, 0):
        try:
            with owner.begin() as connection:
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "heads")
            return
        except (sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:
            state = getattr(error.orig, "sqlstate", None)
            if state == "42501":
                raise UnsuitableDatabase(
                    "the database's user may not create roles or schemas: give it CREATEROLE and"
                    " make it the owner of the database (docs/operating.md)"
                ) from None
            if state not in _MADE_BY_ANOTHER or not attempts_left:
                raise  # otherwise another process migrates at the same time: look again


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


@cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(_config()).get_heads())


def _is_up_to_date(connection: psycopg.Connection) -> bool:
    """Whether there is nothing to migrate: Alembic takes ten times as long to say so."""
    if connection.execute(KNOWS_ITS_VERSION).fetchone() == (False,):
        return False
    return frozenset(row[0] for row in connection.execute(VERSIONS)) == _heads()


def create_database(server: str, name: str) -> str:
    """Makes a database on a server, unless it is there; returns its connection string."""
    with psycopg.connect(server, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if known.fetchone() is None:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
            )
    return make_conninfo(server, dbname=name)
