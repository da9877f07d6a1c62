"""Query: what a search finds, the best first.

Exact answers and those that begin with the search are read from indexes, in order and few. Of what
contains the search, or is like it, all are ranked where they are at most `MAX_RANKED`. Where there
are more, no order among them would tell anybody anything: they follow by when they were last seen.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from domain.identity import SubjectKind
from domain.search.entry import SearchEntry
from domain.search.question import Search, rank
from projections.conditions.fragments import Predicate
from projections.conditions.search import (
    STARTING,
    begins,
    entry_is,
    matching,
    starting,
)
from projections.kernel.paging import decoded, encoded
from projections.kernel.tables import contacts, search_entries, seen

MAX_RANKED = 1_000
"""Contacts that are ranked by how they answer."""

MAX_STARTING = 200
"""Contacts that come first as one of their texts begins with the search, for each kind of text."""

_entries = search_entries.c


class Part(enum.IntEnum):
    """The parts of a list by rank. Either all contacts are in the first, or each in one of the
    others."""

    WHOLE = 0
    FIRST = 1
    STARTING = 2
    CONTAINED = 3
    LIKE = 4


LATER = (Part.STARTING, Part.CONTAINED, Part.LIKE)


class Place(NamedTuple):
    """Where a contact stands in a list by rank; that of a cursor is the last of a page.

    Attributes:
        answer, distance: 0 in the last three parts.
    """

    part: int
    answer: int
    distance: int
    last_seen: datetime | None
    subject: UUID

    @property
    def key(self) -> tuple[int, int, float, int]:
        at = self.last_seen.timestamp() if self.last_seen else float("-inf")
        return self.answer, self.distance, -at, -self.subject.int

    def follows(self, other: Place | None) -> bool:
        """Whether it comes after another place of the first part, or of none."""
        return other is None or (other.part <= Part.FIRST and self.key > other.key)


def place_of(list_name: str, cursor: str) -> Place:
    """
    Raises:
        InvalidInput: an unknown cursor.
    """
    return Place(*decoded(list_name, cursor, int, int, int, datetime | None, UUID))


def cursor_of(list_name: str, place: Place) -> str:
    return encoded(list_name, *place)


def ranked(
    conn: sa.Connection,
    search: Search,
    kind: SubjectKind,
    narrowing: Sequence[Predicate],
    after: Place | None,
) -> tuple[Part, list[Place]]:
    """The first part of a list by rank, in order: all that is found, or the first of what begins
    with the search.

    Args:
        narrowing: what else holds of a row of `views.whole_contacts`.
        after: a list goes on as it began, though there are more or less by now.
    """
    if after is None or after.part == Part.WHOLE:
        most = MAX_RANKED if after is None else 2 * MAX_RANKED
        everything = _arm(kind, matching(search), narrowing).limit(most + 1)
        found = _places(conn, search, [everything], Part.WHOLE)
        if len(found) <= most:
            return Part.WHOLE, found
    arms = []
    for text in STARTING:
        arm = _arm(kind, begins(text, search), narrowing)
        arms.append(arm.order_by(text, _entries.subject).limit(MAX_STARTING))
    return Part.FIRST, _places(conn, search, arms, Part.FIRST)


def _arm(
    kind: SubjectKind, predicate: Predicate, narrowing: Sequence[Predicate]
) -> sa.Select[tuple[int, UUID]]:
    arm = sa.select(_entries.log_partition, _entries.subject)
    if narrowing:
        here = sa.and_(
            contacts.c.log_partition == _entries.log_partition,
            contacts.c.subject == _entries.subject,
        )
        arm = arm.select_from(sa.join(search_entries, contacts, here))
    return arm.where(_entries.kind == kind.value, predicate, *narrowing)


def _places(
    conn: sa.Connection,
    search: Search,
    arms: Sequence[sa.Select[tuple[int, UUID]]],
    part: Part,
) -> list[Place]:
    some = sa.union(*(sa.select(arm.subquery()) for arm in arms)).subquery()
    here = sa.and_(
        _entries.log_partition == some.c.log_partition, _entries.subject == some.c.subject
    )
    sight = sa.and_(seen.c.log_partition == some.c.log_partition, seen.c.subject == some.c.subject)
    rows = conn.execute(
        sa.select(
            _entries.subject,
            seen.c.last_seen,
            _entries.name,
            _entries.address,
            _entries.external_id,
            _entries.others,
        )
        .select_from(some)
        .join(search_entries, here)
        .outerjoin(seen, sight)
    )
    places = []
    for subject, last_seen, name, address, external_id, others in rows:
        entry = SearchEntry(name, address, external_id, others, [])
        answer, distance = rank(search, entry, subject)
        places.append(Place(part, answer, distance, last_seen, subject))
    return sorted(places, key=lambda place: place.key)


def is_in(search: Search, kind: SubjectKind, part: Part) -> Predicate:
    """About a row of `views.whole_contacts`: it is in one of the last three parts, but for what
    the first has."""
    match part:
        case Part.STARTING:
            return entry_is(kind, starting(search))
        case Part.CONTAINED:
            return entry_is(
                kind, sa.and_(matching(search, forgiving=False), sa.not_(starting(search)))
            )
        case _:
            contained = matching(search, forgiving=False)
            return entry_is(kind, sa.and_(matching(search), sa.not_(contained)))
