"""The physical end of an erasure: removes deleted data from the database's files too.

PostgreSQL keeps a deleted row in its page until something else is written there. It keeps the old
version of a changed key, samples of values in its statistics, and all of it in the write-ahead log.
So the purge rewrites the tables that held any of it, takes the statistics anew, and makes
PostgreSQL remove the write-ahead log up to then. A table cannot be read while it is rewritten:
small tables are rewritten at once, which takes a moment, large ones in the night.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, tzinfo

import msgspec
import psycopg
from psycopg import errors as pg
from psycopg import sql

from infra.postgres.engines import STREAMS

AT_ONCE_BYTES = 256 * 1024**2
"""The size of a table, indexes included, up to which it is rewritten at any time of the day."""

LOCK_TIMEOUT = "2s"
"""How long the purge waits for a table's readers: other readers wait behind it meanwhile."""

PATIENCE_SECONDS = 2.0
"""How long the purge waits for transactions: a busy server always has some."""

STREAM_GRACE_SECONDS = 1.0
"""How long exports that see deleted rows may go on; then the purge ends them."""

_POLL_SECONDS = 0.02

NIGHT_HOURS = 3
"""From the clean-up hour on, in which large tables may be rewritten."""

SELECT_TABLES = """
SELECT n.nspname, c.relname, pg_total_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (
    n.nspname = 'views' AND c.relname <> ALL(ARRAY['checkpoints', 'fences', 'workers'])
    OR (n.nspname, c.relname) IN (('keys', 'subject_keys'), ('keys', 'identities'),
                                  ('log', 'snapshots'), ('log', 'saved_views')))
ORDER BY n.nspname, c.relname"""

PERIOD_KEYS = ("keys", "period_keys")

STATISTICS = ("pg_catalog", "pg_statistic")
"""Rewritten last: it holds samples of the values of all others."""

# ANALYZE keeps the old samples of a table that is empty now.
DELETE_SAMPLES = """
DELETE FROM pg_catalog.pg_statistic WHERE starelid IN (
    SELECT to_regclass(%(table)s)::oid UNION ALL
    SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass(%(table)s))"""

SELECT_SAMPLED = """
SELECT n.nspname, c.relname, a.attname, s.stainherit
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
CROSS JOIN (VALUES (false)) AS s(stainherit)
WHERE c.oid = to_regclass(%(table)s)
   OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass(%(table)s)
                AND indexprs IS NOT NULL)"""

CLEAR_SAMPLES = """
SELECT pg_clear_attribute_stats(%(schema)s, %(table)s, %(column)s, %(inherited)s)"""

OWNER_MAY_CLEAR = 180_000
"""The first version of PostgreSQL in which a table's owner may; in earlier ones a superuser may."""

# PostgreSQL keeps deleted rows for every snapshot that may see them. A snapshot is as old as the
# oldest transaction that was writing when it was taken, in any database of the server. So a writing
# transaction keeps rows, and so does each snapshot of this database taken meanwhile; standbys may.
COUNT_KEEPING = """
SELECT count(*) FROM (
    SELECT greatest(age(backend_xid),
                    CASE WHEN coalesce(datname = current_database(), true)
                         THEN age(backend_xmin) END) AS age
    FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    UNION ALL SELECT age(transaction) FROM pg_prepared_xacts
    UNION ALL SELECT greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots) of
WHERE of.age > age(%(later)s::text::xid8::xid)"""

# An export that is read slowly keeps its snapshot, and its locks on the tables, as long.
END_STREAMS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = %(application)s AND datname = current_database()
  AND xact_start < coalesce(%(since)s, now())"""

REMOVED, LEFT = "removed", "left to the operator"
"""The state of the write-ahead log."""


class Cleaned(msgspec.Struct, frozen=True):
    """How far a cleaning is.

    Attributes:
        rewritten: the tables whose files hold no deleted data.
        waits_for: what it waits for, in words; None: nothing.
        wal: `removed`, or `left to the operator`.
        again: the next step can follow at once, in a new transaction.
    """

    rewritten: list[str]
    waits_for: str | None
    wal: str | None = None
    again: bool = False


class Purge:
    """Works as the owner of the database: no other role may rewrite tables.

    Args:
        url: connection string of the owner.
        zone: in which the clean-up hour is meant.
        hour: of the day, from which large tables may be rewritten.
    """

    def __init__(
        self,
        url: str,
        *,
        zone: tzinfo,
        hour: int,
        clock: Callable[[], datetime],
        at_once_bytes: int = AT_ONCE_BYTES,
    ) -> None:
        self._url = url
        self._zone = zone
        self._hour = hour
        self._clock = clock
        self._at_once_bytes = at_once_bytes
        self._later: dict[tuple[datetime, str], str] = {}

    def clean(self, since: datetime, done: Sequence[str], upto: str) -> Cleaned:
        """Takes the next step of the cleaning; safe to repeat. Tables come first. Statistics come
        in a step of their own, as taking them anew leaves samples behind: that step must begin when
        no transaction sees these any more, the caller's own included.

        Args:
            since: by when everything was deleted.
            done: the tables that were rewritten since then.
            upto: the id of a transaction that began later, the caller's own.
        """
        rewritten = list(done)
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            tables = [
                (schema, table, size)
                for schema, table, size in conn.execute(SELECT_TABLES).fetchall()
                if f"{schema}.{table}" not in done
            ]
            if tables:
                waits_for = self._wait_for_snapshots(conn, (since, "tables"), upto)
                waits_for = waits_for or self._rewrite(conn, tables, rewritten)
                return Cleaned(rewritten, waits_for, again=waits_for is None)
            waits_for = self._wait_for_snapshots(conn, (since, "statistics"), upto)
            if waits_for is None and not _rewritten(conn, *STATISTICS):
                waits_for = "transactions that plan queries"
            if waits_for is not None:
                return Cleaned(rewritten, waits_for)
            self._forget_steps(since)
            return Cleaned(rewritten, None, wal=_remove_wal(conn))

    def clean_periods(self, since: datetime, upto: str) -> str | None:
        """Removes the secrets of months, destroyed by an instant, from the files too; returns what
        it waits for, or None. Safe to repeat.

        Args:
            since, upto: as in `clean`.
        """
        schema, table = PERIOD_KEYS
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            waits_for = self._wait_for_snapshots(conn, (since, "periods"), upto)
            if waits_for is None and not _rewritten(conn, schema, table):
                waits_for = f"readers of {schema}.{table}"
            if waits_for is None:
                _remove_wal(conn)
                self._forget_steps(since)
            return waits_for

    def _wait_for_snapshots(
        self, conn: psycopg.Connection, step: tuple[datetime, str], upto: str
    ) -> str | None:
        """Waits a moment for the transactions for which PostgreSQL keeps deleted rows; returns how
        many are left, in words, or None.

        Remembers the first transaction id of a step; taking the newest would never finish on a
        busy server.
        """
        later, began = self._later.setdefault(step, upto), time.monotonic()
        while True:
            row = conn.execute(COUNT_KEEPING, {"later": later}).fetchone()
            if row is None or not row[0]:
                return None
            if time.monotonic() > began + STREAM_GRACE_SECONDS:
                _end_streams(conn, step[0])
            if time.monotonic() > began + PATIENCE_SECONDS:
                return f"{row[0]} transactions on the server that still see deleted rows"
            time.sleep(_POLL_SECONDS)

    def _forget_steps(self, since: datetime) -> None:
        for step in list(self._later):
            if step[0] <= since:
                self._later.pop(step, None)

    def _rewrite(
        self,
        conn: psycopg.Connection,
        tables: Sequence[tuple[str, str, int]],
        rewritten: list[str],
    ) -> str | None:
        """Rewrites table after table and adds each to `rewritten`; returns what it waits for, or
        None."""
        waits_for: str | None = None
        hour = self._clock().astimezone(self._zone).hour
        is_night = (hour - self._hour) % 24 < NIGHT_HOURS
        for schema, table, size in tables:
            name = f"{schema}.{table}"
            if size > self._at_once_bytes and not is_night:
                waits_for = f"{self._hour:02}:00, when {name} is rewritten"
            elif not _rewritten(conn, schema, table):
                _end_streams(conn, None)
                waits_for = f"readers of {name}"
            else:
                rewritten.append(name)
        return waits_for


def _end_streams(conn: psycopg.Connection, since: datetime | None) -> None:
    """Ends the exports, of any process, that began before an instant; None: all of them."""
    with suppress(pg.InsufficientPrivilege):
        conn.execute(END_STREAMS, {"application": STREAMS, "since": since})


def _rewritten(conn: psycopg.Connection, schema: str, table: str) -> bool:
    """Writes a table and its indexes into new files, without deleted rows, and takes its statistics
    anew; False: others use it all the time."""
    name = sql.Identifier(schema, table)
    try:
        if (schema, table) != STATISTICS:
            _delete_samples(conn, name.as_string(conn))
        conn.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(name))
    except pg.LockNotAvailable:
        return False
    return True


def _delete_samples(conn: psycopg.Connection, table: str) -> None:
    """Deletes a table's statistics, with the means that this role and server have."""
    try:
        conn.execute(DELETE_SAMPLES, {"table": table})
    except pg.InsufficientPrivilege:
        if conn.info.server_version >= OWNER_MAY_CLEAR:
            sampled = conn.execute(SELECT_SAMPLED, {"table": table}).fetchall()
            for schema, name, column, inherited in sampled:
                params = {"schema": schema, "table": name, "column": column, "inherited": inherited}
                conn.execute(CLEAR_SAMPLES, params)


def _remove_wal(conn: psycopg.Connection) -> str:
    """Begins the write-ahead log anew, so that PostgreSQL removes its older files; returns
    `REMOVED` or `LEFT`."""
    try:
        conn.execute("CHECKPOINT")
        conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")
    except pg.InsufficientPrivilege:
        return LEFT
    return REMOVED
