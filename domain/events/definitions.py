"""Events about definitions, about names of the catalogue, and about lists kept by hand."""

from __future__ import annotations

from uuid import UUID

from domain.definitions.types import Definition, DefinitionId
from domain.events.payloads import Payload
from domain.identity import SubjectId
from domain.name_rules import NameScope
from domain.properties import PropertyType


class DefinitionMade(Payload, frozen=True):
    """A definition was made. `by` is the API key that made it."""

    id: DefinitionId
    definition: Definition
    by: UUID


class DefinitionChanged(Payload, frozen=True):
    """A definition was replaced by another of the same family."""

    id: DefinitionId
    definition: Definition
    by: UUID


class DefinitionActivated(Payload, frozen=True):
    """A draft was activated: it decides from now on."""

    id: DefinitionId
    by: UUID


class DefinitionArchived(Payload, frozen=True):
    """A definition was archived: it no longer decides, but stays on record."""

    id: DefinitionId
    by: UUID


class DefinitionDeleted(Payload, frozen=True):
    """A definition was deleted."""

    id: DefinitionId
    by: UUID


class DefinitionCleaned(Payload, frozen=True):
    """The name of an erased subject was taken out of some versions of a definition."""

    id: DefinitionId
    versions: list[int]
    definition: Definition


class NamesRetired(Payload, frozen=True):
    """Names of the catalogue were retired: from now on Annals refuses messages that use them."""

    scope: NameScope
    names: list[str]
    by: UUID


class NamesRestored(Payload, frozen=True):
    """Names of the catalogue that were retired are in use again."""

    scope: NameScope
    names: list[str]
    by: UUID


class PropertyTypeChanged(Payload, frozen=True):
    """A property of users or accounts has another type from now on. Earlier values are shown with
    this type, if they fit."""

    scope: NameScope
    name: str
    type: PropertyType
    by: UUID


class ListChange(Payload, frozen=True):
    """The list of a static segment, whose own stream this is, was changed by hand."""

    subjects: list[SubjectId]
    by: UUID


class MembersListed(ListChange, frozen=True):
    """Subjects were put on the list of a static segment."""


class MembersUnlisted(ListChange, frozen=True):
    """Subjects were taken off the list of a static segment."""
