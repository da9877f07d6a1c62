"""Queries: parked events, by reader, partition and position."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from domain.commands import Position
from domain.parked_events import OPEN_STATES, ParkedState

SELECT_PAGE = """
SELECT projector AS reader, log_partition, position, state, stream, topic, error, tries, parked_at,
       tried_at
FROM views.parked
WHERE (%(reader)s::text IS NULL OR projector = %(reader)s) AND state = ANY(%(states)s)
  AND (%(after)s::text IS NULL
       OR (projector, log_partition, position) > (%(after)s, %(partition)s, %(position)s))
ORDER BY projector, log_partition, position LIMIT %(limit)s"""

SELECT_ONE = """
SELECT projector AS reader, log_partition, position, state, stream, topic, error, tries, parked_at,
       tried_at
FROM views.parked
WHERE projector = %(reader)s AND log_partition = %(partition)s AND position = %(position)s"""

Key = tuple[str, int, int]
"""Reader, partition and position."""


class ParkedRow(NamedTuple):
    reader: str
    log_partition: int
    position: int
    state: str
    stream: UUID | None
    topic: str | None
    error: str | None
    tries: int
    parked_at: datetime
    tried_at: datetime | None

    @property
    def key(self) -> Key:
        return (self.reader, self.log_partition, self.position)

    @property
    def place(self) -> Position:
        return Position(self.log_partition, self.position)


def page(
    conn: psycopg.Connection,
    reader: str | None,
    state: ParkedState | None,
    after: Key | None,
    limit: int,
) -> list[ParkedRow]:
    """Parked events after a key; skipped ones only if `state` asks for them."""
    reader_after, partition, position = after or (None, None, None)
    params = {
        "reader": reader,
        "states": [some.value for some in ([state] if state else OPEN_STATES)],
        "after": reader_after,
        "partition": partition,
        "position": position,
        "limit": limit,
    }
    return conn.cursor(row_factory=class_row(ParkedRow)).execute(SELECT_PAGE, params).fetchall()


def find(conn: psycopg.Connection, reader: str, place: Position) -> ParkedRow | None:
    """The parked or skipped event of a reader at a position."""
    params = {
        "reader": reader,
        "partition": place.log_partition,
        "position": place.position,
    }
    return conn.cursor(row_factory=class_row(ParkedRow)).execute(SELECT_ONE, params).fetchone()
