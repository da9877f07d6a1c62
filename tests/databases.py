"""Migrated databases for the tests: copied from one, as to run all migrations takes longer than
most tests, and used by one test after another, as connections take longest of all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.migrations import upgrade
from infra.postgres import database, pools
from infra.postgres.pools import Pools
from infra.settings import Settings

TEMPLATE = f"annals_template_{os.getpid()}"
"""Of this process: nobody may be connected to one while it is copied."""

USES = 40
"""Of one database. Each leaves dead rows behind."""


def make_template(server: str) -> str:
    """Returns the server."""
    upgrade.migrate(database.create_database(server, TEMPLATE))
    return server


def copy_template(conn: psycopg.Connection, name: str) -> None:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    conn.execute(create.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))


@contextmanager
def migrated(server: str) -> Iterator[str]:
    """A database of one's own, for as long as the block lasts, on a server with a template."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as conn:
        while _left:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(_left.pop()))
        copy_template(conn, name)
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        _left.append(sql.Identifier(name))


_left: list[sql.Identifier] = []
"""Databases that nobody uses any more, dropped before the next is made: PostgreSQL waits for 100 ms
at a time where a connection has not quite ended. The last ones go with the server."""


class Database:
    """A migrated database that tests use one after another: each finds it as it was migrated.

    Attributes:
        url: its connection string.
        pools: open pools, whose connections know the database already.
    """

    def __init__(self, server: str) -> None:
        self._stack = ExitStack()
        self.url = self._stack.enter_context(migrated(server))
        self.pools: Pools = self._stack.enter_context(pools.opened(self.url, 4, Settings()))
        self._conn = self._stack.enter_context(
            psycopg.connect(
                self.url,
                autocommit=True,
                options="-c session_replication_role=replica -c lock_timeout=1000",
            )
        )
        self._schema = self._conn.execute(_SCHEMA).fetchone()
        tables = [sql.Identifier(*name) for name in self._conn.execute(_TABLES).fetchall()]
        deletes = [
            sql.SQL("{} AS (DELETE FROM {})").format(sql.Identifier(f"d{number}"), table)
            for number, table in enumerate(tables)
        ]
        self._delete = sql.SQL("WITH {} SELECT").format(sql.SQL(", ").join(deletes))
        self._rows = [(table, rows) for table in tables if (rows := self._copied(table))]
        self._uses = 0

    def _copied(self, table: sql.Identifier) -> bytes:
        with (
            self._conn.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} TO STDOUT").format(table)) as copy,
        ):
            return b"".join(copy)

    def restore(self) -> bool:
        """Makes it as it was migrated. Returns False where that is not possible: the schema is
        another one, or somebody still uses it."""
        self._uses += 1
        if self._uses == USES or not _is_idle(self.pools):
            return False
        try:
            with self._conn.transaction():
                self._conn.execute(self._delete, prepare=True)
                for table, rows in self._rows:
                    with (
                        self._conn.cursor() as cursor,
                        cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy,
                    ):
                        copy.write(rows)
            return self._conn.execute(_SCHEMA, prepare=True).fetchone() == self._schema
        except psycopg.Error:
            return False

    def close(self) -> None:
        self._stack.close()


_TABLES = """
SELECT relnamespace::regnamespace::text, relname FROM pg_class
WHERE relkind = 'r' AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
ORDER BY oid
"""
_SCHEMA = """
SELECT (SELECT sum(hashtextextended(concat(oid, relname, relacl, reloptions), 0)) FROM pg_class
        WHERE relnamespace <> 'pg_toast'::regnamespace),
       (SELECT sum(hashtextextended(concat(attrelid, attname, atttypid, attnum), 0))
        FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0),
       (SELECT sum(hashtextextended(concat(oid, tgenabled), 0)) FROM pg_trigger),
       (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_proc),
       (SELECT count(*) FROM pg_db_role_setting)
"""


def _is_idle(pools: Pools) -> bool:
    """Whether all connections of pools can be used by others."""
    workers = pools.workers
    of_requests = (pools.intake, pools.keys, pools.access, pools.reading, pools.views)
    of_workers = (pools.listening, workers.log, workers.keys, workers.views)
    for pool in (*of_requests, *of_workers):
        stats = pool.get_stats()
        if (
            pool.closed
            or stats["pool_available"] != stats["pool_size"]
            or stats["requests_waiting"]
        ):
            return False
    readers = pools.readers
    engines = (readers.queries, readers.long, readers.streams, workers.queries)
    return all(
        isinstance(engine.pool, sa.QueuePool) and engine.pool.checkedout() == 0
        for engine in engines
    )


_idle: list[Database] = []


@contextmanager
def lent(server: str) -> Iterator[Database]:
    """A database for one test."""
    database = _idle.pop() if _idle else Database(server)
    try:
        yield database
    finally:
        if database.restore():
            _idle.append(database)
        else:
            database.close()


def close_idle() -> None:
    while _idle:
        _idle.pop().close()
