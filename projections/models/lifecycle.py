"""Read model: the lifecycle of each subject: since when stage and health hold, the stage that
was set manually, and the history of stages.

Stage and health themselves are columns of `views.contacts`, where lists and bars read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import psycopg

from domain.events.decisions import HealthChanged, StageEntered, StageLeft, StageTransition
from domain.events.payloads import StageReleased, StageSet
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch
from projections.models import bars
from projections.models.bars import Counted

# A part without an instant stays as it is: the batch does not change it.
CHANGE_STANDINGS = """
INSERT INTO views.standings AS s
       (log_partition, subject, stage_ordinal, stage_since, health_ordinal, health_since,
        is_by_hand, hand_stage, hand_reason, hand_by, hand_at)
SELECT p, s, so, ss, ho, hs, h, hst, hr, hb::uuid, ha
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(stage_ordinals)b::int[],
            %(stage_since)b::timestamptz[], %(health_ordinals)b::int[],
            %(health_since)b::timestamptz[], %(is_manual)b::boolean[], %(manual_stages)b::text[],
            %(reasons)b::text[], %(set_by)b::text[], %(set_at)b::timestamptz[])
     AS w(p, s, so, ss, ho, hs, h, hst, hr, hb, ha)
ON CONFLICT (log_partition, subject) DO UPDATE
SET stage_ordinal = greatest(s.stage_ordinal, excluded.stage_ordinal),
    stage_since = coalesce(excluded.stage_since, s.stage_since),
    health_ordinal = greatest(s.health_ordinal, excluded.health_ordinal),
    health_since = coalesce(excluded.health_since, s.health_since),
    is_by_hand = CASE WHEN excluded.hand_at IS NULL THEN s.is_by_hand
                      ELSE excluded.is_by_hand END,
    hand_stage = CASE WHEN excluded.hand_at IS NULL THEN s.hand_stage
                      ELSE excluded.hand_stage END,
    hand_reason = CASE WHEN excluded.hand_at IS NULL THEN s.hand_reason
                       ELSE excluded.hand_reason END,
    hand_by = CASE WHEN excluded.hand_at IS NULL THEN s.hand_by ELSE excluded.hand_by END,
    hand_at = coalesce(excluded.hand_at, s.hand_at)"""

CHANGE_CONTACTS = """
UPDATE views.contacts c SET stage = w.stage, health = w.health
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(stages)b::text[],
            %(healths)b::text[]) AS w(p, s, stage, health)
WHERE c.log_partition = w.p AND c.subject = w.s
  AND c.log_partition = ANY(%(distinct_partitions)b)"""

ADD_SPELLS = """
INSERT INTO views.stage_spells (log_partition, subject, ordinal, stage, definition, version,
                                by_hand, entered_at)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(ordinals)b::int[],
                     %(stages)b::text[], %(definitions)b::uuid[], %(versions)b::int[],
                     %(is_manual)b::boolean[], %(entered_at)b::timestamptz[])"""

END_SPELLS = """
UPDATE views.stage_spells d SET left_at = w.at
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(ordinals)b::int[],
            %(left_at)b::timestamptz[]) AS w(p, s, ordinal, at)
WHERE d.log_partition = w.p AND d.subject = w.s AND d.ordinal = w.ordinal
  AND d.log_partition = ANY(%(distinct_partitions)b)"""

FORGET_STANDINGS = """
DELETE FROM views.standings WHERE log_partition = ANY(%b) AND subject = ANY(%b)"""

FORGET_SPELLS = """
DELETE FROM views.stage_spells WHERE log_partition = ANY(%b) AND subject = ANY(%b)"""


class _Change:
    """The changes of one subject in a batch."""

    __slots__ = ("hand", "hand_at", "health", "health_at", "stage", "stage_at")

    def __init__(self) -> None:
        self.stage: StageTransition | None = None
        self.health: HealthChanged | None = None
        self.hand: StageSet | None = None
        self.stage_at: datetime | None = None
        self.health_at: datetime | None = None
        self.hand_at: datetime | None = None

    def counts_as(self, before: Counted) -> Counted:
        stage, health = before.stage, before.health
        if self.stage is not None:
            stage = self.stage.stage if isinstance(self.stage, StageEntered) else None
        if self.health is not None:
            health = self.health.after
        return before._replace(stage=stage, health=health)


class Lifecycles:
    tables: ClassVar[Sequence[str]] = ("standings", "stage_spells")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        changes: dict[tuple[int, bytes], tuple[SubjectId, _Change]] = {}
        entered: list[tuple[OpenedEvent, StageEntered]] = []
        left: list[tuple[OpenedEvent, StageLeft]] = []
        for _, _, _, _, event in batch.changes:
            payload, stream, at = event.payload, event.row.stream, event.row.occurred_at
            if stream in batch.survivors or not isinstance(
                payload, StageTransition | HealthChanged | StageSet | StageReleased
            ):
                continue
            key = (log_partition(stream), stream.bytes)
            _, change = changes.setdefault(key, (stream, _Change()))
            match payload:
                case StageTransition():
                    change.stage, change.stage_at = payload, at
                    if isinstance(payload, StageEntered):
                        entered.append((event, payload))
                    elif isinstance(payload, StageLeft):
                        left.append((event, payload))
                case HealthChanged():
                    change.health, change.health_at = payload, at
                case StageSet():
                    change.hand, change.hand_at = payload, at
                case StageReleased():
                    change.hand, change.hand_at = None, at
        if not changes:
            return
        rows = [(key[0], *changes[key]) for key in sorted(changes)]
        _stand(conn, rows)
        _count(conn, rows)
        _spell(conn, entered, left)

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        self.erase(conn, [loser])

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        params = (sorted({log_partition(subject) for subject in subjects}), list(subjects))
        conn.execute(FORGET_STANDINGS, params)
        conn.execute(FORGET_SPELLS, params)


def _stand(conn: psycopg.Connection, rows: Sequence[tuple[int, SubjectId, _Change]]) -> None:
    hands = [change.hand for _, _, change in rows]
    conn.execute(
        CHANGE_STANDINGS,
        {
            "partitions": pg_arrays.smallints([partition for partition, _, _ in rows]),
            "subjects": pg_arrays.uuids([subject for _, subject, _ in rows]),
            "stage_ordinals": pg_arrays.integers(
                [row.stage.ordinal if row.stage else 0 for _, _, row in rows]
            ),
            "stage_since": pg_arrays.instants([row.stage_at for _, _, row in rows]),
            "health_ordinals": pg_arrays.integers(
                [row.health.ordinal if row.health else 0 for _, _, row in rows]
            ),
            "health_since": pg_arrays.instants([row.health_at for _, _, row in rows]),
            "is_manual": pg_arrays.booleans([hand is not None for hand in hands]),
            "manual_stages": pg_arrays.texts([hand.stage if hand else None for hand in hands]),
            "reasons": pg_arrays.texts([hand.reason if hand else None for hand in hands]),
            "set_by": pg_arrays.texts([str(hand.by) if hand else None for hand in hands]),
            "set_at": pg_arrays.instants([row.hand_at for _, _, row in rows]),
        },
    )


def _count(conn: psycopg.Connection, rows: Sequence[tuple[int, SubjectId, _Change]]) -> None:
    """Updates contacts and bars. The subject's stream added the contact before."""
    moved = [row for row in rows if row[2].stage is not None or row[2].health is not None]
    if not moved:
        return
    before = bars.counted(conn, [subject for _, subject, _ in moved])
    moved = [row for row in moved if row[1] in before]
    after = {subject: change.counts_as(before[subject]) for _, subject, change in moved}
    partitions = [partition for partition, _, _ in moved]
    conn.execute(
        CHANGE_CONTACTS,
        {
            "partitions": pg_arrays.smallints(partitions),
            "subjects": pg_arrays.uuids([subject for _, subject, _ in moved]),
            "stages": pg_arrays.texts([after[subject].stage for _, subject, _ in moved]),
            "healths": pg_arrays.texts([str(after[subject].health) for _, subject, _ in moved]),
            "distinct_partitions": sorted(set(partitions)),
        },
    )
    bars.move(conn, before, after)


def _spell(
    conn: psycopg.Connection,
    entered: Sequence[tuple[OpenedEvent, StageEntered]],
    left: Sequence[tuple[OpenedEvent, StageLeft]],
) -> None:
    if entered:
        streams = [event.row.stream for event, _ in entered]
        definitions: list[UUID] = [payload.definition for _, payload in entered]
        conn.execute(
            ADD_SPELLS,
            {
                "partitions": pg_arrays.smallints([log_partition(stream) for stream in streams]),
                "subjects": pg_arrays.uuids(streams),
                "ordinals": pg_arrays.integers([payload.ordinal for _, payload in entered]),
                "stages": pg_arrays.texts([payload.stage for _, payload in entered]),
                "definitions": pg_arrays.uuids(definitions),
                "versions": pg_arrays.integers([payload.version for _, payload in entered]),
                "is_manual": pg_arrays.booleans([payload.by_hand for _, payload in entered]),
                "entered_at": pg_arrays.instants([event.row.occurred_at for event, _ in entered]),
            },
        )
    if left:
        streams = [event.row.stream for event, _ in left]
        partitions = [log_partition(stream) for stream in streams]
        conn.execute(
            END_SPELLS,
            {
                "partitions": pg_arrays.smallints(partitions),
                "subjects": pg_arrays.uuids(streams),
                "ordinals": pg_arrays.integers([payload.ordinal - 1 for _, payload in left]),
                "left_at": pg_arrays.instants([event.row.occurred_at for event, _ in left]),
                "distinct_partitions": sorted(set(partitions)),
            },
        )
