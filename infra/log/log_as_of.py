"""The log as of a past instant: each partition up to a bound.

A writer stamps events before it locks the heads, so within a partition a stamp may be earlier than
that of the event before it. All events behind one that is stamped later than the instant were
stored after the instant. So the bound is the position before the first event that is stamped later:
what readers of that time could see.
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
"""The newest position that is visible, by partition from 0 on."""

SELECT_BOUNDS = """
SELECT coalesce(later.first - 1, h.head) FROM log.heads h
LEFT JOIN (SELECT log_partition, min(position) AS first FROM log.events
           WHERE recorded_at > %(at)s GROUP BY log_partition) later USING (log_partition)
ORDER BY h.log_partition"""


def bounds_at(pool: ConnectionPool, at: datetime) -> list[int]:
    """The bounds of the log as of an instant. Takes time in proportion to the log."""
    with pool.connection() as conn:
        return [row[0] for row in conn.execute(SELECT_BOUNDS, {"at": at})]


def is_within(bounds: Bounds, event: RecordedEvent | Position) -> bool:
    """Whether an event, or a position, is visible."""
    return event.position <= bounds[event.log_partition]


class LogAsOf(EventLog):
    """Read-only."""

    def __init__(self, pool: ConnectionPool, bounds: Bounds) -> None:
        super().__init__(pool)
        self.bounds = bounds

    def append(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes] = ()
    ) -> list[Position]:
        raise TypeError("nothing is written into the past")

    def read_streams(self, after: Mapping[SubjectId, int]) -> dict[SubjectId, list[RecordedEvent]]:
        histories = super().read_streams(after)
        return {stream: self._within(rows) for stream, rows in histories.items()}

    def heads(self, partitions: Sequence[int]) -> dict[int, int]:
        return {partition: self.bounds[partition] for partition in partitions}

    def read_after(self, after: Mapping[int, int], limit: int) -> list[RecordedEvent]:
        return self._within(super().read_after(after, limit))

    def _within(self, rows: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        return [row for row in rows if is_within(self.bounds, row)]
