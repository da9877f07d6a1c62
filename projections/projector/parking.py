"""Parked events of the read models: the events that a batch passes, and those that it parks.

The projector parks an event that cannot be applied. Later events of its stream wait behind it,
untried, so that each stream is applied in order. Other streams go on: rows of two streams do not
depend on the order between them, as partitions are projected apart. So an event of a user in an
account waits in the user's stream alone, and a merge in the stream of the merged subject. Events of
an erasure never wait.

All functions run in the projector's transactions, under its fence. `projections.projector.retrying`
closes the fence, so that one of both applies an event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import psycopg

from domain.commands import Position
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, log_partition
from domain.parked_events import ERASED_TOPICS, ERASING_TOPICS
from projections.kernel import pg_arrays

# Looks up all partitions of a batch at once, each by its key.
SELECT_PARTITIONS = """
SELECT w.p FROM unnest(%b::smallint[]) AS w(p)
WHERE EXISTS (SELECT FROM views.parked k WHERE k.projector = %b AND k.log_partition = w.p)"""

SELECT_BLOCKED_STREAMS = """
SELECT w.s FROM unnest(%(partitions)b::smallint[], %(streams)b::uuid[]) AS w(p, s)
WHERE EXISTS (SELECT FROM views.parked k
              WHERE k.projector = %(projector)b AND k.log_partition = w.p AND k.stream = w.s
                AND k.state <> 'skipped')"""

SELECT_SKIPPED = """
SELECT k.log_partition, k.position FROM views.parked k
JOIN unnest(%(partitions)b::smallint[], %(first)b::bigint[], %(last)b::bigint[])
     AS w(p, first, last)
  ON k.log_partition = w.p AND k.position BETWEEN w.first AND w.last
WHERE k.projector = %(projector)b AND k.state = 'skipped'"""

ADD_WAITING = """
INSERT INTO views.parked (projector, log_partition, position, stream, topic, state, tries)
SELECT %(projector)b, p, position, s, t, 'waiting', 0
FROM unnest(%(partitions)b::smallint[], %(positions)b::bigint[], %(streams)b::uuid[],
            %(topics)b::text[]) AS w(p, position, s, t)
ON CONFLICT DO NOTHING"""

PARK = """
INSERT INTO views.parked (projector, log_partition, position, error, stream, topic, tries)
VALUES (%(projector)s, %(partition)s, %(position)s, %(error)s, %(stream)s, %(topic)s, %(tries)s)
ON CONFLICT DO NOTHING"""

FORGET_GAPS = """
DELETE FROM views.parked
WHERE log_partition = ANY(%(partitions)s) AND stream = ANY(%(streams)s)
  AND projector <> %(projector)s AND state <> 'skipped'"""

FORGET_PARKED = "DELETE FROM views.parked WHERE projector = %s AND log_partition = ANY(%s)"

MARK_SKIPPED = """
INSERT INTO views.parked (projector, log_partition, position, stream, state, tries, parked_at)
VALUES (%(reader)s, %(partition)s, %(position)s, %(stream)s, 'skipped', 0, %(skipped_at)s)
ON CONFLICT (projector, log_partition, position) DO UPDATE SET state = 'skipped'"""

ALL_PARTITIONS = pg_arrays.smallints(range(256))


class SkippedEvent(NamedTuple):
    """An event that a reader skips by an admin's decision."""

    reader: str
    place: Position
    stream: SubjectId
    at: datetime


class Passed(msgspec.Struct, frozen=True):
    """The events that a batch passes.

    Attributes:
        waiting: behind a parked event of their stream.
        places: partition and position of the waiting and of the skipped events.
    """

    waiting: tuple[RecordedEvent, ...] = ()
    places: frozenset[tuple[int, int]] = frozenset()

    def __contains__(self, row: RecordedEvent) -> bool:
        return (row.log_partition, row.position) in self.places


NOTHING = Passed()


class ErasedWhileParked(Exception):
    """The event at an index of the batch erases a subject whose events are parked: these must be
    applied or dropped first."""

    def __init__(self, index: int, stream: SubjectId) -> None:
        super().__init__()
        self.index = index
        self.stream = stream


def passed(conn: psycopg.Connection, projector: str, rows: Sequence[RecordedEvent]) -> Passed:
    """The rows that a batch passes.

    Raises:
        ErasedWhileParked: see there.
    """
    bounds: dict[int, tuple[int, int]] = {}
    for row in rows:
        first, _ = bounds.get(row.log_partition, (row.position, 0))
        bounds[row.log_partition] = (first, row.position)
    params = (pg_arrays.smallints(list(bounds)), projector)
    hit = {partition for (partition,) in conn.execute(SELECT_PARTITIONS, params)}
    if not hit:
        return NOTHING
    concerned = [(n, row) for n, row in enumerate(rows) if row.log_partition in hit]
    blocked = _blocked_streams(conn, projector, [row for _, row in concerned])
    skipped = _skipped(conn, projector, {partition: bounds[partition] for partition in hit})
    waiting: list[RecordedEvent] = []
    for n, row in concerned:
        if row.stream not in blocked or (row.log_partition, row.position) in skipped:
            continue
        if row.topic in ERASED_TOPICS:
            raise ErasedWhileParked(n, row.stream)
        if row.topic not in ERASING_TOPICS:
            waiting.append(row)
    places = {(row.log_partition, row.position) for row in waiting} | skipped
    return Passed(tuple(waiting), frozenset(places))


def _blocked_streams(
    conn: psycopg.Connection, projector: str, rows: Sequence[RecordedEvent]
) -> Collection[SubjectId]:
    streams = {row.stream: row.log_partition for row in rows}
    params = {
        "partitions": pg_arrays.smallints(list(streams.values())),
        "streams": pg_arrays.uuids(list(streams)),
        "projector": projector,
    }
    return {SubjectId(stream) for (stream,) in conn.execute(SELECT_BLOCKED_STREAMS, params)}


def _skipped(
    conn: psycopg.Connection, projector: str, bounds: dict[int, tuple[int, int]]
) -> set[tuple[int, int]]:
    params = {
        "partitions": pg_arrays.smallints(list(bounds)),
        "first": pg_arrays.bigints([first for first, _ in bounds.values()]),
        "last": pg_arrays.bigints([last for _, last in bounds.values()]),
        "projector": projector,
    }
    return {(partition, position) for partition, position in conn.execute(SELECT_SKIPPED, params)}


def add_waiting(conn: psycopg.Connection, projector: str, rows: Sequence[RecordedEvent]) -> None:
    """Parks events behind another of their stream."""
    if rows:
        conn.execute(
            ADD_WAITING,
            {
                "projector": projector,
                "partitions": pg_arrays.smallints([row.log_partition for row in rows]),
                "positions": pg_arrays.bigints([row.position for row in rows]),
                "streams": pg_arrays.uuids([row.stream for row in rows]),
                "topics": pg_arrays.texts([row.topic for row in rows]),
            },
        )


def park(
    conn: psycopg.Connection, projector: str, row: RecordedEvent, error: Exception, tries: int
) -> None:
    """Parks an event that cannot be applied. Notes the kind of the error alone: its message can
    hold personal data."""
    name = type(error).__name__
    conn.execute(
        PARK,
        {
            "projector": projector,
            "partition": row.log_partition,
            "position": row.position,
            "error": name,
            "stream": row.stream,
            "topic": row.topic,
            "tries": tries,
        },
    )


def forget(conn: psycopg.Connection, projector: str, skipped: Sequence[SkippedEvent]) -> None:
    """Forgets the parked events of a projector that starts over, but not the skipped ones.
    Restores the skipped events of other readers, which may be lost with the read models."""
    conn.execute(FORGET_PARKED, (projector, ALL_PARTITIONS))
    for event in skipped:
        mark_skipped(conn, event)


def forget_gaps(conn: psycopg.Connection, projector: str, erased: Sequence[SubjectId]) -> None:
    """Removes the gaps of other readers that belong to erased subjects: nobody can open these
    rows."""
    partitions = sorted({log_partition(subject) for subject in erased})
    conn.execute(
        FORGET_GAPS, {"partitions": partitions, "streams": list(erased), "projector": projector}
    )


def mark_skipped(conn: psycopg.Connection, event: SkippedEvent) -> None:
    """Makes a reader skip an event."""
    partition, position = event.place.log_partition, event.place.position
    conn.execute(
        MARK_SKIPPED,
        {
            "reader": event.reader,
            "partition": partition,
            "position": position,
            "stream": event.stream,
            "skipped_at": event.at,
        },
    )
