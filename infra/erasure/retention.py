"""Retention by age: ends the months of tracked activity that are over.

A run begins with a line through the log: its position in each partition at that moment. From then
on no activity of the run's months is accepted, and activity appended behind the line is not kept.
The run sums the activity, partition by partition (`infra.erasure.activity_sums`). Once the read
models have passed the line, it destroys the secrets of the months: all of the activity is
unreadable at once. A run that a process left unfinished is resumed by the next one that looks, each
step by one worker at a time.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import datetime

import msgspec
import psycopg
import structlog
from psycopg.rows import class_row, dict_row
from psycopg_pool import ConnectionPool

from domain.definitions.retention import (
    UPKEEP,
    Counts,
    Retention,
    RetentionRun,
    kept_since,
)
from domain.errors import Conflict
from domain.events.schema import MONTH_KEYS_VERSION
from domain.identity import LOG_PARTITIONS
from domain.workspace.workspace import Workspace
from infra.erasure.activity_sums import ACTIVITY_TOPICS, ActivitySums
from infra.erasure.ledger import Ledger, RetentionEntry
from infra.erasure.legal_holds import any_held
from infra.erasure.purge import Purge
from infra.keys.key_ring import KeyRing
from infra.keys.month_keys import DESTROY_PERIODS
from infra.keys.rotation import MOVE_GENERATION
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.postgres.database import transaction_of
from projections.projector import retention as read_models

BEGIN_RUN = """
INSERT INTO keys.retention_runs (id, ends, counts, requested_by, lines)
VALUES (%(id)s, %(ends)s, %(counts)s, %(by)s, %(lines)s) ON CONFLICT DO NOTHING"""

LOCK_RUN = """
SELECT id, ends, counts, lines, partitions, destroyed_at
FROM keys.retention_runs WHERE completed_at IS NULL FOR UPDATE SKIP LOCKED"""

IS_UNDER_WAY = """
SELECT EXISTS (SELECT FROM keys.retention_runs WHERE completed_at IS NULL)"""

SELECT_RUNS = """
SELECT id, ends, counts, requested_by, requested_at, partitions, events, unsealed, sums,
       destroyed_at, completed_at, waits_for
FROM keys.retention_runs ORDER BY ends DESC"""

SET_SUMMED = """
UPDATE keys.retention_runs
SET partitions = %(partitions)s, events = events + %(events)s, unsealed = unsealed + %(unsealed)s,
    sums = sums + %(sums)s, waits_for = NULL
WHERE id = %(id)s"""

SET_WAITING = "UPDATE keys.retention_runs SET waits_for = %(waits_for)s WHERE id = %(id)s"

SET_DESTROYED = """
UPDATE keys.retention_runs SET destroyed_at = now(), waits_for = NULL WHERE id = %(id)s"""

SELECT_DESTROYED_AT = "SELECT destroyed_at FROM keys.retention_runs WHERE id = %(id)s"

SET_COMPLETED = """
UPDATE keys.retention_runs SET completed_at = now(), waits_for = NULL WHERE id = %(id)s"""

COUNT_ACTIVITY = """
SELECT count(*), count(*) FILTER (WHERE schema_version < %(sealed_from)s) FROM log.events
WHERE topic = ANY(%(topics)s) AND occurred_at >= %(since)s AND occurred_at < %(ends)s"""

log = structlog.get_logger()


class _OpenRun(msgspec.Struct, frozen=True):
    """A run that is not completed, and that this worker holds.

    Attributes:
        lines: the position of the run's line in each partition.
        partitions: how many are summed.
    """

    id: uuid.UUID
    ends: datetime
    counts: str
    lines: list[int]
    partitions: int
    destroyed_at: datetime | None


def _ignore_progress(_: int) -> None:
    """The default of `progress`."""


class RetentionRuns:
    """Thread-safe; one instance per process.

    Args:
        pool: of the keys. log_pool: of the log. views: of the read models.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        sealer: Sealer,
        keys: KeyRing,
        pool: ConnectionPool,
        log_pool: ConnectionPool,
        views: ConnectionPool,
        workspace: Callable[[], Workspace],
        purge: Purge,
        ledger: Ledger,
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._keys = keys
        self._pool = pool
        self._log_pool = log_pool
        self._views = views
        self._workspace = workspace
        self._purge = purge
        self._ledger = ledger
        self._sums = ActivitySums(
            log=log,
            sealer=sealer,
            keys=keys,
            log_pool=log_pool,
            views=views,
            workspace=workspace,
        )

    def runs(self) -> list[RetentionRun]:
        """All recorded runs, newest first."""
        with self._pool.connection() as conn:
            rows = conn.cursor(row_factory=dict_row).execute(SELECT_RUNS).fetchall()
        return [RetentionRun(**row | {"counts": Counts(row["counts"])}) for row in rows]

    def upkeep(self, now: datetime, stop: threading.Event | None = None) -> None:
        """Begins a run if one is due and no legal hold forbids it, and resumes the run that is
        under way, until told to stop."""
        retention = self._workspace().retention
        if (
            retention is not None
            and self.due(now, retention) is not None
            and self.legal_hold() is None
        ):
            self.begin(kept_since(now, retention.months), retention.counts, by=UPKEEP)
        self.go_on(stop=stop)

    def due(self, now: datetime, retention: Retention) -> datetime | None:
        """The end of the last month that is over and not ended yet; None: there is none."""
        self._keys.refresh()
        ends = kept_since(now, retention.months)
        return ends if ends > self._sealer.kept().taken_since else None

    def legal_hold(self) -> str | None:
        """The reason of the oldest legal hold, which forbids all runs; None: there is none."""
        with self._pool.connection() as conn:
            return any_held(conn)

    def count(self, ends: datetime) -> tuple[int, int]:
        """How much activity a run would end, and how much of it has no key of its month."""
        self._keys.refresh()
        params = {
            "sealed_from": MONTH_KEYS_VERSION,
            "topics": ACTIVITY_TOPICS,
            "since": self._sealer.kept().since,
            "ends": ends,
        }
        with self._log_pool.connection() as conn:
            row = conn.execute(COUNT_ACTIVITY, params).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def begin(self, ends: datetime, counts: Counts, *, by: str) -> None:
        """Draws the line of a run, unless one is under way.

        Raises:
            Conflict: a legal hold forbids it.
        """
        with self._log.held() as heads, self._pool.connection() as conn, conn.transaction():
            conn.execute(MOVE_GENERATION)
            reason = any_held(conn)
            if reason is not None:
                raise Conflict(f"a legal hold forbids it, for {reason}: release it first")
            lines = [heads[partition] for partition in range(LOG_PARTITIONS)]
            _begin(conn, uuid.uuid4(), ends, counts, by, lines)
        self._keys.refresh()

    def repeat(self, run: RetentionEntry) -> None:
        """Carries out a run of the ledger that a restored database lacks, or lacks the end of.
        Call it before anything is served, with the read models empty."""
        with self._log.held() as heads, self._pool.connection() as conn, conn.transaction():
            conn.execute(MOVE_GENERATION)
            lines = [min(heads[partition], line) for partition, line in enumerate(run.lines)]
            _begin(conn, run.id, run.ends, run.counts, run.requested_by, lines)
        self._keys.refresh()
        while self._sum_next():
            pass
        self._end(despite_holds=True)
        log.warning("retention.repeated", ends=f"{run.ends:%Y-%m-%d}")

    def go_on(
        self,
        progress: Callable[[int], None] = _ignore_progress,
        stop: threading.Event | None = None,
    ) -> str | None:
        """Carries out every step that can be done now of the run that is under way, if there is
        one; returns what it waits for, or None.

        Args:
            progress: is called with the number of partitions that are summed since.
            stop: when set, the run is left after the partition that is being summed.
        """
        while summed := self._sum_next():
            progress(summed)
            if stop is not None and stop.is_set():
                return None
        with self._pool.connection() as conn:
            if conn.execute(IS_UNDER_WAY).fetchone() == (False,):
                return None
        waits_for = self._end()
        if waits_for is None:
            self._ledger.keep()
        return waits_for

    def _sum_next(self) -> int:
        """Sums the next partition that has events, and with it those before it that have none.
        Returns the number of these partitions; 0: there are none."""
        with self._pool.connection() as conn, conn.transaction():
            run = _lock(conn)
            if run is None or run.partitions == LOG_PARTITIONS:
                return 0
            partition = _next_with_events(run)
            sums = self._sums.append(
                partition,
                line=run.lines[partition],
                ends=run.ends,
                keeps_counts=run.counts == Counts.KEEP,
            )
            params = {"id": run.id, "partitions": partition + 1}
            conn.execute(SET_SUMMED, sums._asdict() | params)
            return partition + 1 - run.partitions

    def _end(self, *, despite_holds: bool = False) -> str | None:
        """Destroys the secrets and deletes the read models' rows that rest on them; returns what it
        waits for, or None. No batch runs meanwhile: each has counted the activity that opened, or
        gets it from the sums."""
        with self._views.connection() as views, views.transaction():
            read_models.close(views)
            with self._pool.connection() as conn, conn.transaction():
                run = _lock(conn)
                if run is None:
                    return None
                if run.destroyed_at is None:
                    waits_for = _destroy(conn, views, run, despite_holds=despite_holds)
                    if waits_for is not None:
                        conn.execute(SET_WAITING, {"waits_for": waits_for, "id": run.id})
                        return waits_for
            self._keys.refresh()
            read_models.forget(views, self._sealer.kept())
        return self._complete(run.id)

    def _complete(self, id: uuid.UUID) -> str | None:
        """Removes the destroyed secrets from the files too; returns what it waits for, or None."""
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_DESTROYED_AT, {"id": id}).fetchone()
            assert row is not None
            waits_for = self._purge.clean_periods(row[0], transaction_of(conn))
            if waits_for is None:
                conn.execute(SET_COMPLETED, {"id": id})
            else:
                conn.execute(SET_WAITING, {"waits_for": waits_for, "id": id})
        return waits_for


def _next_with_events(run: _OpenRun) -> int:
    """The next partition that had events when the run began; the last one if none had."""
    some = (
        partition for partition in range(run.partitions, LOG_PARTITIONS) if run.lines[partition]
    )
    return next(some, LOG_PARTITIONS - 1)


def _begin(
    conn: psycopg.Connection,
    id: uuid.UUID,
    ends: datetime,
    counts: Counts,
    by: str,
    lines: list[int],
) -> None:
    params = {"id": id, "ends": ends, "counts": counts.value, "by": by, "lines": lines}
    conn.execute(BEGIN_RUN, params)


def _lock(conn: psycopg.Connection) -> _OpenRun | None:
    """Holds the run that is under way until the transaction ends; None: there is none, or another
    worker holds it."""
    return conn.cursor(row_factory=class_row(_OpenRun)).execute(LOCK_RUN).fetchone()


def _destroy(
    conn: psycopg.Connection, views: psycopg.Connection, run: _OpenRun, *, despite_holds: bool
) -> str | None:
    """Destroys the secrets of a run's months; returns what it waits for, or None."""
    if read_models.is_behind(views, run.lines):
        return "the read models, which have not come to it yet"
    conn.execute(MOVE_GENERATION)
    reason = any_held(conn)
    if reason is not None and not despite_holds:
        return f"the release of a legal hold, for {reason}"
    conn.execute(DESTROY_PERIODS, (run.ends,))
    conn.execute(SET_DESTROYED, {"id": run.id})
    return None
