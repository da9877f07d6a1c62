"""Commands about definitions: make, change, activate, archive, delete.

Each takes the state of all definitions and returns the payloads of the events that it causes. Only
active definitions decide, and they refer to active definitions alone: a draft names nothing else,
and a definition that others name is neither removed nor renamed.
"""

from __future__ import annotations

from uuid import UUID

from domain.definitions.types import (
    Definition,
    DefinitionId,
    Segment,
    Settings,
    Status,
    Undeciding,
    family_of,
)
from domain.errors import Conflict, InvalidInput
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionDeleted,
    DefinitionMade,
    MembersListed,
    MembersUnlisted,
)
from domain.events.payloads import Payload
from domain.identity import SubjectId
from domain.workspace import conflicts, consistency
from domain.workspace.definitions import Definitions, first_status
from domain.workspace.references import provides

MAX_DEFINITIONS = 1_000
"""Definitions of a family that are drafts or active."""

MAX_LISTED = 10_000
"""Subjects in one change of a static segment's list."""


def make(state: Definitions, id: DefinitionId, definition: Definition, by: UUID) -> list[Payload]:
    """Makes a definition. Segments and settings are active at once, others begin as a draft.

    Raises:
        InvalidInput: the definition is not consistent, names an unknown definition, would rest on
            itself, or has a name that is taken.
        Conflict: the family has `MAX_DEFINITIONS`, or the workspace has settings.
    """
    consistency.check(definition)
    if isinstance(definition, Settings) and state.settings is not None:
        raise Conflict("the workspace has settings already; change those")
    family = state.of(type(definition)).values()
    if sum(defined.status is not Status.ARCHIVED for defined in family) >= MAX_DEFINITIONS:
        raise Conflict(
            f"there are {MAX_DEFINITIONS:,} of this family ({family_of(definition)}) already;"
            " delete or archive one first"
        )
    conflicts.check(state, id, definition, activates=first_status(definition) is Status.ACTIVE)
    return [DefinitionMade(id, definition, by)]


def change(state: Definitions, id: UUID, definition: Definition, by: UUID) -> list[Payload]:
    """Replaces the content of a definition. The same content causes no event.

    Raises:
        NotFound: the definition does not exist.
        InvalidInput: as `make`; or the family, the kind, or whether a segment is static would
            change.
        Conflict: it is archived; or others use a name that it would no longer have.
    """
    current = state.find(id)
    _refuse_other_kind(current.definition, definition)
    if definition == current.definition:
        return []
    if current.status is Status.ARCHIVED:
        raise Conflict("an archived definition cannot change; make a new one like it")
    consistency.check(definition)
    is_active = current.status is Status.ACTIVE
    conflicts.check(state, current.id, definition, activates=is_active)
    if is_active:
        gone = provides(current.id, current.definition) - provides(current.id, definition)
        conflicts.refuse_missing(state, gone, {current.id})
    return [DefinitionChanged(current.id, definition, by)]


def choose(state: Definitions, id: DefinitionId, settings: Settings, by: UUID) -> list[Payload]:
    """Makes the workspace's settings, or replaces those that it has.

    Args:
        id: of the first settings.

    Raises:
        InvalidInput: an unknown currency or time zone, or a name that stands twice.
    """
    current = state.settings
    if current is None:
        return make(state, id, settings, by)
    return change(state, current.id, settings, by)


def activate(state: Definitions, id: UUID, by: UUID) -> list[Payload]:
    """Activates a draft. An active definition causes no event. A list of stages archives the
    active list of its kind.

    Raises:
        NotFound: the definition does not exist.
        InvalidInput: as `make`, by the definitions that are active now.
        Conflict: it is archived; or others use stages that the new list lacks.
    """
    draft = state.find(id)
    if draft.status is Status.ACTIVE:
        return []
    if draft.status is Status.ARCHIVED:
        raise Conflict("an archived definition stays archived; make a new one like it")
    conflicts.check(state, draft.id, draft.definition, activates=True)
    replaced = conflicts.replaced_by(state, draft.id, draft.definition)
    gone = {
        named for other in replaced for named in provides(other, state.current[other].definition)
    } - provides(draft.id, draft.definition)
    conflicts.refuse_missing(state, gone, {draft.id, *replaced})
    return [
        *(DefinitionArchived(other, by) for other in replaced),
        DefinitionActivated(draft.id, by),
    ]


def archive(state: Definitions, id: UUID, by: UUID) -> list[Payload]:
    """Archives an active definition, which stays on record. An archived one causes no event.

    Raises:
        NotFound: the definition does not exist.
        Conflict: other definitions use it; or it is a segment, settings or a draft.
    """
    current = state.find(id)
    if isinstance(current.definition, Segment):
        raise Conflict("a segment is not archived; delete it")
    if isinstance(current.definition, Settings):
        raise Conflict("settings are not archived; change them")
    if current.status is Status.ARCHIVED:
        return []
    if current.status is Status.DRAFT:
        raise Conflict("a draft decides nothing; delete it")
    conflicts.refuse_missing(state, provides(current.id, current.definition), {current.id})
    return [DefinitionArchived(current.id, by)]


def delete(state: Definitions, id: UUID, by: UUID) -> list[Payload]:
    """Deletes a segment or a draft.

    Raises:
        NotFound: the definition does not exist.
        Conflict: other definitions use the segment; or it is neither a segment nor a draft.
    """
    current = state.find(id)
    if not isinstance(current.definition, Segment):
        if current.status is not Status.DRAFT:
            remedy = "archive it" if current.status is Status.ACTIVE else "it stays on record"
            raise Conflict(f"only drafts and segments are deleted; {remedy}")
        return [DefinitionDeleted(current.id, by)]
    conflicts.refuse_missing(state, provides(current.id, current.definition), {current.id})
    return [DefinitionDeleted(current.id, by)]


def change_list(subjects: list[SubjectId], by: UUID, *, on: bool) -> list[Payload]:
    """Puts subjects on the list of a static segment (`on`), or takes them off.

    The list is a stream of its own, under the segment's id.
    """
    if not subjects:
        return []
    return [MembersListed(subjects, by) if on else MembersUnlisted(subjects, by)]


def _refuse_other_kind(before: Definition, after: Definition) -> None:
    """Raises: InvalidInput: the family, the kind, or whether a segment is static differs."""
    family = family_of(before)
    if family_of(after) is not family:
        raise InvalidInput(f"this is a {family.in_words} and stays so; define another")
    if isinstance(before, Undeciding) or isinstance(after, Undeciding):
        return
    if after.kind != before.kind:
        raise InvalidInput(
            f"this is a {family.in_words} of {before.kind}s; define another for {after.kind}s",
            pointer="/kind",
        )
    if isinstance(before, Segment) and isinstance(after, Segment):
        was_static = before.condition is None
        if (after.condition is None) != was_static:
            was = "static" if was_static else "dynamic"
            raise InvalidInput(
                f"this segment is {was} and stays so; define another", pointer="/condition"
            )
