"""Which names of the catalogue a definition or a saved view rests on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from domain.conditions import validation
from domain.conditions.language import (
    BelongsTo,
    Condition,
    Did,
    OfAccounts,
    OfUsers,
    PropertyIs,
    Test,
)
from domain.conditions.tree import parts as parts_of
from domain.definitions import links
from domain.definitions.destinations import Destination, SubscriptionKind
from domain.definitions.saved_views import SavedView
from domain.definitions.types import Definition, Settings
from domain.identity import SubjectKind
from domain.name_rules import CatalogueName, NameScope, property_scope
from domain.properties import PropertyType
from domain.workspace.references import parts

ROLE = "role"
"""The membership's property that conditions can ask for."""

SORT_BY_PROPERTY = "property:"


class NameUse(NamedTuple):
    """
    Attributes:
        pointer: JSON pointer to where the name stands.
        test: that a condition makes of the property's value; None: none.
    """

    to: CatalogueName
    pointer: str
    test: Test | None = None

    def fits(self, type: PropertyType) -> bool:
        """Whether the use fits a property of this type."""
        return self.test is None or validation.fits(self.test, type)


def uses_of(definition: Definition) -> Iterator[NameUse]:
    """Yields the names that a definition uses; also of drafts."""
    match definition:
        case Settings():
            yield from _of_settings(definition)
        case Destination():
            yield from _of_destination(definition)
        case _:
            for part in parts(definition):
                yield from uses_in(part.condition, definition.kind, part.pointer)


def retired_use(definition: Definition, retired: Collection[CatalogueName]) -> NameUse | None:
    """Returns the first place where a definition uses a retired name; if it means users and
    accounts, one retired for both."""
    meant: dict[str, list[NameUse]] = {}
    for use in uses_of(definition):
        meant.setdefault(use.pointer, []).append(use)
    for uses in meant.values():
        if all(use.to in retired for use in uses):
            return uses[0]
    return None


def unfit_use(
    definition: Definition, types: Mapping[CatalogueName, PropertyType]
) -> NameUse | None:
    """Returns the first test in a definition that does not fit the types of properties."""
    for use in uses_of(definition):
        type = types.get(use.to)
        if type is not None and not use.fits(type):
            return use
    return None


def uses_of_view(view: SavedView) -> Iterator[NameUse]:
    """Yields the names in the columns, the order and the filter of a saved view."""
    scope = property_scope(view.kind)
    for n, name in enumerate(view.columns or ()):
        yield NameUse(CatalogueName(scope, name), f"/columns/{n}")
    sort = view.sort.removeprefix("-")
    if sort.startswith(SORT_BY_PROPERTY):
        yield NameUse(CatalogueName(scope, sort.removeprefix(SORT_BY_PROPERTY)), "/sort")
    if view.filter is not None:
        yield from uses_in(view.filter, view.kind, "/filter")


def uses_in(condition: Condition, kind: SubjectKind, pointer: str = "") -> Iterator[NameUse]:
    """Yields the names in a condition about users or about accounts."""
    match condition:
        case PropertyIs(name, test):
            yield NameUse(CatalogueName(property_scope(kind), name), f"{pointer}/name", test)
        case Did(activity, name) if activity in (NameScope.EVENT, NameScope.SCREEN):
            yield NameUse(CatalogueName(NameScope(activity), name), f"{pointer}/name")
        case BelongsTo(role=str()):
            yield NameUse(CatalogueName(NameScope.MEMBERSHIP_PROPERTY, ROLE), f"{pointer}/role")
        case OfAccounts(_, where):
            yield from uses_in(where, SubjectKind.ACCOUNT, f"{pointer}/where")
        case OfUsers(_, where):
            yield from uses_in(where, SubjectKind.USER, f"{pointer}/where")
        case _:
            for part, step in parts_of(condition):
                yield from uses_in(part, kind, f"{pointer}{step}")


def _of_settings(settings: Settings) -> Iterator[NameUse]:
    for name, pointer in (
        (settings.mrr_property, "/mrr_property"),
        (settings.renewal_property, "/renewal_property"),
    ):
        if name is not None:
            for kind in SubjectKind:
                yield NameUse(CatalogueName(property_scope(kind), name), pointer)
    for kind, preferred, pointer in (
        (SubjectKind.USER, settings.users, "/users"),
        (SubjectKind.ACCOUNT, settings.accounts, "/accounts"),
    ):
        for n, name in enumerate(preferred.properties):
            yield NameUse(CatalogueName(property_scope(kind), name), f"{pointer}/properties/{n}")
        for n, name in enumerate(preferred.events):
            yield NameUse(CatalogueName(NameScope.EVENT, name), f"{pointer}/events/{n}")
    for n, link in enumerate(settings.links):
        for placeholder in links.placeholders(link.url):
            if placeholder.is_property:
                to = CatalogueName(property_scope(link.kind), placeholder.name)
                yield NameUse(to, f"/links/{n}/url")


def _of_destination(destination: Destination) -> Iterator[NameUse]:
    kinds = list(SubjectKind) if destination.kind is None else [destination.kind]
    for n, subscription in enumerate(destination.news):
        for m, name in enumerate(subscription.names or ()):
            pointer = f"/news/{n}/names/{m}"
            if subscription.about is SubscriptionKind.PROPERTY:
                for kind in kinds:
                    yield NameUse(CatalogueName(property_scope(kind), name), pointer)
            elif subscription.about in (SubscriptionKind.EVENT, SubscriptionKind.SCREEN):
                yield NameUse(CatalogueName(NameScope(subscription.about.value), name), pointer)
