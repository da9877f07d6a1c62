"""Positions past their heads: an alarm, for the log was written by somebody else, or restored in
part. Nothing can be appended to a partition whose rows stand past its head; what has read further
than the head would miss what is appended next.
"""

from __future__ import annotations

import threading
import time

import structlog
from psycopg_pool import ConnectionPool

from infra.log.appending import ROWS_PAST_HEADS
from infra.log.event_log import HEADS
from infra.webhooks.items import reader_of
from projections.kernel.merges import ALL_PARTITIONS
from projections.queries.status import PositionPastHead

LOG = "log"
"""Where rows of the log themselves stand past their head."""

SECONDS = 60.0
"""For which an answer holds."""

CURSORS = """
SELECT c.destination, c.log_partition, c.position, h.head FROM log.destination_cursors c
JOIN log.heads h ON h.log_partition = c.log_partition
WHERE c.log_partition = ANY(%s) AND h.log_partition = ANY(%s) AND c.position > h.head
ORDER BY c.destination, c.log_partition"""

CHECKPOINTS = """
SELECT projector, log_partition, position FROM views.checkpoints
WHERE log_partition = ANY(%s) AND position > 0 ORDER BY projector, log_partition"""

log = structlog.get_logger()


class HeadAlarm:
    """One for each process; safe for use from many threads.

    Args:
        pool: of the log. views: of the read models.
    """

    def __init__(self, pool: ConnectionPool, views: ConnectionPool) -> None:
        self._pool = pool
        self._views = views
        self._lock = threading.Lock()
        self._found: list[PositionPastHead] = []
        self._told: set[tuple[str, int]] = set()
        self._looked_at = float("-inf")

    def recent(self) -> list[PositionPastHead]:
        """All that there are, or were a minute ago."""
        with self._lock:
            if time.monotonic() - self._looked_at >= SECONDS:
                self._look()
            return self._found

    def look(self) -> None:
        """Looks now, and says in the log what was not said yet."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        # Heads only grow, and are read last: what is past them then was so before.
        with self._views.connection() as conn:
            checkpoints = conn.execute(CHECKPOINTS, (ALL_PARTITIONS,)).fetchall()
        with self._pool.connection() as conn:
            cursors = conn.execute(CURSORS, (ALL_PARTITIONS, ALL_PARTITIONS)).fetchall()
            rows = conn.execute(ROWS_PAST_HEADS, (ALL_PARTITIONS,)).fetchall()
            heads: dict[int, int] = dict(conn.execute(HEADS, (ALL_PARTITIONS,)).fetchall())
        found = [PositionPastHead(LOG, *row) for row in rows]
        found += [
            PositionPastHead(reader, partition, position, heads[partition])
            for reader, partition, position in checkpoints
            if position > heads[partition]
        ]
        found += [PositionPastHead(reader_of(id), *place) for id, *place in cursors]
        self._found, self._looked_at = found, time.monotonic()
        for one in found:
            if (one.of, one.log_partition) not in self._told:
                log.error(
                    "log.position_past_head",
                    of=one.of,
                    log_partition=one.log_partition,
                    position=one.position,
                    head=one.head,
                )
        self._told = {(one.of, one.log_partition) for one in found}
