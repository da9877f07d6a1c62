"""Subject: the common part of users and accounts.

A frozen value. A method named for a command returns the payloads of the events that it causes;
`evolve` applies one event. Neither touches a clock, a database or a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self
from uuid import UUID

import msgspec

from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    Identified,
    MergedInto,
    Payload,
    PropertiesChanged,
    Registered,
    StageReleased,
    StageSet,
)
from domain.identity import Identity, SubjectId, SubjectKind, unmatched
from domain.properties import PropertyWrite, Values, merged

SNAPSHOT_EVERY = 50
"""Versions of an aggregate between two snapshots of it."""


class ManualStage(msgspec.Struct, frozen=True):
    """The stage that an API key set for a subject.

    Attributes:
        stage: by name; None: no stage.
        reason: as the person typed it.
        by: the id of the API key.
    """

    stage: str | None
    reason: str
    by: UUID


class Subject(msgspec.Struct, frozen=True):
    """The state that users and accounts share. Field names are stored in snapshots.

    Attributes:
        version: number of aggregate events so far; 0 before the first.
        identities: every identity, in the order in which the log recorded them.
        merged_into: the subject that this one was merged into.
        absorbed: every subject that was merged into this one, directly or through another.
        manual_stage: overrides the stage rules until it is released.
    """

    id: SubjectId
    version: int = 0
    identities: tuple[Identity, ...] = ()
    properties: Values = msgspec.field(default_factory=dict)
    merged_into: SubjectId | None = None
    absorbed: tuple[SubjectId, ...] = ()
    manual_stage: ManualStage | None = msgspec.field(default=None, name="by_hand")

    kind: ClassVar[SubjectKind] = SubjectKind.USER

    def register(self, identities: Iterable[Identity]) -> list[Payload]:
        """Registers the subject, or adds the identities that it does not have."""
        new = self._unknown(identities)
        if self.version == 0:
            return [Registered(new)]
        return [Identified(new)] if new else []

    def change_properties(self, write: PropertyWrite) -> list[Payload]:
        """Merges a checked write. A write that changes nothing causes no event."""
        values, deleted, before = merged(self.properties, write)
        return [PropertiesChanged(values, deleted, before)] if values or deleted else []

    def absorb(self, other: Subject) -> list[Payload]:
        """Takes over the identities, properties and manual stage of `other` that this subject
        lacks. Where both have a value, this subject keeps its own."""
        payloads: list[Payload] = [
            Absorbed(
                (other.id, *other.absorbed),
                self._unknown(other.identities),
                {k: v for k, v in other.properties.items() if k not in self.properties},
            )
        ]
        if self.manual_stage is None and other.manual_stage is not None:
            payloads.append(StageSet(*msgspec.structs.astuple(other.manual_stage)))
        return payloads

    def _unknown(self, identities: Iterable[Identity]) -> tuple[Identity, ...]:
        known = {(identity.scheme, identity.matching) for identity in self.identities}
        return unmatched(identities, known)

    def merge_into(self, survivor: SubjectId) -> list[Payload]:
        """Records that the subject lives on in `survivor`; merging twice causes no second event."""
        return [] if self.merged_into == survivor else [MergedInto(survivor)]

    def set_stage(self, stage: str | None, reason: str, by: UUID) -> list[Payload]:
        """Sets the stage manually. The same stage for the same reason causes no event."""
        current = self.manual_stage
        if current is not None and (current.stage, current.reason) == (stage, reason):
            return []
        return [StageSet(stage, reason, by)]

    def release_stage(self, by: UUID) -> list[Payload]:
        """Hands the stage back to the rules. Without a manual stage, it causes no event."""
        return [] if self.manual_stage is None else [StageReleased(by)]

    def evolve(self, event: Event) -> Self:
        """The state after `event`, which must follow this state's version."""
        payload, version = event.payload, event.version
        match payload:
            case Registered(identities) | Identified(identities):
                return msgspec.structs.replace(
                    self, version=version, identities=self.identities + identities
                )
            case PropertiesChanged(values, deleted):
                properties = {k: v for k, v in self.properties.items() if k not in deleted}
                return msgspec.structs.replace(
                    self, version=version, properties=properties | values
                )
            case Absorbed():
                return msgspec.structs.replace(
                    self,
                    version=version,
                    identities=self.identities + payload.identities,
                    properties=payload.properties | self.properties,
                    absorbed=self.absorbed + payload.others,
                )
            case MergedInto(survivor):
                return msgspec.structs.replace(self, version=version, merged_into=survivor)
            case StageSet(stage, reason, by):
                manual = ManualStage(stage, reason, by)
                return msgspec.structs.replace(self, version=version, manual_stage=manual)
            case StageReleased():
                return msgspec.structs.replace(self, version=version, manual_stage=None)
            case _:
                return msgspec.structs.replace(self, version=version)
