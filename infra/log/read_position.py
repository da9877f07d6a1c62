"""Read your writes: waits until the read models have reached positions of the log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import InvalidInput, Unavailable
from domain.identity import LOG_PARTITIONS
from infra.log.event_log import EventLog
from projections.projector.checkpoints import reached

MAX_WAIT_SECONDS = 5.0
MAX_CATCH_UP_SECONDS = 2.0
POLL_SECONDS = 0.01


class ReadPosition:
    """Thread-safe; one instance per process."""

    def __init__(self, log: EventLog, views: ConnectionPool) -> None:
        self._log = log
        self._views = views

    def wait_for(self, positions: Sequence[Position]) -> None:
        """Returns when the read models have the events at the positions.

        Raises:
            InvalidInput: the log has no such position.
            Unavailable: the read models did not get there within 5 seconds.
        """
        newest: dict[int, int] = {}
        for wanted in positions:
            partition = wanted.log_partition
            newest[partition] = max(wanted.position, newest.get(partition, 0))
        heads = self._log.heads(list(newest))
        if any(heads[partition] < position for partition, position in newest.items()):
            raise InvalidInput("the log has no such position yet", pointer="/wait_for")
        latest = [Position(partition, position) for partition, position in newest.items()]
        if not self._reached(latest, MAX_WAIT_SECONDS):
            raise Unavailable("the read models are behind; ask again, or without wait_for")

    def catch_up(self) -> None:
        """Waits up to 2 seconds for the read models to have all that the log has now."""
        heads = self._log.heads(range(LOG_PARTITIONS))
        positions = [Position(partition, head) for partition, head in heads.items() if head]
        self._reached(positions, MAX_CATCH_UP_SECONDS)

    def _reached(self, positions: Sequence[Position], seconds: float) -> bool:
        """Whether the read models reach the positions within so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            with self._views.connection() as conn:
                if reached(conn, positions):
                    return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
