"""Raises an alarm for positions past the head of their partition: another program wrote the log, or
it was restored in part. Nothing can be appended to a partition with rows past its head. A reader
past the head would miss the next events.
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
"""The name of the log itself, where its own rows are past their head."""

SECONDS = 60.0
"""How long a result holds."""

SELECT_CURSORS_PAST_HEADS = """
SELECT c.destination, c.log_partition, c.position, h.head FROM log.destination_cursors c
JOIN log.heads h ON h.log_partition = c.log_partition
WHERE c.log_partition = ANY(%(partitions)s) AND h.log_partition = ANY(%(partitions)s)
  AND c.position > h.head
ORDER BY c.destination, c.log_partition"""

SELECT_CHECKPOINTS = """
SELECT projector, log_partition, position FROM views.checkpoints
WHERE log_partition = ANY(%(partitions)s) AND position > 0 ORDER BY projector, log_partition"""

log = structlog.get_logger()


class HeadAlarm:
    """Thread-safe; one instance per process.

    Args:
        pool: of the log. views: of the read models.
    """

    def __init__(self, pool: ConnectionPool, views: ConnectionPool) -> None:
        self._pool = pool
        self._views = views
        self._lock = threading.Lock()
        self._past_heads: list[PositionPastHead] = []
        self._logged: set[tuple[str, int]] = set()
        self._looked_at = float("-inf")

    def recent(self) -> list[PositionPastHead]:
        """The positions past their heads, as of now or of a minute ago."""
        with self._lock:
            if time.monotonic() - self._looked_at >= SECONDS:
                self._look()
            return self._past_heads

    def look(self) -> None:
        """Looks now, and logs the positions that are new."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        # Heads only grow, and are read last: a position that is past them now was so before.
        params = {"partitions": ALL_PARTITIONS}
        with self._views.connection() as conn:
            checkpoints = conn.execute(SELECT_CHECKPOINTS, params).fetchall()
        with self._pool.connection() as conn:
            cursors = conn.execute(SELECT_CURSORS_PAST_HEADS, params).fetchall()
            rows = conn.execute(ROWS_PAST_HEADS, (ALL_PARTITIONS,)).fetchall()
            heads: dict[int, int] = dict(conn.execute(HEADS, (ALL_PARTITIONS,)).fetchall())
        past_heads = [PositionPastHead(LOG, *row) for row in rows]
        past_heads += [
            PositionPastHead(reader, partition, position, heads[partition])
            for reader, partition, position in checkpoints
            if position > heads[partition]
        ]
        past_heads += [PositionPastHead(reader_of(id), *rest) for id, *rest in cursors]
        self._past_heads, self._looked_at = past_heads, time.monotonic()
        for position in past_heads:
            if (position.of, position.log_partition) not in self._logged:
                log.error(
                    "log.position_past_head",
                    of=position.of,
                    log_partition=position.log_partition,
                    position=position.position,
                    head=position.head,
                )
        self._logged = {(position.of, position.log_partition) for position in past_heads}
