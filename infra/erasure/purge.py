"""The physical end of an erasure: what was deleted goes from the files of the database too.

PostgreSQL keeps a deleted row in its page until something else is written there, a changed key's
old version too, samples of values in its statistics, and all of it in the write-ahead log. So the
tables that held any of it are written anew, the statistics are taken anew, and the log before that
is let go. A table is not readable while it is written anew: small ones are done at once, which
takes a moment, large ones in the night.
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
"""Of tables, indexes included, that are written anew at any time of the day."""

LOCK_TIMEOUT = "2s"
"""For whoever reads a table: others would have to wait behind us for as long as we wait."""

PATIENCE_SECONDS = 2.0
"""With transactions that are under way: on a busy server there always are some."""

STREAM_GRACE_SECONDS = 1.0
"""For exports that are being read and see what was deleted; then they are ended."""

_POLL_SECONDS = 0.02

NIGHT_HOURS = 3
"""From the clean-up hour on, in which large tables may be written anew."""

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
"""Last: in it are samples of the values of all others."""

# Of a table that is empty now, ANALYZE would leave the samples that it took before.
FORGET_SAMPLES = """
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

FORGET_SAMPLES_OF = "SELECT pg_clear_attribute_stats(%s, %s, %s, %s)"
MAY_FORGET_SAMPLES = 180_000
"""Version of PostgreSQL from which on a table's owner may; before, a superuser may."""

# What was deleted stays for whoever may still see it. A snapshot is as old as the oldest of those
# transactions that were writing when it was taken, in whichever database of the server. So one of
# these has it kept, and then each snapshot of this database that was taken meanwhile; standbys may.
KEPT_FOR = """
SELECT count(*) FROM (
    SELECT greatest(age(backend_xid),
                    CASE WHEN coalesce(datname = current_database(), true)
                         THEN age(backend_xmin) END) AS age
    FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    UNION ALL SELECT age(transaction) FROM pg_prepared_xacts
    UNION ALL SELECT greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots) of
WHERE of.age > age(%s::text::xid8::xid)"""

# Whoever reads an export slowly would keep its snapshot, and its hold on the tables, for as long.
END_STREAMS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = %s AND datname = current_database()
  AND xact_start < coalesce(%s, now())"""

REMOVED, LEFT = "removed", "left to the operator"


class Purge:
    """Works as the owner of the database, which alone may write tables anew.

    Args:
        url: connection string of the owner.
        zone: in which the clean-up hour is meant.
        hour: of the day, from which large tables may be written anew.
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
        """Takes the next step of what is left to do; safe to repeat. Tables come first. Taking
        their statistics anew leaves samples of before behind, which go in a step of their own: it
        has to begin when nobody sees them any more, the caller's transaction included.

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
                waits_for = self._kept(conn, (since, "tables"), upto)
                waits_for = waits_for or self._rewrite(conn, tables, rewritten)
                return Cleaned(rewritten, waits_for, again=waits_for is None)
            waits_for = self._kept(conn, (since, "statistics"), upto)
            if waits_for is None and not _written_anew(conn, *STATISTICS):
                waits_for = "those who plan queries"
            if waits_for is not None:
                return Cleaned(rewritten, waits_for)
            self._forget(since)
            return Cleaned(rewritten, None, wal=_let_wal_go(conn))

    def clean_periods(self, since: datetime, upto: str) -> str | None:
        """Has the secrets of periods that were destroyed by an instant go from the files too; says
        what it waits for, if it does. Safe to repeat. `upto` as in `clean`."""
        schema, table = PERIOD_KEYS
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            waits_for = self._kept(conn, (since, "periods"), upto)
            if waits_for is None and not _written_anew(conn, schema, table):
                waits_for = f"those who read {schema}.{table}"
            if waits_for is None:
                _let_wal_go(conn)
                self._forget(since)
            return waits_for

    def _kept(self, conn: psycopg.Connection, what: tuple[datetime, str], upto: str) -> str | None:
        """For whom the server keeps what was deleted, in words. Of all transactions that are named
        as later the first one counts: there is no end to those that began before the last."""
        later, began = self._later.setdefault(what, upto), time.monotonic()
        while True:
            row = conn.execute(KEPT_FOR, (later,)).fetchone()
            if row is None or not row[0]:
                return None
            if time.monotonic() > began + STREAM_GRACE_SECONDS:
                _end_streams(conn, what[0])
            if time.monotonic() > began + PATIENCE_SECONDS:
                return f"{row[0]} transactions on the server that still see what was deleted"
            time.sleep(_POLL_SECONDS)

    def _forget(self, since: datetime) -> None:
        for what in list(self._later):
            if what[0] <= since:
                self._later.pop(what, None)

    def _rewrite(
        self,
        conn: psycopg.Connection,
        tables: Sequence[tuple[str, str, int]],
        rewritten: list[str],
    ) -> str | None:
        """Rewrites table after table; says what it waits for, if it does."""
        waits_for: str | None = None
        hour = self._clock().astimezone(self._zone).hour
        by_night = (hour - self._hour) % 24 < NIGHT_HOURS
        for schema, table, size in tables:
            name = f"{schema}.{table}"
            if size > self._at_once_bytes and not by_night:
                waits_for = f"{self._hour:02}:00, when {name} is written anew"
            elif not _written_anew(conn, schema, table):
                _end_streams(conn, None)
                waits_for = f"those who read {name}"
            else:
                rewritten.append(name)
        return waits_for


def _end_streams(conn: psycopg.Connection, since: datetime | None) -> None:
    """Ends exports of any process that began before an instant; None: all that there are."""
    with suppress(pg.InsufficientPrivilege):
        conn.execute(END_STREAMS, (STREAMS, since))


def _written_anew(conn: psycopg.Connection, schema: str, table: str) -> bool:
    """Writes a table and its indexes into new files, without what was deleted, and takes its
    statistics anew; False where others use it all the time."""
    name = sql.Identifier(schema, table)
    try:
        if (schema, table) != STATISTICS:
            _forget_samples(conn, {"table": name.as_string(conn)})
        conn.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(name))
    except pg.LockNotAvailable:
        return False
    return True


def _forget_samples(conn: psycopg.Connection, of: dict[str, str]) -> None:
    try:
        conn.execute(FORGET_SAMPLES, of)
    except pg.InsufficientPrivilege:
        if conn.info.server_version >= MAY_FORGET_SAMPLES:
            for column in conn.execute(SELECT_SAMPLED, of).fetchall():
                conn.execute(FORGET_SAMPLES_OF, column)


def _let_wal_go(conn: psycopg.Connection) -> str:
    """Has the write-ahead log begin anew, so that older files of it are removed."""
    try:
        conn.execute("CHECKPOINT")
        conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")
    except pg.InsufficientPrivilege:
        return LEFT
    return REMOVED


class Cleaned(msgspec.Struct, frozen=True):
    """How far a cleaning got.

    Attributes:
        rewritten: the tables whose files hold nothing deleted any more.
        waits_for: what stops it, in words; None: it is done.
        wal: `removed`, or `left to the operator`.
        again: more is to do, in a transaction that begins now.
    """

    rewritten: list[str]
    waits_for: str | None
    wal: str | None = None
    again: bool = False
