"""A server that is not ours: what rights the database's user needs there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra import embedded
from infra.migrations import upgrade
from infra.postgres import database

pytestmark = pytest.mark.database  # each starts a server of its own

ROLES = ("annals_log", "annals_keys", "annals_views")


@pytest.fixture(scope="module")
def fresh_server() -> Iterator[str]:
    """A server on which the roles of Annals were never made."""
    folder = Path(tempfile.mkdtemp(prefix="ann-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        with embedded.running(folder) as url:
            yield url
    finally:
        embedded.remove(folder)
        shutil.rmtree(folder)


def owner_of_a_database(server: str, name: str, rights: str) -> str:
    """A user who is no superuser, and a database of that user's own."""
    with psycopg.connect(server, autocommit=True) as conn:
        user = sql.Identifier(name)
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN {}").format(user, sql.SQL(rights)))
        conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(user, user))
    return make_conninfo(server, user=name, dbname=name)


def roles_that_open(conninfo: str) -> set[str]:
    opening = set()
    for role in ROLES:
        with psycopg.connect(database.as_role(conninfo, role)) as conn:
            row = conn.execute("SELECT current_user").fetchone()
            opening.add(row[0] if row else None)
    return opening


def test_an_owner_who_may_create_roles_needs_nothing_else_and_others_are_let_in_by_a_grant(
    fresh_server: str,
) -> None:
    first = owner_of_a_database(fresh_server, "first_owner", "CREATEROLE")
    upgrade.migrate(first)
    assert roles_that_open(first) == set(ROLES)

    second = owner_of_a_database(fresh_server, "second_owner", "")
    with pytest.raises(upgrade.UnsuitableDatabase, match="CREATEROLE"):
        upgrade.migrate(second)
    with psycopg.connect(fresh_server, autocommit=True) as conn:
        conn.execute("GRANT annals_log, annals_keys, annals_views TO second_owner")
    upgrade.migrate(second)
    assert roles_that_open(second) == set(ROLES)
