"""Gaps: rows of the log that do not open, although their keys exist.

A reader shows a gap or passes it. The envelope of such a row may be as wrong as its content: it
gives the position, and decides nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
import psycopg
import structlog

from domain.events.recorded import OpenedEvent, RecordedEvent
from projections.kernel import pg_arrays
from projections.kernel.merges import ALL_PARTITIONS

NOTE = """
INSERT INTO views.parked (projector, log_partition, position, error, stream, topic)
SELECT %(reader)b, p, position, error, s, t
FROM unnest(%(partitions)b::smallint[], %(positions)b::bigint[], %(errors)b::text[],
            %(streams)b::uuid[], %(topics)b::text[])
     AS w(p, position, error, s, t)
ON CONFLICT DO NOTHING RETURNING log_partition, position"""

FORGET = """
DELETE FROM views.parked
WHERE log_partition = ANY(%s) AND projector = ANY(%s) AND state <> 'skipped'"""

log = structlog.get_logger()

Event = TypeVar("Event", bound=OpenedEvent)


class GapReason(enum.StrEnum):
    """
    altered: the row differs from the stored one: altered, cut, or moved from elsewhere.
    unreadable: the row may be whole, but this version does not know its topic, version or format.
    """

    ALTERED = "altered"
    UNREADABLE = "unreadable"


class Gap(msgspec.Struct, frozen=True):
    """A row that does not open.

    Attributes:
        error: the kind of error.
    """

    row: RecordedEvent
    reason: GapReason
    error: str


def parted(events: Iterable[Event | Gap]) -> tuple[list[Event], list[Gap]]:
    """Parts opened events from gaps, each in the order given."""
    opened: list[Event] = []
    gaps: list[Gap] = []
    for event in events:
        if isinstance(event, Gap):
            gaps.append(event)
        else:
            opened.append(event)
    return opened, gaps


def place_of(row: RecordedEvent) -> str:
    """Partition and position, like `12:345`."""
    return f"{row.log_partition}:{row.position}"


def log_gaps(reader: str, gaps: Iterable[Gap]) -> None:
    """Logs the rows that a reader passes, by position and topic, without their content."""
    for gap in gaps:
        row = gap.row
        log.error(
            "reader.passed",
            reader=reader,
            log_partition=row.log_partition,
            position=row.position,
            topic=row.topic,
            error=gap.error,
        )


def note(conn: psycopg.Connection, reader: str, gaps: Sequence[Gap]) -> None:
    """Adds the rows that a reader passes to the list of parked events, and logs the new ones."""
    if not gaps:
        return
    rows = [gap.row for gap in gaps]
    listed = conn.execute(
        NOTE,
        {
            "reader": reader,
            "partitions": pg_arrays.smallints([row.log_partition for row in rows]),
            "positions": pg_arrays.bigints([row.position for row in rows]),
            "errors": pg_arrays.texts([gap.error for gap in gaps]),
            "streams": pg_arrays.uuids([row.stream for row in rows]),
            "topics": pg_arrays.texts([row.topic for row in rows]),
        },
    )
    new = set(listed.fetchall())
    log_gaps(reader, [gap for gap in gaps if (gap.row.log_partition, gap.row.position) in new])


def forget(conn: psycopg.Connection, readers: Sequence[str]) -> None:
    """Removes the gaps of readers that no longer exist from the list."""
    conn.execute(FORGET, (ALL_PARTITIONS, list(readers)))
