"""Finds the subjects that an order to erase means: by id, by outside name, or by a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.erasure.order import (
    ErasureScope,
    MembersOf,
    NamedSubject,
    NamedSubjects,
    Selection,
)
from domain.errors import NotFound
from domain.identity import Identity, SubjectId, SubjectKind
from infra.keys.identity_index import IdentityIndex
from projections.conditions.known_names import KnownNames
from projections.kernel.tables import segment_members


class Targets(msgspec.Struct, frozen=True):
    """
    Attributes:
        nobody: indexes of the names that no subject has.
    """

    scope: ErasureScope
    subjects: Sequence[SubjectId]
    segment: UUID | None = None
    nobody: Sequence[int] = ()


class TargetFinder:
    """Safe for use from many threads.

    Args:
        queries: the engine that answers readers in a moment.
    """

    def __init__(self, lookup: IdentityIndex, queries: sa.Engine) -> None:
        self._lookup = lookup
        self._queries = queries

    def find(
        self, kind: SubjectKind, selection: Selection, until_visible: Callable[[], None]
    ) -> Targets:
        """The subjects that are meant now.

        Args:
            until_visible: waits until the read models have reached the position that the officer
                sent; called before the members of a segment are read.

        Raises:
            NotFound: no subject has the single outside name; or there is no such segment of this
                kind.
        """
        match selection:
            case NamedSubject(name):
                [subject] = self._subjects([name])
                if subject is None:
                    raise NotFound(f"there is no such {kind}")
                return Targets(ErasureScope.ONE, [subject])
            case NamedSubjects(names):
                subjects = self._subjects(names)
                return Targets(
                    ErasureScope.LIST,
                    [subject for subject in subjects if subject is not None],
                    nobody=[n for n, subject in enumerate(subjects) if subject is None],
                )
            case MembersOf(segment):
                until_visible()
                return Targets(ErasureScope.SEGMENT, self._members(kind, segment), segment)

    def _subjects(self, names: Sequence[SubjectId | Identity]) -> list[SubjectId | None]:
        """Returns the subject of each name; None: no subject has it. An id is taken as it is."""
        known = self._lookup.find(name for name in names if isinstance(name, Identity))
        return [
            known.get((name.scheme, name.matching)) if isinstance(name, Identity) else name
            for name in names
        ]

    def _members(self, kind: SubjectKind, segment: UUID) -> list[SubjectId]:
        with self._queries.connect() as conn:
            if KnownNames(conn).segments().get(segment) != kind:
                raise NotFound(f"there is no such segment of {kind}s")
            members = sa.select(segment_members.c.subject).where(
                segment_members.c.segment == segment
            )
            return [SubjectId(member) for member in conn.scalars(members)]
