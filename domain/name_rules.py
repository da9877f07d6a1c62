"""What admins decided about names of the catalogue: which are retired, and of what type they are.

The catalogue is closed: it takes a bounded number of names of each scope. A retired name frees its
place there, cannot be asked about any more, and what is sent under it is refused, until it is
restored. A property is of the type that its first value had, until an admin gives it another.
What the log holds stays as it is.
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
"""In use; retired names do not count."""

MAX_NAMES_AT_ONCE = 2_000
"""That one request retires or restores."""


class NameScope(enum.StrEnum):
    """What a name of the closed catalogue names."""

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
    """Of the properties of users, or of accounts."""
    return NameScope.USER_PROPERTY if kind is SubjectKind.USER else NameScope.ACCOUNT_PROPERTY


class CatalogueName(NamedTuple):
    scope: NameScope
    name: str


class Retired(msgspec.Struct, frozen=True):
    """Since when a name is retired; `by` is the API key that did it."""

    at: datetime
    by: UUID


class NameRules(msgspec.Struct, frozen=True):
    """What holds of names, beyond what senders made of them."""

    retired: dict[CatalogueName, Retired] = msgspec.field(default_factory=dict)
    types: dict[CatalogueName, PropertyType] = msgspec.field(default_factory=dict)

    def type_of(self, scope: str, name: str) -> PropertyType | None:
        """The type that an admin gave to a property; None: none did."""
        if not self.types or scope not in _SCOPES:
            return None
        return self.types.get(CatalogueName(NameScope(scope), name))

    def types_of(self, kind: SubjectKind) -> dict[str, PropertyType]:
        """Those properties of users, or of accounts, to which an admin gave a type."""
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
        """None: the name is in use, or of a scope whose names are never retired."""
        if scope not in _SCOPES:
            return None
        return self.retired.get(CatalogueName(NameScope(scope), name))

    def restore(self, scope: NameScope, names: Iterable[str]) -> NameRules:
        back = {CatalogueName(scope, name) for name in names}
        left = {name: since for name, since in self.retired.items() if name not in back}
        return msgspec.structs.replace(self, retired=left)
