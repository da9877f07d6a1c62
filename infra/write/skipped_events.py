"""Skipped events: decisions that a reader continues without a parked event.

They are stored with the log, not with the read models, so that they are backed up and outlive a
rebuild. The reason is free text and can be personal, so it is sealed under the key of the subject
that the event is about, and ends with the key.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.identity import SubjectId
from domain.parked_events import Skip
from infra.keys.key_ring import KeyRing
from infra.keys.subject_key import random_nonces
from projections.projector.parking import SkippedEvent

_REASON = b"skip"

INSERT_SKIP = """
INSERT INTO log.skipped_events (log_partition, position, reader, stream, reason, skipped_by)
VALUES (%(partition)s, %(position)s, %(reader)s, %(stream)s, %(reason)b, %(skipped_by)s)
ON CONFLICT DO NOTHING"""

SELECT_SKIPPED = """
SELECT reader, log_partition, position, stream, skipped_at FROM log.skipped_events
ORDER BY log_partition, position, reader"""

SELECT_SKIPS = """
SELECT s.log_partition, s.position, s.stream, s.reason, s.skipped_by, s.skipped_at
FROM log.skipped_events s
JOIN unnest(%(partitions)s::smallint[], %(positions)s::bigint[]) AS w(p, at)
  ON s.log_partition = w.p AND s.position = w.at
WHERE s.reader = %(reader)s"""


class SkippedEvents:
    """Thread-safe; one instance per process."""

    def __init__(self, pool: ConnectionPool, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys

    def add(self, reader: str, position: Position, stream: SubjectId, reason: str, by: str) -> None:
        """Records a decision. The first decision about an event and reader stays.

        Raises:
            SubjectErased: the key of the stream's subject is destroyed.
        """
        self._keys.refresh()
        key = self._keys.fetch_or_make({stream.int})[stream.int]
        [nonce] = random_nonces(1)
        params = {
            "partition": position.log_partition,
            "position": position.position,
            "reader": reader,
            "stream": stream,
            "reason": key.seal(reason.encode(), _bound(reader, position), nonce),
            "skipped_by": by,
        }
        with self._pool.connection() as conn:
            conn.execute(INSERT_SKIP, params)

    def all(self) -> list[SkippedEvent]:
        """The events that any reader skips."""
        with self._pool.connection() as conn:
            return [
                SkippedEvent(reader, Position(partition, position), SubjectId(stream), at)
                for reader, partition, position, stream, at in conn.execute(SELECT_SKIPPED)
            ]

    def of(self, reader: str, positions: Sequence[Position]) -> dict[Position, Skip]:
        """The decisions of a reader about the events at some positions. The reason is None where
        its subject is erased."""
        params = {
            "partitions": [position.log_partition for position in positions],
            "positions": [position.position for position in positions],
            "reader": reader,
        }
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_SKIPS, params, binary=True).fetchall()
        self._keys.refresh()
        keys = self._keys.fetch({row[2].int for row in rows})
        skips: dict[Position, Skip] = {}
        for partition, number, stream, sealed, by, at in rows:
            position = Position(partition, number)
            reason = None
            if stream.int in keys:
                try:
                    reason = keys[stream.int].unseal(sealed, _bound(reader, position)).decode()
                except (InvalidTag, ValueError):
                    reason = None
            skips[position] = Skip(reason, by, at)
        return skips


def _bound(reader: str, position: Position) -> bytes:
    numbers = (position.log_partition, position.position)
    return b"%b\0%b\0%d:%d" % (_REASON, reader.encode(), *numbers)
