"""NameRules: the names of the catalogue that admins retired, and the types that they gave.

The catalogue is closed: each scope takes a bounded number of names. A retired name frees its place;
until it is restored, conditions cannot test it and writes under it are refused. A property has the
type of its first value, until an admin gives it another. Recorded events never change.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from domain.identity import SubjectKind
from domain.properties import PropertyType

NAMES_PER_SCOPE = 2_000
"""Names in use; retired names do not count."""

MAX_NAMES_AT_ONCE = 2_000
"""Names that a request retires or restores."""


class NameScope(enum.StrEnum):
    """The scopes of the closed catalogue of names."""

    USER_PROPERTY = "user.property"
    ACCOUNT_PROPERTY = "account.property"
    MEMBERSHIP_PROPERTY = "membership.property"
    EVENT = "event"
    SCREEN = "screen"

    @property
    def in_words(self) -> str:
        return self.value.replace(".", " ")


_SCOPES = {scope.value for scope in NameScope}


def property_scope(kind: SubjectKind) -> NameScope:
    """The scope of the properties of a kind."""
    return NameScope.USER_PROPERTY if kind is SubjectKind.USER else NameScope.ACCOUNT_PROPERTY


class CatalogueName(NamedTuple):
    scope: NameScope
    name: str


class Retired(msgspec.Struct, frozen=True):
    """The retirement of a name: when, and by which API key."""

    at: datetime
    by: UUID


class NameRules(msgspec.Struct, frozen=True):
    """Retired names, and types that admins gave."""

    retired: dict[CatalogueName, Retired] = msgspec.field(default_factory=dict)
    types: dict[CatalogueName, PropertyType] = msgspec.field(default_factory=dict)

    def type_of(self, scope: str, name: str) -> PropertyType | None:
        """The type that an admin gave to a property; None: no admin did."""
        if not self.types or scope not in _SCOPES:
            return None
        return self.types.get(CatalogueName(NameScope(scope), name))

    def types_of(self, kind: SubjectKind) -> dict[str, PropertyType]:
        """The types that admins gave to properties of a kind, by name."""
        wanted = property_scope(kind)
        return {name: type for (scope, name), type in self.types.items() if scope is wanted}

    def change_type(self, scope: NameScope, name: str, type: PropertyType) -> NameRules:
        changed = self.types | {CatalogueName(scope, name): type}
        return msgspec.structs.replace(self, types=changed)

    def retire(self, scope: NameScope, names: Iterable[str], at: datetime, by: UUID) -> NameRules:
        since = Retired(at, by)
        new = {CatalogueName(scope, name): since for name in names}
        return msgspec.structs.replace(self, retired=self.retired | new)

    def retired_since(self, scope: str, name: str) -> Retired | None:
        """The retirement of a name; None: in use, or of a scope without retirement."""
        if scope not in _SCOPES:
            return None
        return self.retired.get(CatalogueName(NameScope(scope), name))

    def restore(self, scope: NameScope, names: Iterable[str]) -> NameRules:
        back = {CatalogueName(scope, name) for name in names}
        left = {name: since for name, since in self.retired.items() if name not in back}
        return msgspec.structs.replace(self, retired=left)
