"""All definitions of the workspace as one aggregate: what may be defined, changed and deleted.

A value, like users and accounts: a method named for a deed returns the events it causes, `evolve`
applies one. What is deleted stays on record, so that what refers to it later can be told apart
from what never was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast
from uuid import UUID

import msgspec

from domain.conditions import AllOf, Condition, InSegment, Not, OfAccounts, OfUsers, OneOf
from domain.definitions import (
    Defined,
    Definition,
    DefinitionId,
    Segment,
    Status,
    checked_name,
)
from domain.errors import Conflict, InvalidInput, NotFound
from domain.events import (
    DefinitionChanged,
    DefinitionDeleted,
    DefinitionMade,
    Event,
    MembersListed,
    MembersUnlisted,
    Payload,
)
from domain.identity import SubjectId

MAX_SEGMENTS = 1_000
MAX_LISTED = 10_000
"""Subjects in one change of a static segment's list."""


class Definitions(msgspec.Struct, frozen=True):
    """
    Attributes:
        version: number of events so far.
        current: what holds, by id.
        deleted: what held once, as it stood then.
    """

    version: int = 0
    current: dict[DefinitionId, Defined[Definition]] = msgspec.field(default_factory=dict)
    deleted: dict[DefinitionId, Defined[Definition]] = msgspec.field(default_factory=dict)

    @property
    def segments(self) -> dict[DefinitionId, Defined[Segment]]:
        """The definitions of this family."""
        return {
            id: cast(Defined[Segment], one)
            for id, one in self.current.items()
            if isinstance(one.definition, Segment)
        }

    def segment(self, id: UUID) -> Defined[Segment]:
        """Raises: NotFound: there is none, or none any more."""
        found = self.segments.get(DefinitionId(id))
        if found is None:
            raise NotFound("there is no such segment")
        return found

    def make(self, id: DefinitionId, segment: Segment, by: UUID) -> list[Payload]:
        """Defines a segment.

        Raises:
            InvalidInput: a name that is taken, or a condition that leads back to itself.
            Conflict: there are too many.
        """
        if len(self.segments) >= MAX_SEGMENTS:
            raise Conflict(f"there are {MAX_SEGMENTS} segments already; delete one first")
        self._check(id, segment)
        return [DefinitionMade(id, segment, by)]

    def change(self, id: UUID, segment: Segment, by: UUID) -> list[Payload]:
        """Replaces a segment's name and condition; nothing comes of what changes nothing.

        Raises:
            NotFound: there is no such segment.
            InvalidInput: as `make`; and where its kind, or whether it is static, would change.
        """
        before = self.segment(id)
        if segment == before.definition:
            return []
        if segment.kind != before.definition.kind:
            raise InvalidInput(
                f"this is a segment of {before.definition.kind}s; define another for"
                f" {segment.kind}s",
                place="/kind",
            )
        if (segment.condition is None) != (before.definition.condition is None):
            was = "static" if before.definition.condition is None else "dynamic"
            raise InvalidInput(
                f"this segment is {was} and stays so; define another", place="/condition"
            )
        self._check(before.id, segment)
        return [DefinitionChanged(before.id, segment, by)]

    def delete(self, id: UUID, by: UUID) -> list[Payload]:
        """Raises: NotFound: no such segment. Conflict: it is used inside others, which it names."""
        gone = self.segment(id)
        users = [one.definition.name for one in self.segments.values() if _uses(one, gone.id)]
        if users:
            names = ", ".join(f"“{name}”" for name in sorted(users))
            raise Conflict(
                f"“{gone.definition.name}” is used inside {names}: change or delete that first"
            )
        return [DefinitionDeleted(gone.id, by)]

    def static_segment(self, id: UUID) -> Defined[Segment]:
        """Raises: NotFound: no such segment. InvalidInput: a condition decides who is in it."""
        found = self.segment(id)
        if found.definition.condition is not None:
            raise InvalidInput(
                "a condition decides who is in this segment; only a static one is kept by hand"
            )
        return found

    @staticmethod
    def listing(subjects: list[SubjectId], by: UUID, *, on: bool) -> list[Payload]:
        """Puts subjects on the list of a static segment, or takes them off."""
        if not subjects:
            return []
        return [MembersListed(subjects, by) if on else MembersUnlisted(subjects, by)]

    def _check(self, id: DefinitionId, segment: Segment) -> None:
        checked_name(segment.name)
        for other in self.segments.values():
            same = (other.definition.kind, other.definition.name) == (segment.kind, segment.name)
            if other.id != id and same:
                raise InvalidInput(
                    f"there is a segment of {segment.kind}s with this name", place="/name"
                )
        if segment.condition is None:
            return
        for used, place in references(segment.condition, "/condition"):
            path = self._path_back(used, id, set())
            if path is not None:
                names = " → ".join(f"“{name}”" for name in (segment.name, *path, segment.name))
                raise InvalidInput(f"the segment would be inside itself: {names}", place=place)

    def _path_back(
        self, start: UUID, goal: DefinitionId, seen: set[UUID]
    ) -> tuple[str, ...] | None:
        """The names on the way from a segment to one that it is made of; empty: they are one."""
        if start == goal:
            return ()
        here = self.segments.get(DefinitionId(start))
        if here is None or here.definition.condition is None or start in seen:
            return None
        seen.add(start)
        for used, _ in references(here.definition.condition):
            path = self._path_back(used, goal, seen)
            if path is not None:
                return (here.definition.name, *path)
        return None

    def evolve(self, event: Event) -> Definitions:
        """The state after `event`, which must be the next one."""
        payload, at, version = event.payload, event.occurred_at, event.version or self.version
        match payload:
            case DefinitionMade(id, definition, by):
                made = Defined(id, 1, definition, Status.ACTIVE, at, by, at, by)
                return Definitions(version, self.current | {id: made}, self.deleted)
            case DefinitionChanged(id, definition, by):
                changed = msgspec.structs.replace(
                    self.current[id],
                    version=self.current[id].version + 1,
                    definition=definition,
                    changed_at=at,
                    by=by,
                )
                return Definitions(version, self.current | {id: changed}, self.deleted)
            case DefinitionDeleted(id):
                left = {key: one for key, one in self.current.items() if key != id}
                return Definitions(version, left, self.deleted | {id: self.current[id]})
            case _:
                return msgspec.structs.replace(self, version=version)


def _uses(one: Defined[Segment], id: DefinitionId) -> bool:
    condition = one.definition.condition
    return condition is not None and any(used == id for used, _ in references(condition))


def references(condition: Condition, place: str = "") -> Iterator[tuple[UUID, str]]:
    """The segments inside a condition, each with where it stands."""
    match condition:
        case AllOf(of) | OneOf(of):
            for n, one in enumerate(of):
                yield from references(one, f"{place}/of/{n}")
        case Not(one):
            yield from references(one, f"{place}/of")
        case OfAccounts(_, where) | OfUsers(_, where):
            yield from references(where, f"{place}/where")
        case InSegment(segment):
            yield segment, f"{place}/segment"
