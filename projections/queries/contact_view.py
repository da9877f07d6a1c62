"""Queries: a user or account whole (the 360 view), its members and its activity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.definitions.links import Link, Reached, reached
from domain.errors import NotFound
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, log_partition
from projections.kernel import pg_arrays
from projections.kernel.paging import Page, decoded, encoded
from projections.queries.lifecycle import (
    InSegmentSince,
    ManualStage,
    ScoreItem,
    SignalItem,
    lifecycle,
)
from projections.queries.mrr import Mrr, mrr_of

CONTACT = sa.text("""
SELECT subject, kind, external_id, name, email, domain, identities, properties, changed_at,
       registered_at, first_seen, last_seen, mrr, currency, stage, health
FROM views.whole_contacts
WHERE log_partition = :partition AND subject = :subject AND kind = :kind""")

SURVIVOR = sa.text("""
SELECT survivor FROM views.merges WHERE log_partition = :partition AND loser = :subject""")

LOSERS = sa.text("SELECT loser FROM views.merges WHERE survivor = :subject ORDER BY loser")

IDENTITIES = sa.text("""
SELECT subject, identities FROM views.contacts
WHERE log_partition = ANY(:partitions) AND subject = ANY(:subjects) ORDER BY subject""")

NAMES = sa.text("""
SELECT w.s AS subject, c.subject AS shown, c.external_id, c.name
FROM unnest(CAST(:partitions AS smallint[]), CAST(:subjects AS uuid[])) AS w(p, s)
LEFT JOIN views.merges m ON m.log_partition = w.p AND m.loser = w.s
JOIN views.contacts c
  ON c.log_partition = ANY(:all_partitions) AND c.subject = coalesce(m.survivor, w.s)""")

TYPES = sa.text("SELECT name, value_type FROM views.catalogue WHERE scope = :scope")

# A user's records in accounts that are one today are one membership: the oldest that lasts, or else
# the one that ended last.
MEMBERS = """
WITH records AS ({records}), members AS (
    SELECT DISTINCT ON (other) * FROM records
    ORDER BY other, left_at DESC NULLS FIRST, joined_at, account_id)
SELECT m.other AS id, c.external_id, c.name, c.email, c.domain, m.role, m.properties,
       m.joined_at, m.left_at, c.subject IS NULL AS erased
FROM members m LEFT JOIN views.contacts c
  ON c.log_partition = ANY(:all_partitions) AND c.subject = m.other
WHERE CAST(:after AS uuid) IS NULL OR (m.joined_at, m.other) > (:joined_at, :after)
ORDER BY m.joined_at, m.other LIMIT :limit"""

MEMBER_COUNT = """
WITH records AS ({records})
SELECT count(DISTINCT other), count(DISTINCT other) FILTER (WHERE left_at IS NULL) FROM records"""

_RECORDS = {
    SubjectKind.USER: """
SELECT m.*, coalesce(g.survivor, m.account_id) AS other
FROM views.memberships m LEFT JOIN views.merges g
  ON g.log_partition = ANY(:all_partitions) AND g.loser = m.account_id
WHERE m.log_partition = :partition AND m.user_id = :subject""",
    SubjectKind.ACCOUNT: """
SELECT m.*, m.user_id AS other FROM views.memberships m WHERE m.account_id = ANY(:streams)""",
}
_MEMBERS = {kind: sa.text(MEMBERS.format(records=records)) for kind, records in _RECORDS.items()}
_MEMBER_COUNT = {
    kind: sa.text(MEMBER_COUNT.format(records=records)) for kind, records in _RECORDS.items()
}

# An account's activity names the account. It also has the pages, screens, channels and campaigns of
# its members that name no account.
OWN_DAYS = """
SELECT d.name_id, d.count, d.first_at, d.last_at, true AS own FROM views.activity_days d
WHERE d.log_partition = :partition AND d.subject = :subject"""

MEMBERS_DAYS = """
UNION ALL
SELECT d.name_id, d.count, d.first_at, d.last_at, false
FROM (SELECT DISTINCT log_partition, user_id FROM views.memberships
      WHERE account_id = ANY(:streams) AND left_at IS NULL) m
JOIN views.activity_days d
  ON d.log_partition = m.log_partition AND d.subject = m.user_id AND NOT d.in_account"""

ACTIVITY = """
WITH totals AS (
    SELECT n.name, sum(d.count)::bigint AS count, min(d.first_at) AS first_at,
           max(d.last_at) AS last_at
    FROM ({days}) d JOIN views.names n ON n.id = d.name_id
    WHERE n.kind = :activity AND (d.own OR n.kind <> 'event') GROUP BY n.name)
SELECT name, count, first_at, last_at, (SELECT count(*) FROM totals) AS total FROM totals
WHERE CAST(:after AS text) IS NULL OR count < :count OR (count = :count AND name > :after)
ORDER BY count DESC, name LIMIT :limit"""

# Summed by name first: much activity has few names.
COUNTS = """
SELECT n.kind, sum(d.count)::bigint
FROM (SELECT name_id, own, sum(count) AS count FROM ({days}) d GROUP BY name_id, own) d
JOIN views.names n ON n.id = d.name_id
WHERE d.own OR n.kind <> 'event' GROUP BY n.kind"""

_DAYS = {SubjectKind.USER: OWN_DAYS, SubjectKind.ACCOUNT: OWN_DAYS + MEMBERS_DAYS}
_ACTIVITY = {kind: sa.text(ACTIVITY.format(days=days)) for kind, days in _DAYS.items()}
_COUNTS = {kind: sa.text(COUNTS.format(days=days)) for kind, days in _DAYS.items()}
_ALL_PARTITIONS = pg_arrays.smallints(range(256))


class MemberItem(msgspec.Struct, frozen=True):
    """The other side of a membership; `left_at` marks one that ended."""

    id: UUID
    external_id: str | None
    name: str | None
    email: str | None
    domain: str | None
    role: str | None
    properties: dict[str, Any]
    joined_at: datetime
    left_at: datetime | None
    erased: bool


class ActivityItem(msgspec.Struct, frozen=True):
    name: str
    count: int
    first_at: datetime
    last_at: datetime


class PropertyItem(msgspec.Struct, frozen=True):
    name: str
    value: Any
    type: str | None
    source: str
    changed_at: datetime | None


class ActivityCounts(msgspec.Struct, frozen=True):
    events: int = 0
    pages: int = 0
    screens: int = 0
    channels: int = 0
    campaigns: int = 0


class IdentityItem(msgspec.Struct, frozen=True):
    scheme: str
    value: str


class Contact(msgspec.Struct, frozen=True):
    """The 360 view: everything about one user or account, except its long lists.

    Attributes:
        stage_since, health_since: when a decision last changed them; null: never yet.
        by_hand: the person's setting of its stage; null: the rules decide.
        signals: all that have triggered; first those that are on.
        memberships: the first hundred, oldest first; the rest under `/users` or `/accounts`.
        members: the number of present memberships.
        links: to its record in other apps, without links that name a value it lacks.
    """

    id: UUID
    kind: SubjectKind
    external_id: str | None
    name: str | None
    email: str | None
    domain: str | None
    identities: list[IdentityItem]
    properties: dict[str, Any]
    registered_at: datetime | None
    first_seen: datetime | None
    last_seen: datetime | None
    stage: str | None
    stage_since: datetime | None
    by_hand: ManualStage | None
    health: str
    health_since: datetime | None
    mrr: Mrr | None
    renewal_date: str | None
    counts: ActivityCounts
    members: int
    memberships: list[MemberItem]
    scores: list[ScoreItem]
    signals: list[SignalItem]
    segments: list[InSegmentSince]
    links: list[Reached]


def survivor_of(conn: sa.Connection, subject: SubjectId) -> SubjectId:
    """The subject, or its survivor."""
    partition = log_partition(subject)
    survivor = conn.scalar(SURVIVOR, {"partition": partition, "subject": subject})
    return subject if survivor is None else SubjectId(survivor)


def streams_of(conn: sa.Connection, subject: SubjectId) -> list[SubjectId]:
    """The streams of a subject: its own and those of the subjects merged into it."""
    return [subject, *conn.scalars(LOSERS, {"subject": subject})]


def known_as(
    conn: sa.Connection, name: Identity, subjects: Sequence[SubjectId]
) -> SubjectId | None:
    """The subject among these that has an identity, if any does."""
    params = {
        "partitions": [log_partition(subject) for subject in subjects],
        "subjects": list(subjects),
    }
    for subject, identities in conn.execute(IDENTITIES, params):
        for identity in identities:
            known = Identity(Scheme(identity["scheme"]), identity["value"])
            if (known.scheme, known.matching) == (name.scheme, name.matching):
                return SubjectId(subject)
    return None


def require(conn: sa.Connection, kind: SubjectKind, subject: SubjectId) -> None:
    """Raises: NotFound: no such user or account."""
    _row(conn, kind, subject)


def _row(conn: sa.Connection, kind: SubjectKind, subject: SubjectId) -> sa.Row[Any]:
    row = conn.execute(
        CONTACT, {"partition": log_partition(subject), "subject": subject, "kind": kind.value}
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no such {kind}")
    return row


def view(
    conn: sa.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    *,
    renewal_property: str,
    currency: str | None = None,
    links: Sequence[Link] = (),
) -> Contact:
    """The 360 view of a user or an account.

    Args:
        currency: of an MRR without one.
        links: of the workspace.

    Raises:
        NotFound: no such user or account, or not yet.
    """
    row = _row(conn, kind, subject)
    params = _params(conn, subject)
    counts = conn.execute(_COUNTS[kind], params).all()
    members, _, current = _members(conn, kind, params, (None, None), 100)
    stands = lifecycle(conn, kind, subject)
    properties = row.properties
    return Contact(
        id=row.subject,
        kind=kind,
        external_id=row.external_id,
        name=row.name,
        email=row.email,
        domain=row.domain,
        identities=[
            IdentityItem(identity["scheme"], identity["value"]) for identity in row.identities
        ],
        properties=properties,
        registered_at=row.registered_at,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        stage=row.stage,
        stage_since=stands.stage_since,
        by_hand=stands.by_hand,
        health=row.health,
        health_since=stands.health_since,
        mrr=mrr_of(conn, kind, subject, (row.mrr, row.currency), currency),
        renewal_date=_text(properties.get(renewal_property)),
        counts=ActivityCounts(**{f"{activity}s": count for activity, count in counts}),
        members=current,
        memberships=members[:100],
        scores=stands.scores,
        signals=stands.signals,
        segments=stands.segments,
        links=reached(links, kind, _attributes(row), properties),
    )


def _attributes(row: sa.Row[Any]) -> dict[str, object]:
    """The values that links can name besides properties."""
    return {
        "id": str(row.subject),
        "external_id": row.external_id,
        "name": row.name,
        "email": row.email,
        "domain": row.domain,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _params(conn: sa.Connection, subject: SubjectId) -> dict[str, object]:
    return {
        "subject": subject,
        "partition": log_partition(subject),
        "streams": streams_of(conn, subject),
        "all_partitions": _ALL_PARTITIONS,
    }


def list_members(
    conn: sa.Connection, kind: SubjectKind, subject: SubjectId, *, cursor: str | None, limit: int
) -> Page[MemberItem]:
    """The users of an account or the accounts of a user, with those that left, oldest first.

    Raises:
        NotFound: no such user or account.
        InvalidInput: an unknown cursor.
    """
    _row(conn, kind, subject)
    after: tuple[Any, ...] = (None, None)
    if cursor is not None:
        after = decoded(f"members:{kind}", cursor, datetime, UUID)
    members, total, _ = _members(conn, kind, _params(conn, subject), after, limit)
    items, following = members[:limit], None
    if len(members) > limit:
        following = encoded(f"members:{kind}", items[-1].joined_at, items[-1].id)
    return Page(items, following, total)


def _members(
    conn: sa.Connection,
    kind: SubjectKind,
    params: dict[str, object],
    after: tuple[Any, ...],
    limit: int,
) -> tuple[list[MemberItem], int, int]:
    """Returns up to one more row than a page, the number of all memberships, and of present
    ones."""
    total, current = conn.execute(_MEMBER_COUNT[kind], params).one()
    page = params | {"joined_at": after[0], "after": after[1], "limit": limit + 1}
    rows = conn.execute(_MEMBERS[kind], page)
    return [MemberItem(*row) for row in rows], total, current


def list_activity(
    conn: sa.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    activity: str,
    *,
    cursor: str | None,
    limit: int,
) -> Page[ActivityItem]:
    """The activity of a subject of one kind, by name, most frequent first.

    Raises:
        NotFound: no such user or account.
        InvalidInput: an unknown cursor.
    """
    _row(conn, kind, subject)
    after: tuple[Any, ...] = (None, None)
    if cursor is not None:
        after = decoded(activity, cursor, int, str)
    rows = conn.execute(
        _ACTIVITY[kind],
        _params(conn, subject)
        | {
            "activity": activity,
            "count": after[0],
            "after": after[1],
            "limit": limit + 1,
        },
    ).all()
    items = [ActivityItem(*row[:-1]) for row in rows[:limit]]
    following = None
    if len(rows) > limit:
        following = encoded(activity, items[-1].count, items[-1].name)
    return Page(items, following, rows[0].total if rows else 0)


def list_properties(
    conn: sa.Connection, kind: SubjectKind, subject: SubjectId
) -> Page[PropertyItem]:
    """The properties of a subject by name, each with its type and last change.

    Raises:
        NotFound: no such user or account.
    """
    row = _row(conn, kind, subject)
    types: dict[str, str | None] = {
        row.name: row.value_type for row in conn.execute(TYPES, {"scope": f"{kind}.property"})
    }
    changed_at: dict[str, str] = row.changed_at
    items = [
        PropertyItem(
            name,
            value,
            types.get(name),
            "source",
            datetime.fromisoformat(changed_at[name]) if name in changed_at else None,
        )
        for name, value in sorted(row.properties.items())
    ]
    return Page(items, None, len(items))


class Named(NamedTuple):
    """A subject as it is shown: of a merged one, the survivor."""

    id: UUID
    external_id: str | None
    name: str | None


def names_of(conn: sa.Connection, subjects: Sequence[SubjectId]) -> dict[SubjectId, Named]:
    """Those subjects that exist, as they are shown: a merged one as its survivor."""
    partitions, ids = [log_partition(subject) for subject in subjects], list(subjects)
    rows = conn.execute(
        NAMES, {"partitions": partitions, "subjects": ids, "all_partitions": _ALL_PARTITIONS}
    )
    return {SubjectId(row.subject): Named(row.shown, row.external_id, row.name) for row in rows}
