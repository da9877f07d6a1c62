"""The filler: counts the events of the log that a counter lacks when it begins.

One reading of the log serves all counters in turn. It goes through the partitions in a circle. A
counter that begins later joins at the next partition, and is filled when the circle returns there.
In turn are the counters of definitions, then those of API keys by rounds: the oldest of each key,
then the next of each.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.conditions.counters import Counter
from domain.events.recorded import RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import LOG_PARTITIONS
from domain.workspace.workspace import Workspace
from projections.counters.keeper import CounterKeeper
from projections.counters.model import add, tallied
from projections.kernel import fences, gaps, merges
from projections.kernel.database_errors import is_of_connection
from projections.kernel.idle import Idle
from projections.kernel.ports import Log, Opener
from projections.kernel.watchdog import Hung, watched

CHUNK_EVENTS = 10_000
"""Events that one transaction reads, at most."""

FIRST_EVENTS = 1_000

TURN_SECONDS = 1.0
"""Duration of a transaction; the next one reads less where one took longer."""

IN_TURN = 16
"""Counters of one reading."""

STEP_SECONDS = 300.0
"""Time limit of a piece; it holds the fence, for which batches that close it wait."""

POLL_SECONDS = 0.2

PUT_OFF_FOR = timedelta(minutes=1)
"""Pause of a counter that failed; it doubles with each failure."""

PUT_OFF_AT_MOST = timedelta(hours=1)

READER = "counters"
"""The filler's name in the list of parked events."""

FENCE = "filling"
"""Lets one process fill at a time: two would read the same."""

IN_ROUNDS = """
SELECT id, state FROM (
      SELECT *, asked_by IS NOT NULL AND NOT kept AS is_asked,
             row_number() OVER (PARTITION BY CASE WHEN NOT kept THEN asked_by END
                                ORDER BY asked_at, id) AS round
      FROM views.counters WHERE state IN ('waiting', 'filling') AND id <> ALL(%s)) c
ORDER BY is_asked, round, asked_at, id LIMIT %s"""

SELECT_THESE = """
SELECT id, activity, name, tests FROM views.counters WHERE id = ANY(%s) AND state = 'filling'"""

BEGIN = """
UPDATE views.counters SET state = 'filling' WHERE id = ANY(%s) AND state = 'waiting'
RETURNING id"""

END_FILLS = "DELETE FROM views.counter_fills WHERE log_partition = ANY(%s) AND counter = ANY(%s)"

BEGIN_FILLS = """
INSERT INTO views.counter_fills (log_partition, counter, position, upto)
SELECT p, c, 0, coalesce(k.position, 0)
FROM generate_series(0, 255) p CROSS JOIN unnest(%s::uuid[]) c
LEFT JOIN views.checkpoints k ON k.projector = %s AND k.log_partition = p"""

SELECT_FILLS = """
SELECT log_partition, counter, position, upto FROM views.counter_fills
WHERE log_partition = ANY(%s) AND counter = ANY(%s) AND position < upto"""

MOVE_FILLS = """
UPDATE views.counter_fills f SET position = v.position
FROM unnest(%(partitions)s::smallint[], %(counters)s::uuid[], %(positions)s::bigint[])
     AS v(log_partition, counter, position)
WHERE f.counter = v.counter AND f.log_partition = v.log_partition
  AND f.log_partition = ANY(%(partitions)s)"""

# A counter without a row lacks nothing: the projector counts all of it during a rebuild.
MAKE_READY = """
UPDATE views.counters c SET state = 'ready'
WHERE id = ANY(%s) AND state = 'filling' AND NOT EXISTS (
    SELECT FROM views.counter_fills f WHERE f.counter = c.id AND f.position < f.upto)
RETURNING id"""

# The projector counts parked events itself once they are applied.
SELECT_PARKED = """
SELECT k.log_partition, k.position FROM views.parked k
JOIN unnest(%(partitions)s::smallint[], %(after)s::bigint[]) AS w(p, after)
  ON k.log_partition = w.p AND k.position > w.after
WHERE k.projector = %(projector)s"""

log = structlog.get_logger()


class Span(NamedTuple):
    """The positions that a counter lacks in a partition: after one, up to another."""

    after: int
    upto: int


Lacking = dict[int, dict[uuid.UUID, Span]]
"""By partition and counter."""


class _KeysChanged(Exception):
    """A key was destroyed while a piece was in memory."""


class CounterFiller:
    """Fills registered counters from the log, and limits their number. One instance per process
    that projects."""

    def __init__(
        self,
        *,
        log: Log,
        opener: Opener,
        pool: ConnectionPool,
        workspace: Callable[[], Workspace],
        projector: str,
        keeper: CounterKeeper,
        clock: Callable[[], datetime],
        chunk_events: int = CHUNK_EVENTS,
    ) -> None:
        self._log = log
        self._opener = opener
        self._pool = pool
        self._workspace = workspace
        self._projector = projector
        self._keeper = keeper
        self._clock = clock
        self._most_events = chunk_events
        self._events = min(FIRST_EVENTS, chunk_events)
        self._next_partition = 0
        self._put_off: dict[uuid.UUID, tuple[datetime, timedelta]] = {}

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Works until `stop` is set."""
        while not stop.is_set():
            is_busy = False
            for part in (self._keeper.step, self.fill):
                try:
                    is_busy |= part()
                except Exception as error:
                    log.warning("counters.failed", error=type(error).__name__)
                    stop.wait(1.0)
            if is_busy:
                idle.moved()
            else:
                idle.wait(POLL_SECONDS)

    def step(self) -> bool:
        """Does a step of each kind of work; returns whether there was any."""
        was_busy = self._keeper.step()
        return self.fill() or was_busy

    def fill(self) -> bool:
        """Counts a piece of the log for the counters in turn; returns whether there were any.

        Where the piece fails, counts each counter alone, and postpones those that fail.
        """
        now = self._clock()
        off = [id for id, (until, _) in self._put_off.items() if now < until]
        with self._pool.connection() as conn:
            rows = conn.execute(IN_ROUNDS, (off, IN_TURN)).fetchall()
        new = [id for id, state in rows if state == "waiting"]
        if new:
            return self._begin(new)
        if not rows:
            return False
        turn = [id for id, _ in rows]
        try:
            return self._fill(turn)
        except Exception as error:
            if is_of_connection(error):
                raise
        done = [self._fill_alone(id) for id in turn]
        return any(done)

    def _fill_alone(self, id: uuid.UUID) -> bool:
        try:
            is_filled = self._fill([id])
            self._put_off.pop(id, None)
            return is_filled
        except Exception as error:
            if is_of_connection(error):
                raise
            _, before = self._put_off.get(id, (None, PUT_OFF_FOR / 2))
            pause = min(2 * before, PUT_OFF_AT_MOST)
            self._put_off[id] = (self._clock() + pause, pause)
            log.error("counter.put_off", counter=str(id), error=type(error).__name__)
            return True

    def _begin(self, ids: Sequence[uuid.UUID]) -> bool:
        """Makes the projector count these counters from here on, with the fence closed."""
        with self._pool.connection() as conn, conn.transaction():
            if not self._take_fence(conn):
                return False
            fences.close(conn, self._projector)
            begun = [id for (id,) in conn.execute(BEGIN, (list(ids),))]
            conn.execute(BEGIN_FILLS, (begun, self._projector))
            self._end(conn, begun)
        return True

    def _fill(self, ids: Sequence[uuid.UUID]) -> bool:
        """Counts a piece while no merge and no erasure is under way."""
        began, generation = time.monotonic(), self._opener.refresh()
        try:
            limit = watched(self._pool, "filler", STEP_SECONDS)
            with limit as conn, conn.transaction():
                if not self._take_fence(conn):
                    return False
                fences.ensure(conn, self._projector)
                fences.share(conn, self._projector)
                rows = conn.execute(SELECT_THESE, (list(ids),)).fetchall()
                counters = {row[0]: Counter(*row[1:]) for row in rows}
                lacking = self._piece(conn, counters)
                reached = self._count(conn, counters, lacking, generation)
                moved = [
                    (partition, id, min(span.upto, reached[partition]))
                    for partition, spans in lacking.items()
                    for id, span in spans.items()
                    if span.after < reached[partition]
                ]
                params = {
                    "partitions": [partition for partition, _, _ in moved],
                    "counters": [id for _, id, _ in moved],
                    "positions": [position for _, _, position in moved],
                }
                conn.execute(MOVE_FILLS, params)
                self._end(conn, list(counters))
        except _KeysChanged:
            return True
        except Hung:
            self._pace(STEP_SECONDS)
            raise
        self._pace(time.monotonic() - began)
        return True

    @staticmethod
    def _take_fence(conn: psycopg.Connection) -> bool:
        fences.ensure(conn, FENCE)
        return fences.close_if_free(conn, FENCE)

    @staticmethod
    def _end(conn: psycopg.Connection, ids: Sequence[uuid.UUID]) -> None:
        """Marks counters that lack nothing as ready."""
        ready = [id for (id,) in conn.execute(MAKE_READY, (list(ids),))]
        conn.execute(END_FILLS, (merges.ALL_PARTITIONS, ready))

    def _piece(self, conn: psycopg.Connection, ids: Collection[uuid.UUID]) -> Lacking:
        """The partitions of the next piece, in the order of the circle."""
        lacking: Lacking = defaultdict(dict)
        for partition, id, *span in conn.execute(SELECT_FILLS, (merges.ALL_PARTITIONS, list(ids))):
            lacking[partition][id] = Span(*span)
        piece: Lacking = {}
        room = self._events
        for partition in sorted(
            lacking, key=lambda partition: (partition - self._next_partition) % LOG_PARTITIONS
        ):
            whole = _whole(lacking[partition])
            room -= whole.upto - whole.after
            if room < 0 and piece:
                break
            piece[partition] = lacking[partition]
            self._next_partition = partition
        return piece

    def _count(
        self,
        conn: psycopg.Connection,
        counters: Mapping[uuid.UUID, Counter],
        lacking: Lacking,
        generation: int,
    ) -> dict[int, int]:
        """Counts a piece, without gaps; returns the position reached in each partition.

        Raises:
            _KeysChanged: the caller must discard the counts.
        """
        spans = {partition: _whole(these) for partition, these in lacking.items()}
        if not spans:
            return {}
        limit = min(max(span.upto - span.after for span in spans.values()), self._events)
        after = {partition: span.after for partition, span in spans.items()}
        rows = self._log.read_after(after, limit)
        params = {
            "partitions": list(after),
            "after": list(after.values()),
            "projector": self._projector,
        }
        parked = set(conn.execute(SELECT_PARKED, params).fetchall())
        activities = {counter.activity for counter in counters.values()}
        wanted = [
            row
            for row in rows
            if row.position <= spans[row.log_partition].upto
            and ACTIVITY_OF_TOPIC.get(row.topic) in activities
            and (row.log_partition, row.position) not in parked
        ]
        opened, unopened = gaps.parted(self._opener.open_each(wanted))
        bounds = self._opener.kept()
        if self._opener.generation() != generation:
            raise _KeysChanged
        gaps.note(conn, READER, unopened)
        subjects = {row.stream for row in wanted} | {
            row.account for row in wanted if row.account is not None
        }
        survivors, zones = merges.survivors(conn, subjects), self._workspace().zones

        def lacks(id: uuid.UUID, row: RecordedEvent) -> bool:
            span = lacking[row.log_partition].get(id)
            return span is not None and span.after < row.position <= span.upto

        since = bounds.metadata_counted_since
        add(conn, tallied(opened, survivors, counters.values(), zones, since, lacks))
        ends: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            ends[row.log_partition].append(row.position)
        return {
            partition: min(max(ends[partition]), span.upto)
            if len(ends[partition]) >= limit
            else span.upto
            for partition, span in spans.items()
        }

    def _pace(self, seconds: float) -> None:
        """Adapts the size of the next piece to the duration of the last."""
        if seconds > TURN_SECONDS:
            self._events = max(self._events // 2, 1)
        elif seconds < TURN_SECONDS / 2:
            self._events = min(2 * self._events, self._most_events)


def _whole(spans: Mapping[uuid.UUID, Span]) -> Span:
    """The positions that some counters lack in a partition, together."""
    return Span(
        min(span.after for span in spans.values()), max(span.upto for span in spans.values())
    )
