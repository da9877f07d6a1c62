"""Whether a definition agrees with the others: names in use, references, and circles.

`domain.workspace.consistency` checks a definition alone, this module among those that are active.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from uuid import UUID

from domain.definitions.destinations import Destination
from domain.definitions.types import (
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Settings,
    Stages,
    Status,
    family_of,
)
from domain.errors import Conflict, InvalidInput, unknown
from domain.workspace.definitions import Definitions
from domain.workspace.name_uses import retired_use, unfit_use
from domain.workspace.references import Named, path_back, provides, references_of, users_of


def replaced_by(state: Definitions, id: DefinitionId, definition: Definition) -> list[DefinitionId]:
    """The active list of stages that a list of the same kind would replace, if there is one."""
    if not isinstance(definition, Stages):
        return []
    return [
        other
        for other, defined in state.of(Stages).items()
        if defined.status is Status.ACTIVE
        and defined.definition.kind is definition.kind
        and other != id
    ]


def check(state: Definitions, id: DefinitionId, definition: Definition, *, activates: bool) -> None:
    """Checks a definition against all that are active.

    Args:
        activates: whether it would be active itself, and so needs a name of its own.

    Raises:
        InvalidInput: it uses a retired name or a property of another type, names an unknown
            definition, rests on itself, or has a name or a stage that is taken.
    """
    retired = retired_use(definition, state.names.retired)
    if retired is not None:
        scope, name = retired.to
        raise InvalidInput(
            f"the {scope.in_words} {name!r} is retired; restore it, or ask for another",
            pointer=retired.pointer,
        )
    unfit = unfit_use(definition, state.names.types)
    if unfit is not None:
        type = state.names.types[unfit.to]
        raise InvalidInput(
            f"the property {unfit.to.name!r} is {type.with_article} by now",
            pointer=unfit.pointer,
        )
    if isinstance(definition, Settings):
        return
    replaced = replaced_by(state, id, definition)
    active = {other: defined for other, defined in state.active.items() if other not in replaced}
    if activates:
        _refuse_taken(id, definition, active)
    active[id] = definition
    provided: set[Named] = set()
    for other, active_definition in active.items():
        provided |= provides(other, active_definition)
    for to, pointer in references_of(definition):
        if to.name and to not in provided:
            raise _unknown(to, provided, pointer)
    if isinstance(definition, Destination):
        return
    circle = path_back(id, active)
    if circle is not None:
        path, pointer = circle
        family = family_of(definition).in_words
        raise InvalidInput(
            f"the {family} would rest on itself: {' → '.join(path)}", pointer=pointer
        )


def refuse_missing(
    state: Definitions, gone: Collection[Named], without: Collection[DefinitionId]
) -> None:
    """Raises: Conflict: an active definition uses something of `gone`.

    Args:
        without: definitions whose uses do not count.
    """
    if not gone:
        return
    active = {id: definition for id, definition in state.active.items() if id not in without}
    for named in sorted(gone):
        users = users_of([named], active)
        if users:
            names = ", ".join(f"“{name}”" for name in users)
            raise Conflict(
                f"“{_shown_name(state, named)}” is used inside {names}: change or delete that first"
            )


def _shown_name(state: Definitions, named: Named) -> str:
    if named.family is DefinitionKind.SEGMENT:
        return state.segments[DefinitionId(UUID(named.name))].definition.name
    return named.name


def _refuse_taken(
    id: DefinitionId, definition: Definition, active: dict[DefinitionId, Definition]
) -> None:
    """Raises: InvalidInput: another active definition has the name, or a profile the stage."""
    if isinstance(definition, Settings):
        return
    for other_id, other in _of_same_kind(definition, active):
        if other_id == id:
            continue
        if not isinstance(other, Settings | Stages) and other.name == definition.name:
            of = "" if isinstance(definition, Destination) else f" of {definition.kind}s"
            raise InvalidInput(
                f"there is a {family_of(other).in_words}{of} with this name", pointer="/name"
            )
        if isinstance(definition, HealthProfile) and isinstance(other, HealthProfile):
            for n, stage in enumerate(definition.stages):
                if stage in other.stages:
                    raise InvalidInput(
                        f"{'no stage' if stage is None else repr(stage)} has the health profile"
                        f" “{other.name}” already; take it out there first",
                        pointer=f"/stages/{n}",
                    )


def _of_same_kind(
    definition: Definition, active: dict[DefinitionId, Definition]
) -> Iterator[tuple[DefinitionId, Definition]]:
    """The definitions of the same family and kind; for a destination, all destinations."""
    for id, other in active.items():
        if type(other) is type(definition) and (
            isinstance(other, Destination)
            or getattr(other, "kind", None) == getattr(definition, "kind", None)
        ):
            yield id, other


def _unknown(to: Named, provided: Collection[Named], pointer: str) -> InvalidInput:
    if to.family is DefinitionKind.SEGMENT:
        kinds = {
            named.name: named.kind for named in provided if named.family is DefinitionKind.SEGMENT
        }
        if to.name in kinds:
            return InvalidInput(
                f"this is a segment of {kinds[to.name]}s, not of {to.kind}s", pointer=pointer
            )
        return InvalidInput("there is no such segment; it may have been deleted", pointer=pointer)
    family = "stage" if to.family is DefinitionKind.STAGES else to.family.value
    known = {named.name for named in provided if (named.family, named.kind) == (to.family, to.kind)}
    return InvalidInput(unknown(f"{family} of {to.kind}s", to.name, known), pointer=pointer)
