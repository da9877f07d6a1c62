"""User and Account: what a command makes of a subject's state, and what an event makes of it.

Both are frozen values. A method named for a deed returns the payloads of the events it causes;
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
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
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
    """The stage that somebody, an API key, put a subject into, and why; None: into none."""

    stage: str | None
    reason: str
    by: UUID


class Subject(msgspec.Struct, frozen=True):
    """What users and accounts have in common.

    Attributes:
        version: number of aggregate events so far; 0 where the subject has not begun.
        identities: every outside name, in the order of their coming to be known.
        merged_into: the subject in which this one lives on, once merged.
        absorbed: every subject that was merged into this one, directly or by way of another.
        by_hand: the stage that it is in whatever rules say, until it is released.
    """

    id: SubjectId
    version: int = 0
    identities: tuple[Identity, ...] = ()
    properties: Values = msgspec.field(default_factory=dict)
    merged_into: SubjectId | None = None
    absorbed: tuple[SubjectId, ...] = ()
    by_hand: ManualStage | None = None

    kind: ClassVar[SubjectKind] = SubjectKind.USER

    def register(self, identities: Iterable[Identity]) -> list[Payload]:
        """Begins the subject, or adds the identities that it does not have yet."""
        new = self._unknown(identities)
        if self.version == 0:
            return [Registered(new)]
        return [Identified(new)] if new else []

    def change_properties(self, write: PropertyWrite) -> list[Payload]:
        """Merges a checked write; nothing comes of one that changes nothing."""
        values, deleted, before = merged(self.properties, write)
        return [PropertiesChanged(values, deleted, before)] if values or deleted else []

    def absorb(self, other: Subject) -> list[Payload]:
        """Takes over what `other` knew and this one did not. What both know stays this one's: no
        value gives way to another, and so none is kept as the one before."""
        taken: list[Payload] = [
            Absorbed(
                (other.id, *other.absorbed),
                self._unknown(other.identities),
                {k: v for k, v in other.properties.items() if k not in self.properties},
            )
        ]
        if self.by_hand is None and other.by_hand is not None:
            taken.append(StageSet(*msgspec.structs.astuple(other.by_hand)))
        return taken

    def _unknown(self, identities: Iterable[Identity]) -> tuple[Identity, ...]:
        return unmatched(identities, {(one.scheme, one.matching) for one in self.identities})

    def merge_into(self, survivor: SubjectId) -> list[Payload]:
        return [] if self.merged_into == survivor else [MergedInto(survivor)]

    def set_stage(self, stage: str | None, reason: str, by: UUID) -> list[Payload]:
        """Puts the subject into a stage; nothing comes of doing so again for the same reason."""
        if self.by_hand is not None and (stage, reason) == (
            self.by_hand.stage,
            self.by_hand.reason,
        ):
            return []
        return [StageSet(stage, reason, by)]

    def release_stage(self, by: UUID) -> list[Payload]:
        """Lets rules decide the stage again; nothing comes of it where they do."""
        return [] if self.by_hand is None else [StageReleased(by)]

    def evolve(self, event: Event) -> Self:
        """The state after `event`, which must be the next one."""
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
                by_hand = ManualStage(stage, reason, by)
                return msgspec.structs.replace(self, version=version, by_hand=by_hand)
            case StageReleased():
                return msgspec.structs.replace(self, version=version, by_hand=None)
            case _:
                return msgspec.structs.replace(self, version=version)


class MembershipRecord(msgspec.Struct, frozen=True):
    """One user's belonging to one account, past or present."""

    started_at: datetime
    ended_at: datetime | None = None
    properties: Values = msgspec.field(default_factory=dict)


class User(Subject, frozen=True):
    """A person, known by user id, e-mail or both."""

    memberships: dict[SubjectId, MembershipRecord] = msgspec.field(default_factory=dict)

    def join(self, account: SubjectId, write: PropertyWrite) -> list[Payload]:
        """Becomes a member of an account, or changes the properties of the membership."""
        current = self.memberships.get(account)
        if current is None or current.ended_at is not None:
            return [MembershipStarted(write.values)]
        values, deleted, before = merged(current.properties, write)
        return [MembershipChanged(values, deleted, before)] if values or deleted else []

    def leave(self, account: SubjectId) -> list[Payload]:
        """Ends a membership; nothing comes of ending what is not there or ended before."""
        current = self.memberships.get(account)
        return [] if current is None or current.ended_at is not None else [MembershipEnded()]

    def member_as(self, account: Account) -> list[SubjectId]:
        """The ids under which the user is a member of an account now: the account's own, and
        those of the accounts that were merged into it."""
        return [
            id
            for id in (account.id, *account.absorbed)
            if id in self.memberships and self.memberships[id].ended_at is None
        ]

    def memberships_from(self, other: User) -> list[tuple[SubjectId, datetime, Payload]]:
        """What becomes of another user's memberships once it is this one: those that this one
        does not have begin here too, and end, at their own dates."""
        taken: list[tuple[SubjectId, datetime, Payload]] = []
        for account, record in other.memberships.items():
            mine = self.memberships.get(account)
            if mine is None or (mine.ended_at is not None and record.ended_at is None):
                started = MembershipStarted(record.properties, other.id)
                taken.append((account, record.started_at, started))
                if record.ended_at is not None:
                    taken.append((account, record.ended_at, MembershipEnded()))
        return taken

    def evolve(self, event: Event) -> Self:
        after = super().evolve(event)
        memberships = _memberships_after(self.memberships, event)
        if memberships is self.memberships:
            return after
        return msgspec.structs.replace(after, memberships=memberships)


class Account(Subject, frozen=True):
    """A group of users: a company, an organisation. Known by account id, domain or both."""

    kind: ClassVar[SubjectKind] = SubjectKind.ACCOUNT


def _memberships_after(
    before: dict[SubjectId, MembershipRecord], event: Event
) -> dict[SubjectId, MembershipRecord]:
    payload, account = event.payload, event.account
    if account is None:
        return before
    match payload:
        case MembershipStarted(properties):
            return before | {account: MembershipRecord(event.occurred_at, None, properties)}
        case MembershipChanged(values, deleted):
            old = before[account]
            kept = {k: v for k, v in old.properties.items() if k not in deleted}
            record = msgspec.structs.replace(old, properties=kept | values)
            return before | {account: record}
        case MembershipEnded():
            record = msgspec.structs.replace(before[account], ended_at=event.occurred_at)
            return before | {account: record}
        case _:
            return before


def subject(kind: SubjectKind, id: SubjectId) -> User | Account:
    """A subject that has not begun."""
    return User(id) if kind is SubjectKind.USER else Account(id)


def replay(state: User | Account, events: Iterable[Event]) -> User | Account:
    """The state after `events`, in order of version."""
    for event in events:
        state = state.evolve(event)
    return state


def numbered(
    state: Subject, payloads: Iterable[Payload], at: datetime, account: SubjectId | None = None
) -> list[Event]:
    """The events that `payloads` become in the stream of `state`."""
    return [
        Event(state.kind, state.id, state.version + n, at, payload, account)
        for n, payload in enumerate(payloads, 1)
    ]
