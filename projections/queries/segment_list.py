"""Queries: segments, their progress, members, and previews."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Condition
from domain.errors import NotFound
from domain.events.decisions import DecisionCause, OfDay
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from projections.conditions.compiler import QueryScope, predicate
from projections.deciding.process_manager import NAME
from projections.kernel.paging import Page, decoded, encoded
from projections.kernel.tables import contacts, in_order_of_seen

SEGMENTS = """
SELECT s.segment, s.kind, s.name, CAST(s.condition AS text) AS condition, s.version, s.created_at,
       s.created_by, s.changed_at, s.changed_by,
       (SELECT coalesce(sum(members), 0)::bigint FROM views.segment_counts c
        WHERE c.segment = s.segment) AS members,
       w.cause, w.next_partition,
       NOT EXISTS (SELECT FROM views.deciding WHERE decider = :decider AND waits_for IS NULL)
           AS waits
FROM views.segments s LEFT JOIN views.sweeps w ON w.rule = CAST(s.segment AS text)
WHERE s.deleted_at IS NULL AND {which}
ORDER BY s.kind, s.name"""

BUILDING = sa.text("""
SELECT w.cause, w.next_partition,
       NOT EXISTS (SELECT FROM views.deciding WHERE decider = :decider AND waits_for IS NULL)
           AS waits
FROM unnest(CAST(:segments AS uuid[])) AS s(segment)
LEFT JOIN views.sweeps w ON w.rule = CAST(s.segment AS text)""")

ALL_SEGMENTS = sa.text(SEGMENTS.format(which="s.kind = ANY(:kinds)"))
ONE_SEGMENT = sa.text(SEGMENTS.format(which="s.segment = :segment"))

MEMBERS = sa.text("""
SELECT m.subject, c.external_id, c.name, c.email, c.domain, m.entered_at
FROM views.segment_members m
JOIN views.contacts c ON c.log_partition = m.log_partition AND c.subject = m.subject
WHERE m.segment = :segment AND (CAST(:after AS uuid) IS NULL OR m.subject > :after)
ORDER BY m.subject LIMIT :limit""")

KNOWN = sa.text("""
SELECT subject FROM views.contacts WHERE kind = :kind AND subject = ANY(:subjects)""")

SURVIVORS = sa.text("SELECT loser, survivor FROM views.merges WHERE loser = ANY(:subjects)")

_condition: msgspec.json.Decoder[Condition] = msgspec.json.Decoder(Condition)
_cause: msgspec.msgpack.Decoder[DecisionCause] = msgspec.msgpack.Decoder(DecisionCause)


class SegmentItem(msgspec.Struct, frozen=True):
    """A segment as it stands.

    Attributes:
        condition: null for a static segment.
        version: begins at 1; each change adds 1.
        created_by, changed_by: API keys, by id.
        members: the number of members.
        state: `building` while its members are computed for the first time, or anew after a change.
        progress: of the building, from 0 to 1.
    """

    id: UUID
    kind: SubjectKind
    name: str
    condition: Condition | None
    version: int
    created_at: datetime
    created_by: UUID
    changed_at: datetime
    changed_by: UUID
    members: int
    state: str
    progress: float


class SegmentMember(msgspec.Struct, frozen=True):
    """A member of a segment, with the start of the membership."""

    id: UUID
    external_id: str | None
    name: str | None
    email: str | None
    domain: str | None
    entered_at: datetime


class SampleItem(msgspec.Struct, frozen=True):
    """A user or an account that fulfils a condition."""

    id: UUID
    external_id: str | None
    name: str | None
    email: str | None
    domain: str | None
    last_seen: datetime | None


class Preview(msgspec.Struct, frozen=True):
    """The number of users or accounts that fulfil a condition, and a sample, those seen last
    first."""

    count: int
    sample: list[SampleItem]


def list_segments(conn: sa.Connection, kinds: Sequence[SubjectKind]) -> Page[SegmentItem]:
    """All segments of some kinds, by kind and name. They are few: `domain.workspace.editing`."""
    rows = conn.execute(ALL_SEGMENTS, {"decider": NAME, "kinds": [kind.value for kind in kinds]})
    items = [_item(row) for row in rows]
    return Page(items, None, len(items))


def segment(conn: sa.Connection, id: UUID) -> SegmentItem:
    """Raises: NotFound: no such segment, or not yet."""
    row = conn.execute(ONE_SEGMENT, {"decider": NAME, "segment": id}).one_or_none()
    if row is None:
        raise NotFound("there is no such segment")
    return _item(row)


def building(conn: sa.Connection, segments: Sequence[UUID]) -> float | None:
    """The lowest progress of these segments, from 0 to 1, while one is being built; None: all
    are ready."""
    rows = conn.execute(BUILDING, {"decider": NAME, "segments": list(segments)}) if segments else ()
    return min((done for row in rows if (done := _built(row)) is not None), default=None)


def _built(row: sa.Row[Any]) -> float | None:
    """The progress of a segment, from 0 to 1; None: it is ready."""
    # The sweep of a new day counts as ready: few members change, and each follows by itself.
    is_due = row.cause is not None and not isinstance(_cause.decode(row.cause), OfDay)
    if row.waits:
        return 0.0
    return round(row.next_partition / LOG_PARTITIONS, 3) if is_due else None


def _item(row: sa.Row[Any]) -> SegmentItem:
    built = _built(row)
    return SegmentItem(
        id=row.segment,
        kind=SubjectKind(row.kind),
        name=row.name,
        condition=None if row.condition is None else _condition.decode(row.condition),
        version=row.version,
        created_at=row.created_at,
        created_by=row.created_by,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        members=row.members,
        state="ready" if built is None else "building",
        progress=1.0 if built is None else built,
    )


def list_members(
    conn: sa.Connection, id: UUID, *, cursor: str | None, limit: int
) -> Page[SegmentMember]:
    """The members of a segment, in no meaningful order.

    Raises:
        NotFound: no such segment.
        InvalidInput: an unknown cursor.
    """
    total = segment(conn, id).members
    name = f"segment:{id}"
    after = None if cursor is None else decoded(name, cursor, UUID)[0]
    rows = conn.execute(MEMBERS, {"segment": id, "after": after, "limit": limit + 1}).all()
    items = [SegmentMember(*row) for row in rows[:limit]]
    following = encoded(name, items[-1].id) if len(rows) > limit else None
    return Page(items, following, total)


def preview(
    conn: sa.Connection, kind: SubjectKind, condition: Condition, moment: Moment, *, sample: int
) -> Preview:
    """A preview of a segment with this condition; saves nothing."""
    c = contacts.c
    chosen = (c.kind == kind.value, predicate(condition, kind, moment, scope=QueryScope.ALL))
    count = conn.scalar(sa.select(sa.func.count()).select_from(contacts).where(*chosen)) or 0
    newest = sa.func.coalesce(c.last_seen, sa.literal_column("'-infinity'::timestamptz"))
    rows = conn.execute(
        sa.select(c.subject, c.external_id, c.name, c.email, c.domain, c.last_seen)
        .where(*chosen, in_order_of_seen(kind))
        .order_by(newest.desc(), c.seen_subject.desc())
        .limit(sample)
    )
    return Preview(count, [SampleItem(*row) for row in rows])


def known(
    conn: sa.Connection, kind: SubjectKind, subjects: Sequence[SubjectId]
) -> dict[SubjectId, SubjectId]:
    """The subjects of today for those ids that stand for a user or an account."""
    params = {"subjects": list(subjects)}
    today = {subject: subject for subject in subjects}
    today |= {
        SubjectId(row.loser): SubjectId(row.survivor) for row in conn.execute(SURVIVORS, params)
    }
    known = set(conn.scalars(KNOWN, {"kind": kind.value, "subjects": list(set(today.values()))}))
    return {id: subject for id, subject in today.items() if subject in known}
