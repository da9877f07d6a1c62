"""Query: what a search finds, the best first.

A list has four parts: what is the search, what begins with it, what contains it, and what is like
it. Each is read when the page has room for it. Its contacts are ranked where they are at most
`MAX_RANKED`. Where there are more, to rank them would take long and tell nobody anything: the last
seen come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from domain.identity import SubjectKind
from domain.search.entry import SearchEntry
from domain.search.question import Search, rank
from projections.conditions.fragments import Predicate
from projections.conditions.search import Way, entries_by
from projections.kernel.paging import decoded, encoded
from projections.kernel.tables import contacts, search_entries, seen

MAX_RANKED = 1_000
"""Contacts of a part that are ranked."""

MAX_WALKED = 5_000
"""Contacts that are asked whether a search finds them, before all that it finds are sorted."""

Found = sa.Select[tuple[int, UUID, str, str, str, str]]
"""Partitions, subjects and the texts of entries."""

LEAST_INSTANT: sa.ColumnElement[datetime] = sa.literal_column("'-infinity'::timestamptz")

_entries = search_entries.c


class Place(NamedTuple):
    """Where a contact stands in a list by rank; that of a cursor is the last of a page.

    Attributes:
        way: the number of a `Way`: the part.
        is_ranked: whether the part is ranked; else the last seen come first.
        answer, distance: its rank, where there is one.
    """

    way: int
    is_ranked: bool
    answer: int
    distance: int
    last_seen: datetime | None
    subject: UUID

    @property
    def key(self) -> tuple[int, int, float, int]:
        """Sorts the places of a part that is ranked."""
        at = self.last_seen.timestamp() if self.last_seen else float("-inf")
        return self.answer, self.distance, -at, -self.subject.int


def place_of(list_name: str, cursor: str) -> Place:
    """
    Raises:
        InvalidInput: an unknown cursor.
    """
    return Place(*decoded(list_name, cursor, int, bool, int, int, datetime | None, UUID))


def cursor_of(list_name: str, place: Place) -> str:
    return encoded(list_name, *place)


def best(
    conn: sa.Connection,
    search: Search,
    kind: SubjectKind,
    others: Sequence[Predicate],
    after: Place | None,
    many: int,
) -> tuple[list[Place], bool]:
    """The first of what a search finds.

    Args:
        others: what else holds of a row of `views.whole_contacts`.
        after: the last of the page before.

    Returns:
        at most that many, and whether they are all that is found.
    """
    places: list[Place] = []
    is_all = after is None
    for way in Way:
        if after is not None and way < after.way:
            continue
        predicate = entries_by(search, way)
        if predicate is None:
            continue
        room = many - len(places)
        if not room:
            return places, False
        found = _found(kind, predicate, others)
        last = after if after is not None and after.way == way else None
        ranked = _ranked(conn, search, way, found, last)
        if ranked is None:
            ranked = _last_seen(conn, kind, way, found, last, room)
            is_all = False
        places += ranked[:room]
        is_all = is_all and len(ranked) <= room
    return places, is_all


def _found(kind: SubjectKind, predicate: Predicate, others: Sequence[Predicate]) -> Found:
    found = sa.select(
        _entries.log_partition,
        _entries.subject,
        _entries.name,
        _entries.address,
        _entries.external_id,
        _entries.others,
    )
    if others:
        here = sa.and_(
            contacts.c.log_partition == _entries.log_partition,
            contacts.c.subject == _entries.subject,
        )
        found = found.join_from(search_entries, contacts, here)
    return found.where(_entries.kind == kind.value, predicate, *others)


def _ranked(
    conn: sa.Connection,
    search: Search,
    way: Way,
    found: Found,
    after: Place | None,
) -> list[Place] | None:
    """The places of a part in order; None: they are too many.

    Args:
        after: the last of the page before, of this part. It goes on as it began, though it has more
            or fewer contacts by now.
    """
    if after is not None and not after.is_ranked:
        return None
    most = MAX_RANKED if after is None else 2 * MAX_RANKED
    few = found.limit(most + 1).subquery()
    here = sa.and_(seen.c.log_partition == few.c.log_partition, seen.c.subject == few.c.subject)
    rows = conn.execute(
        sa.select(
            few.c.subject,
            seen.c.last_seen,
            few.c.name,
            few.c.address,
            few.c.external_id,
            few.c.others,
        ).outerjoin_from(few, seen, here)
    ).all()
    if len(rows) > most:
        return None
    places = []
    for subject, last_seen, name, address, external_id, others in rows:
        entry = SearchEntry(name, address, external_id, others, [])
        answer, distance = rank(search, entry, subject)
        place = Place(way, True, answer, distance, last_seen, subject)
        if after is None or place.key > after.key:
            places.append(place)
    return sorted(places, key=lambda place: place.key)


def _last_seen(
    conn: sa.Connection,
    kind: SubjectKind,
    way: Way,
    found: Found,
    after: Place | None,
    many: int,
) -> list[Place]:
    """The first places of a part that is not ranked. Those last seen are asked one after the other,
    as most searches of so many answers find some there soon; else all that is found is sorted."""
    at, subject = sa.func.coalesce(seen.c.last_seen, LEAST_INSTANT), seen.c.subject
    order = at.desc(), subject.desc()
    following: Predicate = sa.true()
    if after is not None:
        last = LEAST_INSTANT if after.last_seen is None else sa.literal(after.last_seen)
        following = sa.tuple_(at, subject) < sa.tuple_(last, sa.literal(after.subject))
    walked = (
        sa.select(seen.c.log_partition, subject, seen.c.last_seen, at.label("at"))
        .where(seen.c.kind == kind.value, following)
        .order_by(*order)
        .limit(MAX_WALKED)
        .subquery("walked")
    )
    this = found.where(
        _entries.log_partition == walked.c.log_partition, _entries.subject == walked.c.subject
    )
    # OFFSET keeps PostgreSQL from taking this for a join, which it would begin elsewhere.
    that = this.correlate(walked).offset(0).lateral()
    rows = conn.execute(
        sa.select(walked.c.subject, walked.c.last_seen)
        .select_from(walked)
        .join(that, sa.true())
        .order_by(walked.c.at.desc(), walked.c.subject.desc())
        .limit(many)
    ).all()
    if len(rows) < many:
        here = sa.and_(seen.c.log_partition == _entries.log_partition, subject == _entries.subject)
        every = found.with_only_columns(subject, seen.c.last_seen).join(seen, here)
        rows = conn.execute(every.where(following).order_by(*order).limit(many)).all()
    return [Place(way, False, 0, 0, row.last_seen, row.subject) for row in rows]
