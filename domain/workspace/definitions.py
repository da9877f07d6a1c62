"""Definitions: all that is defined in the workspace, as one aggregate.

A frozen value: `evolve` applies one event. `domain.workspace.editing` and
`domain.workspace.catalogue` decide which events a command causes. Deleted definitions stay on
record, so that a reference to one can be told from a reference to one that never existed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from domain.calendar import Zones
from domain.definitions.destinations import Destination
from domain.definitions.types import (
    Defined,
    Definition,
    DefinitionId,
    DefinitionKind,
    Segment,
    Settings,
    Status,
    family_of,
)
from domain.errors import InvalidInput, NotFound
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
    NamesRestored,
    NamesRetired,
    PropertyTypeChanged,
)
from domain.events.event import Event
from domain.events.payloads import Payload
from domain.identity import SubjectKind
from domain.name_rules import NameRules
from domain.workspace.references import provides
from domain.workspace.workspace import Workspace

D = TypeVar("D", bound=Definition)


class Definitions(msgspec.Struct, frozen=True):
    """
    Attributes:
        version: number of events so far.
        current: the definitions by id, archived ones included.
        deleted: deleted definitions by id, each as it last was.
        zones: each instant at which settings chose a time zone, with its name, in order; None: the
            server's zone.
        names: the names that admins retired, and the types that they gave.
    """

    version: int = 0
    current: dict[DefinitionId, Defined[Definition]] = msgspec.field(default_factory=dict)
    deleted: dict[DefinitionId, Defined[Definition]] = msgspec.field(default_factory=dict)
    zones: tuple[tuple[datetime, str | None], ...] = ()
    names: NameRules = NameRules()

    def of(self, family: type[D]) -> dict[DefinitionId, Defined[D]]:
        """The definitions of a family."""
        return {
            id: cast(Defined[D], defined)
            for id, defined in self.current.items()
            if isinstance(defined.definition, family)
        }

    @property
    def segments(self) -> dict[DefinitionId, Defined[Segment]]:
        return self.of(Segment)

    @property
    def destinations(self) -> dict[DefinitionId, Defined[Destination]]:
        return self.of(Destination)

    def destination(self, id: UUID) -> Defined[Destination]:
        """Raises: NotFound: the destination does not exist, or was deleted."""
        destination = self.destinations.get(DefinitionId(id))
        if destination is None:
            raise NotFound("there is no such destination")
        return destination

    @property
    def active(self) -> dict[DefinitionId, Definition]:
        """The definitions that decide, by id."""
        return {
            id: defined.definition
            for id, defined in self.current.items()
            if defined.status is Status.ACTIVE
        }

    @property
    def settings(self) -> Defined[Settings] | None:
        """The settings of the workspace; None until an admin chooses some."""
        return next(iter(self.of(Settings).values()), None)

    def workspace(self, defaults: Workspace) -> Workspace:
        """The settings that hold: the workspace's own, else the server's.

        Args:
            defaults: as the server is set.
        """
        if self.settings is None:
            return msgspec.structs.replace(defaults, names=self.names)
        chosen, first = self.settings.definition, defaults.zones.first
        return Workspace(
            zones=Zones(
                first,
                tuple(
                    (since, first if name is None else ZoneInfo(name)) for since, name in self.zones
                ),
            ),
            mrr_property=chosen.mrr_property or defaults.mrr_property,
            renewal_property=chosen.renewal_property or defaults.renewal_property,
            currency=chosen.currency or defaults.currency,
            users=chosen.users,
            accounts=chosen.accounts,
            backdated_stages=chosen.backdated_stages,
            links=tuple(chosen.links),
            retention=chosen.retention,
            names=self.names,
        )

    def find(self, id: UUID) -> Defined[Definition]:
        """Raises: NotFound: the definition does not exist, or was deleted."""
        defined = self.current.get(DefinitionId(id))
        if defined is None:
            raise NotFound("there is no such definition")
        return defined

    def segment(self, id: UUID) -> Defined[Segment]:
        """Raises: NotFound: the segment does not exist, or was deleted."""
        segment = self.segments.get(DefinitionId(id))
        if segment is None:
            raise NotFound("there is no such segment")
        return segment

    def static_segment(self, id: UUID) -> Defined[Segment]:
        """Raises: NotFound: the segment does not exist. InvalidInput: it has a condition."""
        segment = self.segment(id)
        if segment.definition.condition is not None:
            raise InvalidInput(
                "a condition selects the members of this segment; only a static one has a list"
            )
        return segment

    def known(self, family: DefinitionKind, kind: SubjectKind) -> set[str]:
        """The names of active definitions that conditions about a kind can test."""
        return {
            named.name
            for id, definition in self.active.items()
            for named in provides(id, definition)
            if (named.family, named.kind) == (family, kind)
        }

    def family_of(self, payload: Payload) -> DefinitionKind:
        """The family that the topic of an event names."""
        match payload:
            case (
                DefinitionMade(_, definition)
                | DefinitionChanged(_, definition)
                | DefinitionCleaned(_, _, definition)
            ):
                return family_of(definition)
            case DefinitionActivated(id) | DefinitionArchived(id) | DefinitionDeleted(id):
                return family_of(self.current[id].definition)
            case NamesRetired() | NamesRestored() | PropertyTypeChanged():
                return DefinitionKind.SETTINGS
            case _:
                raise TypeError("an event of another aggregate")

    def evolve(self, event: Event) -> Definitions:
        """The state after `event`, which must follow this state's version."""
        payload, at, version = event.payload, event.occurred_at, event.version or self.version
        match payload:
            case (
                DefinitionChanged(id)
                | DefinitionActivated(id)
                | DefinitionArchived(id)
                | DefinitionDeleted(id)
            ) if id not in self.current:  # the event that made it no longer opens
                return msgspec.structs.replace(self, version=version)
            case DefinitionMade(id, definition, by):
                status = first_status(definition)
                made = Defined(id, 1, definition, status, at, by, at, by)
                return msgspec.structs.replace(
                    self,
                    version=version,
                    current=self.current | {id: made},
                    zones=self._zones(definition, at),
                )
            case DefinitionChanged(id, definition, by):
                changed = msgspec.structs.replace(self.current[id], definition=definition)
                after = self._with_next_version(changed, event, by)
                return msgspec.structs.replace(after, zones=self._zones(definition, at))
            case DefinitionActivated(id, by):
                active = msgspec.structs.replace(self.current[id], status=Status.ACTIVE)
                return self._with_next_version(active, event, by)
            case DefinitionArchived(id, by):
                archived = msgspec.structs.replace(self.current[id], status=Status.ARCHIVED)
                return self._with_next_version(archived, event, by)
            case DefinitionDeleted(id):
                others = {key: other for key, other in self.current.items() if key != id}
                return msgspec.structs.replace(
                    self,
                    version=version,
                    current=others,
                    deleted=self.deleted | {id: self.current[id]},
                )
            case DefinitionCleaned():
                return msgspec.structs.replace(
                    self,
                    version=version,
                    current=_cleaned(self.current, payload),
                    deleted=_cleaned(self.deleted, payload),
                )
            case NamesRetired(scope, names, by):
                rules = self.names.retire(scope, names, at, by)
                return msgspec.structs.replace(self, version=version, names=rules)
            case NamesRestored(scope, names):
                rules = self.names.restore(scope, names)
                return msgspec.structs.replace(self, version=version, names=rules)
            case PropertyTypeChanged(scope, name, to):
                rules = self.names.change_type(scope, name, to)
                return msgspec.structs.replace(self, version=version, names=rules)
            case _:
                return msgspec.structs.replace(self, version=version)

    def _with_next_version(
        self, defined: Defined[Definition], event: Event, by: UUID
    ) -> Definitions:
        following = msgspec.structs.replace(
            defined, version=defined.version + 1, changed_at=event.occurred_at, by=by
        )
        return msgspec.structs.replace(
            self,
            version=event.version or self.version,
            current=self.current | {defined.id: following},
        )

    def _zones(
        self, definition: Definition, at: datetime
    ) -> tuple[tuple[datetime, str | None], ...]:
        """The zones, and the one that settings choose where it differs from the last."""
        if not isinstance(definition, Settings):
            return self.zones
        since, before = self.zones[-1] if self.zones else (at, None)
        if definition.time_zone == before:
            return self.zones
        return (*self.zones, (max(since, at), definition.time_zone))


def _cleaned(
    definitions: dict[DefinitionId, Defined[Definition]], event: DefinitionCleaned
) -> dict[DefinitionId, Defined[Definition]]:
    """The definitions after an erasure took names out of some versions of one."""
    defined = definitions.get(event.id)
    if defined is None or defined.version not in event.versions:
        return definitions
    return definitions | {event.id: msgspec.structs.replace(defined, definition=event.definition)}


def first_status(definition: Definition) -> Status:
    """The status of a definition that was just made."""
    return Status.ACTIVE if isinstance(definition, Segment | Settings) else Status.DRAFT
