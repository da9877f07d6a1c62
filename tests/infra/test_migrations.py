"""The schema keeps the rules that let one code base serve one machine and many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory

from infra import migrations
from infra.migrations import upgrade
from infra.postgres import database
from tests.processes import Process

BIG = {
    "log.events", "log.heads", "log.message_ids", "log.snapshots",
    "keys.subject_keys", "keys.identities", "keys.erasures", "keys.erasure_targets",
    "keys.suppressed", "keys.holds",
    "views.contacts", "views.seen", "views.memberships", "views.activity_days", "views.merges",
    "views.bar_counts", "views.search_entries",
}  # fmt: skip
SMALL = {
    "keys.key_encryption_keys", "keys.period_keys", "keys.retention_runs",
    "log.catalogue", "log.defaults", "log.saved_views", "log.destinations",
    "keys.secrets", "keys.generation", "keys.api_keys",
    "keys.erasure_requests", "keys.erasure_tokens", "keys.erasure_mentions", "keys.erasure_names",
    "keys.place",
    "keys.refused_attempts", "keys.replacements",
    "views.workers",
    "views.fences", "views.names", "views.catalogue", "views.segments", "views.changes_due",
    "views.definitions", "views.definition_versions",
    "views.deciding", "views.sweeps", "views.pasts", "views.filter_values", "views.filter_ranges",
    "views.filter_states", "views.counters",
}  # fmt: skip
BY_PROJECTOR = {"views.checkpoints", "views.parked"}
ROLES = {"annals_log": "log", "annals_keys": "keys", "annals_views": "views"}

TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('log', 'keys', 'views') AND c.relkind IN ('r', 'p')"""
UNIQUE_KEYS = """
SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text,
       array_agg(a.attname::text ORDER BY k.place)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('log', 'keys', 'views')
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY k(attnum, place)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE i.indisunique GROUP BY 1, 2"""


FOREIGN_KEYS = """
SELECT k.conname, here.attname, there.attname FROM pg_constraint k
JOIN pg_attribute here ON here.attrelid = k.conrelid AND here.attnum = k.conkey[1]
JOIN pg_attribute there ON there.attrelid = k.confrelid AND there.attnum = k.confkey[1]
WHERE k.contype = 'f'"""


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def column(conn: psycopg.Connection, query: str) -> set[object]:
    return {row[0] for row in conn.execute(query)}


def test_every_table_is_known_to_be_big_or_small(conn: psycopg.Connection) -> None:
    tables = column(conn, TABLES)
    assert tables >= BIG
    for name in tables - BIG - SMALL - BY_PROJECTOR:  # a new table is big unless it is listed above
        keys = [columns for table, _, columns in conn.execute(UNIQUE_KEYS) if table == name]
        assert keys, f"{name} has no key"
        assert all(columns[0] == "log_partition" for columns in keys), name


def test_the_partition_comes_first_in_every_key_of_a_big_table(conn: psycopg.Connection) -> None:
    keys = list(conn.execute(UNIQUE_KEYS))
    assert {table for table, _, _ in keys} >= BIG
    for table, index, columns in keys:
        if table in BIG:
            assert columns[0] == "log_partition", index
        if table in BY_PROJECTOR:
            assert columns[:2] == ["projector", "log_partition"], index


def test_the_partition_comes_first_in_every_foreign_key(conn: psycopg.Connection) -> None:
    keys = conn.execute(FOREIGN_KEYS).fetchall()
    assert [(name, here, there) for name, here, there in keys if here != there] == []
    assert [name for name, here, _ in keys if here != "log_partition"] == []


def test_there_are_no_sequences_identities_triggers_or_rules(conn: psycopg.Connection) -> None:
    ours = "('log', 'keys', 'views')"
    assert column(conn, "SELECT sequencename FROM pg_sequences") == set()
    assert column(conn, "SELECT attname FROM pg_attribute WHERE attidentity <> ''") == set()
    assert column(conn, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == set()
    assert column(conn, f"SELECT rulename FROM pg_rules WHERE schemaname IN {ours}") == set()
    assert not column(
        conn,
        "SELECT attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
        f" JOIN pg_namespace n ON n.oid = relnamespace AND nspname IN {ours}"
        " WHERE atttypid IN ('xid'::regtype, 'xid8'::regtype, 'tid'::regtype,"
        " 'pg_snapshot'::regtype) AND attnum > 0",
    )


def test_the_log_can_only_be_added_to(conn: psycopg.Connection) -> None:
    conn.execute("SET ROLE annals_log")
    conn.execute("SELECT FROM log.events")
    for statement in (
        "UPDATE log.events SET topic = topic",
        "DELETE FROM log.events",
        "TRUNCATE log.events",
        "SELECT FROM log.events FOR UPDATE",
        "ALTER TABLE log.events DISABLE TRIGGER ALL",
        "DROP TABLE log.events",
        "DELETE FROM log.heads",
        "INSERT INTO log.heads VALUES (256, 0, '')",
        "TRUNCATE log.heads",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement)


def test_no_role_can_change_what_the_ledgers_hold(conn: psycopg.Connection) -> None:
    conn.execute("SET ROLE annals_keys")
    for table in ("subject_keys", "erasures", "secrets", "generation"):
        for statement in (f"DELETE FROM keys.{table}", f"TRUNCATE keys.{table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_its_own_schema_alone(conn: psycopg.Connection, role: str) -> None:
    tables = column(conn, TABLES)
    conn.execute(f"SET ROLE {role}")
    for table in tables:
        schema = str(table).partition(".")[0]
        if schema == ROLES[role]:
            conn.execute(f"SELECT FROM {table} LIMIT 1")
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"SELECT FROM {table} LIMIT 1")
    for schema in ROLES.values():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f"CREATE TABLE {schema}.extra ()")


def test_nobody_else_sees_anything(conn: psycopg.Connection) -> None:
    granted = column(
        conn,
        "SELECT grantee FROM information_schema.role_table_grants"
        " WHERE table_schema IN ('log', 'keys', 'views')",
    )
    assert granted == {*ROLES, "postgres"}


def test_there_is_a_head_for_each_partition(conn: psycopg.Connection) -> None:
    assert column(conn, "SELECT log_partition FROM log.heads") == set(range(256))


def test_the_newest_migration_is_the_head_of_the_chain() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_heads() == [upgrade.newest_revision()]


def migrate_when_told(url: str) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    upgrade.migrate(url)


def test_processes_that_migrate_an_empty_database_at_once_all_succeed(
    server: str, database_url: str
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"] + "_empty"
    url = database.create_database(server, name)
    try:
        with ExitStack() as stack:
            processes = [stack.enter_context(Process(migrate_when_told, url)) for _ in range(3)]
            for process in processes:
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                process.tell("go")
            assert [process.wait() for process in processes] == [0, 0, 0]
        with psycopg.connect(url) as migrated, psycopg.connect(database_url) as template:
            assert column(migrated, TABLES) == column(template, TABLES)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
