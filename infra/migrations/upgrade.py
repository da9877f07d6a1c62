"""Brings the schema of a database up to date, by Alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa

from infra import migrations

MIN_SERVER_VERSION = 150_000
_MADE_BY_ANOTHER = {"42P06", "42P07", "42710", "23505"}
"""SQLSTATEs of a migration that another process ran at the same time."""

_MIGRATIONS = Path(migrations.__file__).parent
_VERSIONS = _MIGRATIONS / "versions"

VERSION_TABLE = "annals_schema_version"

HAS_VERSION_TABLE = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"

SELECT_VERSIONS = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - our own name


class UnsuitableDatabase(Exception):
    """The server or the database cannot be used; the message says why and what to do."""


@contextmanager
def _owner(conninfo: str) -> Iterator[psycopg.Connection]:
    try:
        connection = psycopg.connect(conninfo, connect_timeout=10)
    except psycopg.OperationalError as error:
        reason = str(error).splitlines()[0]
        raise UnsuitableDatabase(f"cannot connect to the database: {reason}") from None
    with connection:
        yield connection


def migrate(conninfo: str) -> bool:
    """Brings the schema up to date; safe for several processes at once.

    Returns:
        Whether it was that of an older version.

    Raises:
        UnsuitableDatabase: no connection, PostgreSQL before 15, or missing rights.
    """
    with _owner(conninfo) as connection:
        if connection.info.server_version < MIN_SERVER_VERSION:
            raise UnsuitableDatabase(
                f"PostgreSQL 15 or later is needed, the server is {connection.info.server_version}"
            )
        is_new = connection.execute(HAS_VERSION_TABLE).fetchone() == (False,)
        if not is_new and _is_up_to_date(connection):
            return False
    _upgrade(conninfo)
    return not is_new


def newest_revision() -> str:
    """The revision of the newest migration: they are one chain, and their files begin with it."""
    return max(path.name for path in _VERSIONS.glob("[0-9]*.py")).partition("_")[0]


def _upgrade(conninfo: str) -> None:
    # Most starts find nothing to migrate, and Alembic takes long to import.
    import alembic.command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
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
                raise  # otherwise another process migrates at the same time: try again


def _is_up_to_date(connection: psycopg.Connection) -> bool:
    """Whether there is nothing to migrate; ten times as fast as Alembic."""
    return connection.execute(SELECT_VERSIONS).fetchall() == [(newest_revision(),)]
