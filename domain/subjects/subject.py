"""Subject: the common part of users and accounts.

A frozen value. A method named for a command returns the payloads of the events that it causes;
`evolve` applies one event. Neither touches a clock, a database or a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Self
from uuid import UUID

import msgspec

from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    Identified,
    IdentitiesReleased,
    MembershipChanged,
    MergedInto,
    Payload,
    PropertiesBackdated,
    PropertiesChanged,
    PropertiesConfirmed,
    Registered,
    StageReleased,
    StageSet,
)
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, unmatched
from domain.properties import Merged, PropertyWrite, Values, merged

SNAPSHOT_EVERY = 50
"""Versions of an aggregate between two snapshots of it."""

MAX_RELEASED = 32
"""Identities that a subject gave up and that its state keeps, the last ones: a crash may leave them
in the index of identities."""


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
        goes_by: the id that an alias gave the subject last.
        released: identities that the subject had and gave up.
        said_at: by property, the latest time for which its value was sent, or its deletion.
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
    goes_by: Identity | None = None
    released: tuple[Identity, ...] = ()
    said_at: dict[str, datetime] = msgspec.field(default_factory=dict)

    kind: ClassVar[SubjectKind] = SubjectKind.USER

    def register(self, identities: Iterable[Identity]) -> list[Payload]:
        """Registers the subject, or adds the identities that it does not have."""
        new = self._unknown(identities)
        if self.version == 0:
            return [Registered(new)]
        return [Identified(new)] if new else []

    @property
    def external_id(self) -> Identity | None:
        """The id that the subject goes by: as an alias said last, or else its first."""
        if self.goes_by is not None:
            return self.goes_by
        return next((one for one in self.identities if one.scheme.is_external_id), None)

    def go_by(self, external_id: Identity) -> list[Payload]:
        """Records that the subject, which has this id, goes by it, unless it does."""
        shown = self.external_id
        if shown is not None and shown.matching == external_id.matching:
            return []
        return [Identified((), external_id)]

    def change_properties(self, write: PropertyWrite, at: datetime) -> list[Payload]:
        """Merges a checked write for a time. A write that changes nothing, not even the latest
        time of a value, causes no event."""
        result = merged(self.properties, self.said_at, write, at)
        return payloads_of(result, PropertiesChanged)

    def release(self, changes: Iterable[Payload]) -> list[Payload]:
        """Gives up the identities that changes of properties took from the subject, which it
        shows already: the former e-mail of a user, the former domain of an account."""
        scheme = Scheme.EMAIL if self.kind is SubjectKind.USER else Scheme.DOMAIN
        present, name = self.properties.get(scheme.value), scheme.value
        former: list[object] = []
        for change in changes:
            match change:
                case PropertiesChanged(_, deleted, before) if name in before:
                    former.append(before[name])
                    if name in deleted:
                        former += [one.value for one in self.identities if one.scheme is scheme]
                case PropertiesBackdated(values) if name in values:
                    former.append(values[name])
                case _:
                    pass
        if not former:
            return []
        kept = Identity(scheme, present).matching if isinstance(present, str) else None
        given_up = {Identity(scheme, value).matching for value in former if isinstance(value, str)}
        released = tuple(
            one
            for one in self.identities
            if one.scheme is scheme and one.matching in given_up and one.matching != kept
        )
        return [IdentitiesReleased(released)] if released else []

    def absorb(self, other: Subject) -> list[Payload]:
        """Takes over the identities and the manual stage of `other` that this subject lacks, and
        the properties that it lacks, or that were sent to `other` for a later time."""
        later = {
            name: at
            for name, at in other.said_at.items()
            if name not in self.said_at or at > self.said_at[name]
        }
        shown = () if other.goes_by is None else (other.goes_by,)
        payloads: list[Payload] = [
            Absorbed(
                (other.id, *other.absorbed),
                self._unknown((*shown, *other.identities)),
                {name: other.properties[name] for name in later if name in other.properties},
                [n for n in later if n in self.properties and n not in other.properties],
                later,
            )
        ]
        if self.manual_stage is None and other.manual_stage is not None:
            payloads.append(StageSet(*msgspec.structs.astuple(other.manual_stage)))
        return payloads

    def _unknown(self, identities: Iterable[Identity]) -> tuple[Identity, ...]:
        return unmatched(identities, _keys(self.identities))

    def has_released(self, identity: Identity) -> bool:
        """Whether the subject had an identity and gave it up."""
        return (identity.scheme, identity.matching) in _keys(self.released)

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
                known_again = _keys(identities)
                return msgspec.structs.replace(
                    self,
                    version=version,
                    identities=self.identities + identities,
                    goes_by=(isinstance(payload, Identified) and payload.goes_by) or self.goes_by,
                    released=_without(self.released, known_again),
                )
            case IdentitiesReleased(identities):
                gone = _keys(identities)
                return msgspec.structs.replace(
                    self,
                    version=version,
                    identities=_without(self.identities, gone),
                    released=(self.released + identities)[-MAX_RELEASED:],
                )
            case PropertiesChanged(values, deleted):
                properties = {k: v for k, v in self.properties.items() if k not in deleted}
                said = (*values, *deleted, *payload.confirmed)
                return msgspec.structs.replace(
                    self,
                    version=version,
                    properties=properties | values,
                    said_at=self.said_at | dict.fromkeys(said, event.occurred_at),
                )
            case PropertiesConfirmed(names) if event.account is None:
                said_at = self.said_at | dict.fromkeys(names, event.occurred_at)
                return msgspec.structs.replace(self, version=version, said_at=said_at)
            case Absorbed():
                own = {k: v for k, v in self.properties.items() if k not in payload.deleted}
                said_at = dict.fromkeys(payload.properties, event.occurred_at) | payload.said_at
                return msgspec.structs.replace(
                    self,
                    version=version,
                    identities=self.identities + payload.identities,
                    released=_without(self.released, _keys(payload.identities)),
                    properties=own | payload.properties,
                    said_at=self.said_at | said_at,
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


def payloads_of(
    result: Merged, changed: type[PropertiesChanged | MembershipChanged]
) -> list[Payload]:
    """The payloads of a merged write: of what it changes, or else of what it says again; and of
    what was sent late."""
    payloads: list[Payload] = []
    if result.values or result.deleted:
        payloads.append(changed(result.values, result.deleted, result.before, result.confirmed))
    elif result.confirmed:
        payloads.append(PropertiesConfirmed(result.confirmed))
    if result.late_values or result.late_deleted:
        payloads.append(PropertiesBackdated(result.late_values, result.late_deleted))
    return payloads


def _keys(identities: Iterable[Identity]) -> set[tuple[Scheme, str]]:
    return {(identity.scheme, identity.matching) for identity in identities}


def _without(
    identities: tuple[Identity, ...], keys: set[tuple[Scheme, str]]
) -> tuple[Identity, ...]:
    return tuple(one for one in identities if (one.scheme, one.matching) not in keys)
