"""Migrated databases, copied from one: to run all migrations takes longer than most tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.migrations import upgrade
from infra.postgres import database

TEMPLATE = f"annals_template_{os.getpid()}"
"""Of this process: nobody may be connected to one while it is copied."""


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
