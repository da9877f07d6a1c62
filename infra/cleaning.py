"""The physical end of an erasure: what was deleted goes from the files of the database too.

PostgreSQL keeps a deleted row in its page until something else is written there, a changed key's
old version too, samples of values in its statistics, and all of it in the write-ahead log. So the
tables that held any of it are written anew, the statistics are taken anew, and the log before that
is let go. A table is not readable while it is written anew: small ones are done at once, which
takes a moment, large ones in the night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo

import psycopg
from psycopg import errors as pg
from psycopg import sql

from infra.erasures import Cleaned

AT_ONCE_BYTES = 256 * 1024**2
"""Of tables, indexes included, that are written anew at any time of the day."""

LOCK_TIMEOUT = "2s"
"""For whoever reads a table: others would have to wait behind us for as long as we wait."""

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

STATISTICS = ("pg_catalog", "pg_statistic")
"""Last: in it are samples of the values of all others."""

# Whoever began before can still see what was deleted, so that it would be kept for them.
STILL_SEEING = """
SELECT count(*), min(xact_start) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < %s
  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"""

REMOVED, LEFT = "removed", "left to the operator"


class Cleaner:
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

    def clean(self, since: datetime, done: Sequence[str]) -> Cleaned:
        """Rewrites what is left to do; safe to repeat.

        Args:
            since: by when everything was deleted.
            done: the tables that were rewritten since then.
        """
        with psycopg.connect(self._url, autocommit=True) as conn:
            row = conn.execute(STILL_SEEING, (since,)).fetchone()
            if row is not None and row[0]:
                return Cleaned(
                    list(done),
                    f"{row[0]} transactions that began before {row[1]:%Y-%m-%dT%H:%M:%S%z}"
                    " and still see what was deleted",
                )
            conn.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            rewritten = list(done)
            waits_for = self._rewrite(conn, rewritten)
            if waits_for is not None:
                return Cleaned(rewritten, waits_for)
            return Cleaned(rewritten, None, _let_wal_go(conn))

    def _rewrite(self, conn: psycopg.Connection, rewritten: list[str]) -> str | None:
        """Rewrites table after table; says what it waits for, if it does."""
        waits_for: str | None = None
        hour = self._clock().astimezone(self._zone).hour
        by_night = (hour - self._hour) % 24 < NIGHT_HOURS
        for schema, table, size in conn.execute(SELECT_TABLES).fetchall():
            name = f"{schema}.{table}"
            if name in rewritten:
                continue
            if size > self._at_once_bytes and not by_night:
                waits_for = f"{self._hour:02}:00, when {name} is written anew"
                continue
            if not _written_anew(conn, schema, table):
                waits_for = f"those who read {name}"
                continue
            rewritten.append(name)
        if waits_for is None and not _written_anew(conn, *STATISTICS):
            waits_for = "those who plan queries"
        return waits_for


def _written_anew(conn: psycopg.Connection, schema: str, table: str) -> bool:
    """Writes a table and its indexes into new files, without what was deleted, and takes its
    statistics anew; False where others use it all the time."""
    statement = sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(schema, table))
    try:
        conn.execute(statement)
    except pg.LockNotAvailable:
        return False
    return True


def _let_wal_go(conn: psycopg.Connection) -> str:
    """Has the write-ahead log begin anew, so that older files of it are removed."""
    try:
        conn.execute("CHECKPOINT")
        conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")
    except pg.InsufficientPrivilege:
        return LEFT
    return REMOVED
