"""Commands about names of the catalogue: retire, restore, give a property another type.

A name that a definition or a saved view uses is neither retired nor given a type that does not fit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from domain.definitions.saved_views import SavedView
from domain.definitions.types import Settings, Status
from domain.errors import Conflict, InvalidInput, unknown
from domain.events.definitions import NamesRestored, NamesRetired, PropertyTypeChanged
from domain.events.payloads import Payload
from domain.identity import SubjectKind
from domain.name_rules import (
    MAX_NAMES_AT_ONCE,
    CatalogueName,
    NameScope,
    Retired,
    property_scope,
)
from domain.properties import PropertyType
from domain.workspace import consistency
from domain.workspace.definitions import Definitions
from domain.workspace.name_uses import NameUse, uses_of, uses_of_view
from domain.workspace.workspace import Workspace

SHOWN_USERS = 5
"""Users of a name that a refusal lists."""

Uses = dict[CatalogueName, list[tuple[str, NameUse]]]
"""The users of each name, in words, and how they use it."""


def retire(
    state: Definitions,
    scope: NameScope,
    names: Sequence[str],
    by: UUID,
    *,
    claimed: Collection[str],
    used: Uses,
) -> list[Payload]:
    """Retires names. A retired name causes no event.

    Args:
        claimed: all names of the scope that were ever sent.
        used: see `uses`.

    Raises:
        InvalidInput: a name is unknown, or there are too many.
        Conflict: something uses a name; the refusal lists the users.
    """
    _check_names(scope, names, claimed)
    for n, name in enumerate(names):
        users = list(dict.fromkeys(user for user, _ in used.get(CatalogueName(scope, name), ())))
        if users:
            raise _used(name, users, f"/names/{n}")
    gone = [name for name in names if CatalogueName(scope, name) not in state.names.retired]
    return [NamesRetired(scope, gone, by)] if gone else []


def restore(
    state: Definitions,
    scope: NameScope,
    names: Sequence[str],
    by: UUID,
    *,
    claimed: Collection[str],
    limit: int,
) -> list[Payload]:
    """Restores retired names. A name in use causes no event.

    Args:
        claimed: all names of the scope that were ever sent.
        limit: of the names in use.

    Raises:
        InvalidInput: a name is unknown, or there are too many.
        Conflict: more names would be in use than the limit.
    """
    _check_names(scope, names, claimed)
    retired: dict[CatalogueName, Retired] = state.names.retired
    back = [name for name in names if CatalogueName(scope, name) in retired]
    in_use = sum(CatalogueName(scope, name) not in retired for name in claimed)
    if back and in_use + len(back) > limit:
        raise Conflict(
            f"{in_use:,} names of this scope are in use, and {limit:,} may be; retire others first"
        )
    return [NamesRestored(scope, back, by)] if back else []


def change_type(
    state: Definitions,
    scope: NameScope,
    name: str,
    type: PropertyType,
    by: UUID,
    *,
    claimed: Mapping[str, PropertyType],
    used: Uses,
    workspace: Workspace,
) -> list[Payload]:
    """Gives a property another type. The type that it has causes no event.

    Args:
        claimed: the names of the scope that were ever sent, with their types of then.
        used: see `uses`.

    Raises:
        InvalidInput: the property of users or accounts is unknown.
        Conflict: something tests it as a type that differs; the refusal lists the users.
    """
    if scope not in {property_scope(kind) for kind in SubjectKind}:
        raise InvalidInput(
            "only properties of users and of accounts get another type; retire the name, and send"
            " another",
            pointer="/scope",
        )
    if name not in claimed:
        raise InvalidInput(unknown(scope.in_words, name, claimed), pointer="/name")
    to = CatalogueName(scope, name)
    if state.names.types.get(to, claimed[name]) is type:
        return []
    unfit = [user for user, use in used.get(to, ()) if not use.fits(type)]
    for supplies, types in (
        (workspace.mrr_property, consistency.AMOUNTS),
        (workspace.renewal_property, consistency.DATES),
    ):
        if name == supplies and type not in types:
            unfit.append("the settings")
    if unfit:
        raise _used(
            name,
            list(dict.fromkeys(unfit)),
            "/name",
            f" in a way that {type.with_article} does not fit",
        )
    return [PropertyTypeChanged(scope, name, type, by)]


def uses(state: Definitions, workspace: Workspace, views: Iterable[SavedView]) -> Uses:
    """The users of each name: definitions that are not archived, drafts included; saved views; and
    the properties that supply MRR and renewal date."""
    uses: Uses = {}
    for defined in state.current.values():
        if defined.status is Status.ARCHIVED:
            continue
        definition = defined.definition
        user = "the settings" if isinstance(definition, Settings) else f"“{definition.name}”"
        for use in uses_of(definition):
            uses.setdefault(use.to, []).append((user, use))
    for view in views:
        for use in uses_of_view(view):
            uses.setdefault(use.to, []).append((f"the saved view “{view.name}”", use))
    for name in (workspace.mrr_property, workspace.renewal_property):
        for kind in SubjectKind:
            to = CatalogueName(property_scope(kind), name)
            uses.setdefault(to, []).append(("the settings", NameUse(to, "")))
    return uses


def _check_names(scope: NameScope, names: Sequence[str], claimed: Collection[str]) -> None:
    if not 1 <= len(names) <= MAX_NAMES_AT_ONCE:
        raise InvalidInput(f"give 1 to {MAX_NAMES_AT_ONCE:,} names", pointer="/names")
    if len(set(names)) < len(names):
        raise InvalidInput("a name is listed twice", pointer="/names")
    for n, name in enumerate(names):
        if name not in claimed:
            raise InvalidInput(unknown(scope.in_words, name, claimed), pointer=f"/names/{n}")


def _used(name: str, users: Sequence[str], pointer: str, how: str = "") -> Conflict:
    shown = ", ".join(users[:SHOWN_USERS])
    more = len(users) - SHOWN_USERS
    if more > 0:
        shown += f" and {more} more"
    return Conflict(
        f"“{name}” is used inside {shown}{how}: change or delete that first", pointer=pointer
    )
