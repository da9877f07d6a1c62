"""Retention by age: ends the periods of tracked activity that are over, as a run that is resumed.

A run begins with a line through the log: from then on no activity of its periods is taken in, and
what stands behind the line (it was on its way) is not kept. Its counts are appended to the streams
of those who did it, partition by partition; once the read models have passed the line, the secrets
of the periods are destroyed, which makes all of it unreadable at once. One that is killed is gone
on with by whoever finds it, each step by one worker at a time.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
import structlog
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from domain.definitions.retention import (
    UPKEEP,
    Counts,
    Retention,
    RetentionBounds,
    RetentionRun,
    kept_since,
)
from domain.errors import Conflict
from domain.events.event import Event
from domain.events.payloads import ActivitySummed, SummedDay, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC, SUMMED_TOPICS
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.workspace.aggregate import Workspace
from infra.erasure.ledger import Ledger, RetentionEntry
from infra.erasure.legal_holds import any_held
from infra.erasure.purge import Purge
from infra.keys.key_ring import KeyRing
from infra.keys.month_keys import DESTROY_PERIODS
from infra.keys.rotation import MOVE_GENERATION
from infra.keys.sealing import PERIODS_SCHEMA_VERSION, Sealer
from infra.log.event_log import EventLog
from infra.log.fetch import COLUMNS, fetched
from infra.postgres.database import transaction_of
from projections.kernel.batch import Day, DayCount
from projections.kernel.gaps import Gap, note, parted
from projections.projector import retention as read_models

READER = "retention"
"""The name of runs among readers that lack events."""

ROWS_AT_A_TIME = 5_000
EVENTS_AT_A_TIME = 1_000
DAYS_AN_EVENT = 500

BEGIN_RUN = """
INSERT INTO keys.retention_runs (id, ends, counts, requested_by, lines)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""

SELECT_RUN = """
SELECT id, ends, counts, requested_by, requested_at, lines, partitions, destroyed_at
FROM keys.retention_runs WHERE completed_at IS NULL FOR UPDATE SKIP LOCKED"""

UNDER_WAY = """
SELECT EXISTS (SELECT FROM keys.retention_runs WHERE completed_at IS NULL)"""

SELECT_RUNS = """
SELECT id, ends, counts, requested_by, requested_at, partitions, events, unsealed, sums,
       destroyed_at, completed_at, waits_for
FROM keys.retention_runs ORDER BY ends DESC"""

SET_SUMMED = """
UPDATE keys.retention_runs
SET partitions = partitions + 1, events = events + %s, unsealed = unsealed + %s, sums = sums + %s,
    waits_for = NULL
WHERE id = %s"""

SET_WAITING = "UPDATE keys.retention_runs SET waits_for = %s WHERE id = %s"

SET_DESTROYED = """
UPDATE keys.retention_runs SET destroyed_at = now(), waits_for = NULL WHERE id = %s"""

SELECT_DESTROYED_AT = "SELECT destroyed_at FROM keys.retention_runs WHERE id = %s"

SET_COMPLETED = """
UPDATE keys.retention_runs SET completed_at = now(), waits_for = NULL WHERE id = %s"""

SELECT_ACTIVITY = """
SELECT {columns} FROM log.events
WHERE log_partition = %b AND position > %b AND position <= %b
  AND topic = ANY(%b) AND occurred_at >= %b AND occurred_at < %b
ORDER BY position LIMIT %b"""

COUNT_ACTIVITY = """
SELECT count(*), count(*) FILTER (WHERE schema_version < %s) FROM log.events
WHERE topic = ANY(%s) AND occurred_at >= %s AND occurred_at < %s"""

# Runs follow one another: behind the line there are the sums of this one alone.
SELECT_SUMMED = """
SELECT DISTINCT stream, account FROM log.events
WHERE log_partition = %b AND position > %b AND topic = ANY(%b) AND occurred_at = %b"""

log = structlog.get_logger()

ACTIVITY_TOPICS = list(ACTIVITY_OF_TOPIC)

Party = tuple[str, SubjectId, SubjectId | None]
"""Whose stream, of what kind, and the account that the events name."""


def _tell_nobody(_: int) -> None:
    """Where nobody watches."""


class RetentionRuns:
    """Ends what is over. One for each process; safe for use from many threads.

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

    def runs(self) -> list[RetentionRun]:
        """All that are on record, newest first."""
        with self._pool.connection() as conn:
            rows = conn.cursor(row_factory=dict_row).execute(SELECT_RUNS).fetchall()
        return [RetentionRun(**row | {"counts": Counts(row["counts"])}) for row in rows]

    def upkeep(self, now: datetime, stop: threading.Event | None = None) -> None:
        """Begins a run if one is due and nothing forbids it, and goes on with the one there is,
        until told to stop."""
        retention = self._workspace().retention
        if retention is not None and self.due(now, retention) is not None and not self.held():
            self.begin(kept_since(now, retention.months), retention.counts, by=UPKEEP)
        self.go_on(stop=stop)

    def due(self, now: datetime, retention: Retention) -> datetime | None:
        """Up to when activity is over that is not ended yet; None: there is none."""
        self._keys.refresh()
        ends = kept_since(now, retention.months)
        return ends if ends > self._sealer.kept().taken_since else None

    def held(self) -> str | None:
        """The reason of the oldest legal hold, which forbids all runs; None: there is none."""
        with self._pool.connection() as conn:
            return any_held(conn)

    def count(self, ends: datetime) -> tuple[int, int]:
        """How much activity a run would end, and how much of it has no key of its period."""
        self._keys.refresh()
        asked = (PERIODS_SCHEMA_VERSION, ACTIVITY_TOPICS, self._sealer.kept().since, ends)
        with self._log_pool.connection() as conn:
            row = conn.execute(COUNT_ACTIVITY, asked).fetchone()
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
            lines = [heads[one] for one in range(LOG_PARTITIONS)]
            conn.execute(BEGIN_RUN, (uuid.uuid4(), ends, counts.value, by, lines))
        self._keys.refresh()

    def repeat(self, run: RetentionEntry) -> None:
        """Carries out again what a restored database knows nothing of, or not the end of. To be
        called before anything is served, with the read models empty."""
        with self._log.held() as heads, self._pool.connection() as conn, conn.transaction():
            conn.execute(MOVE_GENERATION)
            lines = [min(heads[n], line) for n, line in enumerate(run.lines)]
            conn.execute(BEGIN_RUN, (run.id, run.ends, run.counts.value, run.requested_by, lines))
        self._keys.refresh()
        for _ in range(LOG_PARTITIONS):
            self._sum_next()
        self._end(despite_holds=True)
        log.warning("retention.repeated", ends=f"{run.ends:%Y-%m-%d}")

    def go_on(
        self,
        progress: Callable[[int], None] = _tell_nobody,
        stop: threading.Event | None = None,
    ) -> str | None:
        """Brings the run that is under way, if there is one, as far as it gets now; says what it
        waits for, if it does. Tells of each partition that was summed. Leaves off when told to
        stop."""
        while self._sum_next():
            progress(1)
            if stop is not None and stop.is_set():
                return None
        with self._pool.connection() as conn:
            if conn.execute(UNDER_WAY).fetchone() == (False,):
                return None
        waits_for = self._end()
        if waits_for is None:
            self._ledger.keep()
        return waits_for

    def _sum_next(self) -> bool:
        """Sums the next partition; says whether there was one."""
        with self._pool.connection() as conn, conn.transaction():
            run = conn.cursor(row_factory=dict_row).execute(SELECT_RUN).fetchone()
            if run is None or run["partitions"] == LOG_PARTITIONS:
                return False
            self._sum(conn, run)
            return True

    def _sum(self, conn: psycopg.Connection, run: Mapping[str, Any]) -> None:
        """Appends what the activity of the next partition comes to."""
        partition, ends = run["partitions"], run["ends"]
        line = run["lines"][partition]
        self._keys.refresh()
        sums: dict[Party, dict[Day, DayCount]] = {}
        events = unsealed = 0
        workspace = self._workspace()
        for rows in self._activity(partition, line, self._sealer.kept()):
            events += len(rows)
            unsealed += sum(row.schema_version < PERIODS_SCHEMA_VERSION for row in rows)
            if run["counts"] == Counts.KEEP:
                opened, gaps = parted(self._sealer.open_each(rows))
                self._note(gaps)
                for one in opened:
                    _add(sums, one, workspace)
        with self._log_pool.connection() as reading:
            asked = (partition, line, list(SUMMED_TOPICS), ends)
            done = set(reading.execute(SELECT_SUMMED, asked, binary=True).fetchall())
        left = [key for key in sums if (key[1], key[2]) not in done]
        appended = 0
        for some in _pieces([(key, list(_summed(sums[key]))) for key in sorted(left, key=str)]):
            summed = [
                Event(SubjectKind(kind), stream, None, ends, ActivitySummed(days), account)
                for (kind, stream, account), parts in some
                for days in parts
            ]
            self._keys.refresh()
            self._log.append(self._sealer.sealing(summed))
            appended += len(summed)
        conn.execute(SET_SUMMED, (events, unsealed, appended, run["id"]))

    def _note(self, gaps: Sequence[Gap]) -> None:
        """Lists what the sums lack: it does not open."""
        if gaps:
            with self._views.connection() as conn:
                note(conn, READER, gaps)

    def _activity(
        self, partition: int, line: int, kept: RetentionBounds
    ) -> Iterator[list[RecordedEvent]]:
        after = 0
        while True:
            bounds = (partition, after, line, ACTIVITY_TOPICS, kept.since, kept.taken_since)
            rows = self._rows(SELECT_ACTIVITY.format(columns=COLUMNS), (*bounds, ROWS_AT_A_TIME))
            if rows:
                yield rows
            if len(rows) < ROWS_AT_A_TIME:
                return
            after = rows[-1].position

    def _rows(self, query: str, asked: tuple[object, ...]) -> list[RecordedEvent]:
        return fetched(self._log_pool, lambda _, cursor: cursor.execute(query, asked))

    def _end(self, *, despite_holds: bool = False) -> str | None:
        """Destroys the secrets, and has the read models forget what goes with them; says what
        stands in the way, or None. Meanwhile no batch is under way, so that each has either
        counted what opened, or will have it from the sums."""
        with self._views.connection() as views, views.transaction():
            read_models.close(views)
            with self._pool.connection() as conn, conn.transaction():
                run = conn.cursor(row_factory=dict_row).execute(SELECT_RUN).fetchone()
                if run is None:
                    return None
                if run["destroyed_at"] is None:
                    waits_for = self._destroy(conn, views, run, despite_holds)
                    if waits_for is not None:
                        conn.execute(SET_WAITING, (waits_for, run["id"]))
                        return waits_for
            self._keys.refresh()
            read_models.forget(views, self._sealer.kept())
        return self._complete(run["id"])

    def _complete(self, id: uuid.UUID) -> str | None:
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_DESTROYED_AT, (id,)).fetchone()
            assert row is not None
            waits_for = self._purge.clean_periods(row[0], transaction_of(conn))
            if waits_for is None:
                conn.execute(SET_COMPLETED, (id,))
            else:
                conn.execute(SET_WAITING, (waits_for, id))
        return waits_for

    def _destroy(
        self,
        conn: psycopg.Connection,
        views: psycopg.Connection,
        run: Mapping[str, Any],
        despite_holds: bool,
    ) -> str | None:
        if read_models.is_behind(views, run["lines"]):
            return "the read models, which have not come to it yet"
        conn.execute(MOVE_GENERATION)
        reason = any_held(conn)
        if reason is not None and not despite_holds:
            return f"the release of a legal hold, for {reason}"
        conn.execute(DESTROY_PERIODS, (run["ends"],))
        conn.execute(SET_DESTROYED, (run["id"],))
        return None


def _add(sums: dict[Party, dict[Day, DayCount]], one: OpenedEvent, workspace: Workspace) -> None:
    """Counts an event as a projector does."""
    row = one.row
    if isinstance(one.payload, Tracked):
        name = one.payload.activity.name
    elif one.account_part is not None:
        name = one.account_part.name
    else:
        return
    zones, at = workspace.zones, row.occurred_at
    zone = zones.at(row.recorded_at) if zones.chosen else workspace.zone
    activity = ACTIVITY_OF_TOPIC[row.topic]
    day = Day(activity, name, at.astimezone(zone).date(), row.account is not None)
    party = (row.topic.partition(".")[0], row.stream, row.account)
    days = sums.setdefault(party, {})
    count = days.get(day)
    if count is None:
        days[day] = DayCount(at)
    else:
        count.add(at)


def _summed(days: Mapping[Day, DayCount]) -> Iterator[tuple[SummedDay, ...]]:
    """The days of one party, in its order, by events."""
    ordered = [
        SummedDay(day.activity, day.name, day.day, one.count, one.first_at, one.last_at)
        for day, one in sorted(days.items())
    ]
    for first in range(0, len(ordered), DAYS_AN_EVENT):
        yield tuple(ordered[first : first + DAYS_AN_EVENT])


Summed = tuple[Party, list[tuple[SummedDay, ...]]]


def _pieces(parties: Sequence[Summed]) -> Iterator[list[Summed]]:
    """About `EVENTS_AT_A_TIME` each; what a party gets is in one, so that it is there or not."""
    piece: list[Summed] = []
    size = 0
    for party in parties:
        piece.append(party)
        size += len(party[1])
        if size >= EVENTS_AT_A_TIME:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
