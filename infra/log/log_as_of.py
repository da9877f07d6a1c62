"""The log as it stood at an instant: each partition up to a bound, and nothing after it.

An event is stamped with the clock of its writer before the heads are locked, so that in a
partition a stamp may be earlier than that of the event before it. What follows an event that is
stamped later than the instant was stored after the instant, whatever its own stamp says: so the
bound is the position before the first that is stamped later. What is left is a whole beginning of
the partition, as readers of that time could see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.events.recorded import RecordedEvent, SealedEvent
from domain.identity import SubjectId
from infra.log.appending import RowSource
from infra.log.event_log import EventLog

Bounds = Sequence[int]
"""The newest position to be seen of each partition, from 0 on."""

SELECT_BOUNDS = """
SELECT coalesce(later.first - 1, h.head) FROM log.heads h
LEFT JOIN (SELECT log_partition, min(position) AS first FROM log.events
           WHERE recorded_at > %s GROUP BY log_partition) later USING (log_partition)
ORDER BY h.log_partition"""


def bounds_at(pool: ConnectionPool, at: datetime) -> list[int]:
    """Where the log stood at an instant. Takes time in proportion to the log."""
    with pool.connection() as conn:
        return [row[0] for row in conn.execute(SELECT_BOUNDS, (at,))]


def is_within(bounds: Bounds, place: RecordedEvent | Position) -> bool:
    return place.position <= bounds[place.log_partition]


class LogAsOf(EventLog):
    """To be read only."""

    def __init__(self, pool: ConnectionPool, bounds: Bounds) -> None:
        super().__init__(pool)
        self.bounds = bounds

    def append(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes] = ()
    ) -> list[Position]:
        raise TypeError("nothing is written into the past")

    def read_streams(self, after: Mapping[SubjectId, int]) -> dict[SubjectId, list[RecordedEvent]]:
        found = super().read_streams(after)
        return {stream: self._within(rows) for stream, rows in found.items()}

    def heads(self, partitions: Sequence[int]) -> dict[int, int]:
        return {partition: self.bounds[partition] for partition in partitions}

    def read_after(self, after: Mapping[int, int], limit: int) -> list[RecordedEvent]:
        return self._within(super().read_after(after, limit))

    def _within(self, rows: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        return [row for row in rows if is_within(self.bounds, row)]
