"""Read models: segments, the lists of static segments, and members.

The process manager (`projections.deciding.process_manager`) decides who enters and leaves; the last
event of a stream about a segment holds. A merged or erased subject is in no segment; the survivor
is decided anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec
import psycopg

from domain.definitions.types import Segment
from domain.events.decisions import OfDefinition, SegmentEntered, SegmentTransition
from domain.events.definitions import (
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
    MembersListed,
    MembersUnlisted,
)
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch
from projections.models.sweeps import sweep

ADD_SEGMENT = """
INSERT INTO views.segments (segment, kind, name, condition, version, created_at, created_by,
                            changed_at, changed_by)
VALUES (%(id)s, %(kind)s, %(name)s, %(condition)s, 1, %(at)s, %(by)s, %(at)s, %(by)s)"""

# Returns whether the condition changed: only then the segment is decided anew.
CHANGE_SEGMENT = """
UPDATE views.segments s
SET name = %(name)s, condition = %(condition)s, version = s.version + 1, changed_at = %(at)s,
    changed_by = %(by)s
FROM (SELECT condition FROM views.segments WHERE segment = %(id)s FOR UPDATE) before
WHERE s.segment = %(id)s
RETURNING s.version, s.condition IS NOT DISTINCT FROM before.condition"""

CLEAN_SEGMENT = """
UPDATE views.segments SET name = %(name)s, condition = %(condition)s
WHERE segment = %(id)s AND version = ANY(%(versions)s)"""

DELETE_SEGMENT = """
UPDATE views.segments SET version = version + 1, deleted_at = %(at)s, changed_at = %(at)s,
    changed_by = %(by)s
WHERE segment = %(id)s RETURNING version"""

LIST = """
INSERT INTO views.segment_lists (log_partition, segment, subject)
SELECT p, %(segment)b, s FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[])
     AS v(p, s) ON CONFLICT DO NOTHING"""

UNLIST = """
DELETE FROM views.segment_lists
WHERE segment = %(segment)b AND log_partition = ANY(%(partitions)b)
  AND subject = ANY(%(subjects)b)"""

FORGET_MEMBERS = """
DELETE FROM views.segment_members m
USING unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(segments)b::uuid[]) AS v(p, s, g)
WHERE m.log_partition = v.p AND m.subject = v.s AND m.segment = v.g
  AND m.log_partition = ANY(%(distinct_partitions)b)
RETURNING m.log_partition, m.segment"""

FORGET_LEAVERS = """
DELETE FROM views.segment_leavers m
USING unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(segments)b::uuid[]) AS v(p, s, g)
WHERE m.log_partition = v.p AND m.subject = v.s AND m.segment = v.g
  AND m.log_partition = ANY(%(distinct_partitions)b)"""

ADD_MEMBERS = """
INSERT INTO views.segment_members (log_partition, subject, segment, ordinal, entered_at)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(segments)b::uuid[],
                     %(ordinals)b::int[], %(instants)b::timestamptz[])"""

ADD_LEAVERS = """
INSERT INTO views.segment_leavers (log_partition, subject, segment, ordinal, left_at)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(segments)b::uuid[],
                     %(ordinals)b::int[], %(instants)b::timestamptz[])"""

COUNT = """
INSERT INTO views.segment_counts AS c (log_partition, segment, members)
SELECT * FROM unnest(%(partitions)b::smallint[], %(segments)b::uuid[], %(members)b::bigint[])
ON CONFLICT (log_partition, segment) DO UPDATE SET members = c.members + excluded.members"""

FORGET_SUBJECTS = """
DELETE FROM views.segment_members WHERE log_partition = ANY(%b) AND subject = ANY(%b)
RETURNING log_partition, segment"""

FORGET_WHO_LEFT = """
DELETE FROM views.segment_leavers WHERE log_partition = ANY(%b) AND subject = ANY(%b)"""

_encode = msgspec.json.Encoder().encode


def condition_json(definition: Segment) -> str | None:
    return None if definition.condition is None else _encode(definition.condition).decode()


class Segments:
    """Segments and their lists. A change begins a sweep."""

    tables: ClassVar[Sequence[str]] = ("segments", "segment_lists")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        for event in batch.definitions:
            self._apply(conn, event)

    def _apply(self, conn: psycopg.Connection, event: OpenedEvent) -> None:
        at = event.row.occurred_at
        match event.payload:
            case DefinitionMade(id, Segment() as definition, by):
                conn.execute(
                    ADD_SEGMENT, {"kind": definition.kind.value} | _columns(id, definition, by, at)
                )
                sweep(conn, id, OfDefinition(1))
            case DefinitionChanged(id, Segment() as definition, by):
                row = conn.execute(CHANGE_SEGMENT, _columns(id, definition, by, at)).fetchone()
                if row is not None and not row[1]:
                    sweep(conn, id, OfDefinition(row[0]))
            case DefinitionCleaned(id, versions, Segment() as definition):
                params = {"name": definition.name, "condition": condition_json(definition)}
                conn.execute(CLEAN_SEGMENT, params | {"id": id, "versions": versions})
            case DefinitionDeleted(id, by):
                row = conn.execute(DELETE_SEGMENT, {"id": id, "by": by, "at": at}).fetchone()
                if row is not None:
                    sweep(conn, id, OfDefinition(row[0]))
            case MembersListed(subjects):
                conn.execute(LIST, _listed(event.row.stream, subjects))
            case MembersUnlisted(subjects):
                conn.execute(UNLIST, _listed(event.row.stream, subjects))
            case _:
                pass

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """The list keeps the merged subject: its rule finds the survivor."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        """The list keeps the random id, as the log does."""


def _listed(segment: UUID, subjects: Sequence[SubjectId]) -> dict[str, object]:
    partitions = [log_partition(subject) for subject in subjects]
    return {"segment": segment, "partitions": partitions, "subjects": subjects}


def _columns(id: UUID, definition: Segment, by: UUID, at: datetime) -> dict[str, object]:
    return {
        "id": id,
        "name": definition.name,
        "condition": condition_json(definition),
        "by": by,
        "at": at,
    }


class SegmentMembers:
    """Members and former members, with the ordinal of the last decision."""

    tables: ClassVar[Sequence[str]] = ("segment_members", "segment_leavers", "segment_counts")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        last: dict[tuple[int, bytes, bytes], tuple[OpenedEvent, SegmentTransition]] = {}
        for _, _, _, _, event in batch.changes:
            payload, stream = event.payload, event.row.stream
            if isinstance(payload, SegmentTransition) and stream not in batch.survivors:
                last[log_partition(stream), stream.bytes, payload.definition.bytes] = (
                    event,
                    payload,
                )
        if not last:
            return
        rows = [last[key] for key in sorted(last)]
        partitions = [key[0] for key in sorted(last)]
        keys = {
            "partitions": pg_arrays.smallints(partitions),
            "subjects": pg_arrays.uuids([event.row.stream for event, _ in rows]),
            "segments": pg_arrays.uuids([payload.definition for _, payload in rows]),
            "distinct_partitions": sorted(set(partitions)),
        }
        counts: Counter[tuple[int, UUID]] = Counter()
        counts.subtract(tuple(row) for row in conn.execute(FORGET_MEMBERS, keys, binary=True))
        conn.execute(FORGET_LEAVERS, keys)
        entered = [
            (partition, *row)
            for partition, row in zip(partitions, rows, strict=True)
            if isinstance(row[1], SegmentEntered)
        ]
        left = [
            (partition, *row)
            for partition, row in zip(partitions, rows, strict=True)
            if not isinstance(row[1], SegmentEntered)
        ]
        for statement, some in ((ADD_MEMBERS, entered), (ADD_LEAVERS, left)):
            if some:
                conn.execute(
                    statement,
                    {
                        "partitions": pg_arrays.smallints([partition for partition, _, _ in some]),
                        "subjects": pg_arrays.uuids([event.row.stream for _, event, _ in some]),
                        "segments": pg_arrays.uuids([payload.definition for _, _, payload in some]),
                        "ordinals": pg_arrays.integers([payload.ordinal for _, _, payload in some]),
                        "instants": pg_arrays.instants(
                            [event.row.occurred_at for _, event, _ in some]
                        ),
                    },
                )
        counts.update((partition, payload.definition) for partition, _, payload in entered)
        _count(conn, counts)

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        self._forget(conn, [loser])

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        self._forget(conn, subjects)

    def _forget(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        params = (sorted({log_partition(subject) for subject in subjects}), list(subjects))
        counts: Counter[tuple[int, UUID]] = Counter()
        counts.subtract(tuple(row) for row in conn.execute(FORGET_SUBJECTS, params, binary=True))
        conn.execute(FORGET_WHO_LEFT, params)
        _count(conn, counts)


def _count(conn: psycopg.Connection, counts: Counter[tuple[int, UUID]]) -> None:
    rows = sorted((key[0], key[1], count) for key, count in counts.items() if count)
    if rows:
        conn.execute(
            COUNT,
            {
                "partitions": pg_arrays.smallints([row[0] for row in rows]),
                "segments": pg_arrays.uuids([row[1] for row in rows]),
                "members": pg_arrays.bigints([row[2] for row in rows]),
            },
        )
