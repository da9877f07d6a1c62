"""Retries the parked events of one stream, in their order, each once.

The fence of the projector is closed meanwhile, so that a batch finds each event either parked or
applied. Checkpoints stay: they are past all parked events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.definitions.retention import RetentionBounds
from domain.errors import Unavailable
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectId, log_partition
from domain.parked_events import Retried
from projections.kernel import fences, pg_arrays
from projections.kernel.database_errors import is_of_connection
from projections.kernel.ports import Log, Opener

EVENTS_A_STEP = 1_000
"""Events of one transaction, for which projectors wait."""

ATTEMPTS = 20
"""Tries of one transaction, where keys are destroyed meanwhile."""

# The filler passed the parked events or may still reach them, so counters that are filling begin
# anew.
BEGIN_COUNTERS_ANEW = """
UPDATE views.counters SET state = 'waiting' WHERE state = 'filling' RETURNING id"""

COUNT_ANEW = """
UPDATE views.counters SET state = 'waiting'
WHERE activity = %s AND state IN ('filling', 'ready') RETURNING id"""

DELETE_FILLS = "DELETE FROM views.counter_fills WHERE log_partition = ANY(%s) AND counter = ANY(%s)"

DELETE_COUNTS = "DELETE FROM views.counter_days WHERE log_partition = ANY(%s) AND counter = ANY(%s)"

SELECT_NEXT = """
SELECT position FROM views.parked
WHERE projector = %(projector)s AND log_partition = %(partition)s AND stream = %(stream)s
  AND state <> 'skipped'
ORDER BY position LIMIT %(limit)s"""

SELECT_SUMMED_BEFORE = """
SELECT summed_before FROM views.checkpoints WHERE projector = %s AND log_partition = %s"""

TAKE_OUT = """
DELETE FROM views.parked
WHERE projector = %(projector)s AND log_partition = %(partition)s
  AND position = ANY(%(positions)s)"""

FAIL = """
UPDATE views.parked
SET state = 'failed', error = %(error)s, tries = tries + 1, tried_at = now()
WHERE projector = %(projector)s AND log_partition = %(partition)s AND position = %(position)s"""

SELECT_LEFT = """
SELECT count(*), (array_agg(error ORDER BY position))[1] FROM views.parked
WHERE projector = %(projector)s AND log_partition = %(partition)s AND stream = %(stream)s
  AND state <> 'skipped'"""

# A refresh of quick filters follows a checkpoint that moved; here none does.
COUNT_FILTERS_ANEW = "UPDATE views.filter_states SET positions = -1"

ALL_PARTITIONS = pg_arrays.smallints(range(256))

log = structlog.get_logger()

Write = Callable[
    [psycopg.Connection, Sequence[OpenedEvent], RetentionBounds, Mapping[int, datetime]],
    None,
]
"""Writes opened events to all read models, with merges and erasures."""


class _KeysChanged(Exception):
    """A key was destroyed while the events were open."""


class RowLost(Exception):
    """The log no longer holds the row of a parked event."""


class _Parked(NamedTuple):
    """A stream with parked events."""

    stream: SubjectId
    log_partition: int

    def places(self, positions: Sequence[int]) -> list[Position]:
        return [Position(self.log_partition, position) for position in positions]


def count_anew(conn: psycopg.Connection, projector: str, activity: str) -> None:
    """Begins all counters of an activity anew, as they lack an event. Closes the fence."""
    fences.close(conn, projector)
    _delete_counts(conn, [id for (id,) in conn.execute(COUNT_ANEW, (activity,))])


def _delete_counts(conn: psycopg.Connection, counters: Sequence[UUID]) -> None:
    if counters:
        conn.execute(DELETE_FILLS, (ALL_PARTITIONS, counters))
        conn.execute(DELETE_COUNTS, (ALL_PARTITIONS, counters))


class Retrying:
    """Retries the parked events of one projector. Thread-safe."""

    def __init__(
        self,
        *,
        log: Log,
        opener: Opener,
        pool: ConnectionPool,
        projector: str,
        write: Write,
    ) -> None:
        self._log = log
        self._opener = opener
        self._pool = pool
        self._projector = projector
        self._write = write

    def retry(self, stream: SubjectId) -> Retried:
        """Applies the parked events of a stream, up to the first that fails.

        Raises:
            psycopg.Error: of the connection.
            Unavailable: keys are out of reach, or erasures destroy keys all the time.
        """
        parked = _Parked(stream, log_partition(stream))
        applied = self._apply_all(parked, is_erased=False)
        with self._pool.connection() as conn:
            params = self._place(parked) | {"stream": stream}
            row = conn.execute(SELECT_LEFT, params)
            left, error = row.fetchone() or (0, None)
        if applied or left:
            log.info("projector.retried", applied=applied, left=left, error=error)
        return Retried(applied, left, error)

    def release(self, stream: SubjectId) -> None:
        """Removes the parked events of an erased subject. Its accounts count the events like all
        others from before the erasure. An event that fails is dropped: no event waits for it
        any more."""
        self._apply_all(_Parked(stream, log_partition(stream)), is_erased=True)

    def _apply_all(self, parked: _Parked, *, is_erased: bool) -> int:
        """Applies the events in pieces; halves a piece that fails. Returns the number of events."""
        applied, size = 0, EVENTS_A_STEP
        while True:
            try:
                done = self._apply(parked, size)
            except Unavailable:
                raise
            except Exception as error:
                if is_of_connection(error):
                    raise
                if size > 1:
                    size //= 2
                    continue
                if not self._put_aside(parked, error, is_dropped=is_erased):
                    return applied
                done = 1
            else:
                applied += done
            if not done:
                return applied
            size = min(2 * size, EVENTS_A_STEP)

    def _apply(self, parked: _Parked, size: int) -> int:
        """Applies the first parked events in one transaction; returns their number."""
        for _ in range(ATTEMPTS):
            generation = self._opener.refresh()
            try:
                with self._pool.connection() as conn, conn.transaction():
                    positions = self._next(conn, parked, size)
                    if not positions:
                        return 0
                    rows = self._log.read_at(parked.places(positions))
                    if len(rows) < len(positions):
                        raise RowLost
                    opened = self._opener.open_rows(rows)
                    if self._opener.generation() != generation:
                        raise _KeysChanged
                    _delete_counts(conn, [id for (id,) in conn.execute(BEGIN_COUNTERS_ANEW)])
                    self._write(conn, opened, self._opener.kept(), self._summed(conn, parked))
                    conn.execute(TAKE_OUT, self._place(parked) | {"positions": positions})
                    conn.execute(COUNT_FILTERS_ANEW)
                return len(positions)
            except _KeysChanged:
                continue
        raise Unavailable("others are being erased all the time; try again")

    def _next(self, conn: psycopg.Connection, parked: _Parked, size: int) -> list[int]:
        """The first parked positions. Closes the fence until the transaction ends."""
        fences.close(conn, self._projector)
        params = self._place(parked) | {"stream": parked.stream, "limit": size}
        return [position for (position,) in conn.execute(SELECT_NEXT, params)]

    def _summed(self, conn: psycopg.Connection, parked: _Parked) -> dict[int, datetime]:
        params = (self._projector, parked.log_partition)
        row = conn.execute(SELECT_SUMMED_BEFORE, params).fetchone()
        return {} if row is None or row[0] is None else {parked.log_partition: row[0]}

    def _put_aside(self, parked: _Parked, error: Exception, *, is_dropped: bool) -> bool:
        """Marks the first parked event as failed again, or drops it; returns whether to go on."""
        with self._pool.connection() as conn, conn.transaction():
            positions = self._next(conn, parked, 1)
            place = self._place(parked)
            if is_dropped:
                conn.execute(TAKE_OUT, place | {"positions": positions})
            else:
                failed = place | {"error": type(error).__name__}
                conn.cursor().executemany(
                    FAIL, [failed | {"position": position} for position in positions]
                )
        return is_dropped

    def _place(self, parked: _Parked) -> dict[str, object]:
        return {"projector": self._projector, "partition": parked.log_partition}
