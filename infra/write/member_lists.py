"""The lists of static segments: adds and removes members."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from domain.commands import Position
from domain.definitions.types import DefinitionId, Segment
from domain.errors import InvalidInput
from domain.events.payloads import Payload
from domain.identity import Identity, SubjectId, SubjectKind
from domain.workspace import editing
from domain.workspace.editing import MAX_LISTED
from infra.write.definition_store import DefinitionStore
from infra.write.subject_lookup import SubjectLookup
from projections.queries import segment_list
from projections.queries.contact_view import streams_of

Name = SubjectId | Identity
"""Names a subject: our id, or an identity from outside."""


class MemberLists:
    """Thread-safe; one instance per process."""

    def __init__(
        self, *, definitions: DefinitionStore, lookup: SubjectLookup, queries: sa.Engine
    ) -> None:
        self._definitions = definitions
        self._lookup = lookup
        self._queries = queries

    def define(
        self,
        id: DefinitionId,
        segment: Segment,
        members: Sequence[Name],
        *,
        by: UUID,
        at: datetime,
    ) -> list[Position]:
        """Defines a segment, with the first members of its list if it is static.

        Raises:
            InvalidInput: too many members, or an unknown one; says which.
            Refusal: see `domain.workspace.editing.make`.
        """
        # All refusals come before the first append. The list is appended before the segment, so
        # that the read models never show the segment without its members.
        positions: list[Position] = []
        if members:
            editing.make(self._definitions.load(), id, segment, by)
            subjects = self._resolved(segment.kind, members, "/members")
            changes = editing.change_list(subjects, by, on=True)
            positions += self._definitions.change_list(id, changes, at)
        return positions + self._definitions.decide(
            lambda state: editing.make(state, id, segment, by), at
        )

    def change(
        self, id: UUID, *, add: Sequence[Name], remove: Sequence[Name], by: UUID, at: datetime
    ) -> list[Position]:
        """Puts subjects on the list of a static segment, and takes others off.

        Raises:
            NotFound: there is no such segment. Conflict: it has a condition.
            InvalidInput: too many subjects, or an unknown one; says which.
        """
        kind = self._definitions.load().static_segment(id).definition.kind
        removed = self._resolved(kind, remove, "/remove")
        added = self._resolved(kind, add, "/add")
        changes: list[Payload] = []
        if removed:
            # An event names a member as it was listed, which may be before a merge.
            with self._queries.connect() as conn:
                streams = [stream for subject in removed for stream in streams_of(conn, subject)]
            changes += editing.change_list(streams, by, on=False)
        changes += editing.change_list(added, by, on=True)
        return self._definitions.change_list(id, changes, at)

    def _resolved(self, kind: SubjectKind, names: Sequence[Name], pointer: str) -> list[SubjectId]:
        """The subjects that some names mean today, each once."""
        if len(names) > MAX_LISTED:
            raise InvalidInput(f"at most {MAX_LISTED:,} members at a time", pointer=pointer)
        subjects = subjects_named(self._lookup, names)
        unknown = f"there is no such {kind}"
        known = []
        for n, subject in enumerate(subjects):
            if subject is None:
                raise InvalidInput(unknown, pointer=f"{pointer}/{n}")
            known.append(subject)
        with self._queries.connect() as conn:
            today = segment_list.known(conn, kind, known)
        for n, (subject, name) in enumerate(zip(known, names, strict=True)):
            if subject not in today and not isinstance(name, Identity):
                raise InvalidInput(unknown, pointer=f"{pointer}/{n}")
        return list(dict.fromkeys(today.get(subject, subject) for subject in known))


def subjects_named(lookup: SubjectLookup, names: Sequence[Name]) -> list[SubjectId | None]:
    """The subject of each name; None: no subject has this identity. An id is taken as it is."""
    by_identity = lookup.find_all(name for name in names if isinstance(name, Identity))
    return [by_identity.get(name) if isinstance(name, Identity) else name for name in names]
