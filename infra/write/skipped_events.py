"""Skipped events: the decision to go on without a parked event, on record beside the log.

It lies with the log, not with the read models: so it is backed up, and outlives a rebuild. The
reason is free text and can be about somebody, so it is sealed under the key of the subject that the
event is about, and goes with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.identity import SubjectId
from domain.parked_events import Skip
from infra.keys.key_ring import KeyRing
from projections.projector.parking import SkippedEvent

NONCE_BYTES = 12
_REASON = b"skip"

ADD = """
INSERT INTO log.skipped_events (log_partition, position, reader, stream, reason, skipped_by)
VALUES (%s, %s, %s, %s, %b, %s) ON CONFLICT DO NOTHING"""

SELECT_ALL = """
SELECT reader, log_partition, position, stream, skipped_at FROM log.skipped_events
ORDER BY log_partition, position, reader"""

SELECT_AT = """
SELECT s.log_partition, s.position, s.stream, s.reason, s.skipped_by, s.skipped_at
FROM log.skipped_events s JOIN unnest(%s::smallint[], %s::bigint[]) AS w(p, at)
  ON s.log_partition = w.p AND s.position = w.at
WHERE s.reader = %s"""


class SkippedEvents:
    """One for each process; safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys

    def add(self, reader: str, place: Position, stream: SubjectId, reason: str, by: str) -> None:
        """Puts a decision on record. The first one about an event stays.

        Raises:
            SubjectErased: the key of whom it is about is destroyed.
        """
        self._keys.refresh()
        key = self._keys.fetch_or_make({stream.int})[stream.int]
        sealed = key.seal(reason.encode(), _bound(reader, place), os.urandom(NONCE_BYTES))
        at = (place.log_partition, place.position)
        with self._pool.connection() as conn:
            conn.execute(ADD, (*at, reader, stream, sealed, by))

    def all(self) -> list[SkippedEvent]:
        """Every event that is skipped, by any reader."""
        with self._pool.connection() as conn:
            return [
                SkippedEvent(reader, Position(partition, position), SubjectId(stream), at)
                for reader, partition, position, stream, at in conn.execute(SELECT_ALL)
            ]

    def of(self, reader: str, places: Sequence[Position]) -> dict[Position, Skip]:
        """The decisions about events of a reader, by place."""
        asked = ([one.log_partition for one in places], [one.position for one in places], reader)
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_AT, asked, binary=True).fetchall()
        self._keys.refresh()
        keys = self._keys.fetch({row[2].int for row in rows})
        found: dict[Position, Skip] = {}
        for partition, position, stream, sealed, by, at in rows:
            place = Position(partition, position)
            reason = None
            if stream.int in keys:
                try:
                    reason = keys[stream.int].unseal(sealed, _bound(reader, place)).decode()
                except (InvalidTag, ValueError):
                    reason = None
            found[place] = Skip(reason, by, at)
        return found


def _bound(reader: str, place: Position) -> bytes:
    return b"%b\0%b\0%d:%d" % (_REASON, reader.encode(), place.log_partition, place.position)
