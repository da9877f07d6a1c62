"""User: a subject with memberships of accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Self

import msgspec

from domain.events.event import Event
from domain.events.payloads import (
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    Payload,
)
from domain.identity import SubjectId
from domain.properties import PropertyWrite, Values, merged
from domain.subjects.account import Account
from domain.subjects.subject import Subject


class MembershipRecord(msgspec.Struct, frozen=True):
    """A user's membership of one account. `ended_at` is None while it lasts."""

    started_at: datetime
    ended_at: datetime | None = None
    properties: Values = msgspec.field(default_factory=dict)


class User(Subject, frozen=True):
    """A person, identified by user id, e-mail or both.

    Attributes:
        memberships: the latest membership of each account, by the account's id.
    """

    memberships: dict[SubjectId, MembershipRecord] = msgspec.field(default_factory=dict)

    def join(self, account: SubjectId, write: PropertyWrite) -> list[Payload]:
        """Starts a membership, or changes the properties of the present one."""
        current = self.memberships.get(account)
        if current is None or current.ended_at is not None:
            return [MembershipStarted(write.values)]
        values, deleted, before = merged(current.properties, write)
        return [MembershipChanged(values, deleted, before)] if values or deleted else []

    def leave(self, account: SubjectId) -> list[Payload]:
        """Ends a membership. Without a present one, it causes no event."""
        current = self.memberships.get(account)
        return [] if current is None or current.ended_at is not None else [MembershipEnded()]

    def member_as(self, account: Account) -> list[SubjectId]:
        """The account ids of the user's present memberships of an account: the account's own id,
        and the ids of accounts that were merged into it."""
        return [
            id
            for id in (account.id, *account.absorbed)
            if id in self.memberships and self.memberships[id].ended_at is None
        ]

    def memberships_from(self, other: User) -> list[tuple[SubjectId, datetime, Payload]]:
        """Takes over the memberships of a merged user that this user lacks, at their own dates.

        Returns:
            Account, instant and payload of each event, in order.
        """
        events: list[tuple[SubjectId, datetime, Payload]] = []
        for account, record in other.memberships.items():
            own = self.memberships.get(account)
            if own is None or (own.ended_at is not None and record.ended_at is None):
                started = MembershipStarted(record.properties, other.id)
                events.append((account, record.started_at, started))
                if record.ended_at is not None:
                    events.append((account, record.ended_at, MembershipEnded()))
        return events

    def evolve(self, event: Event) -> Self:
        after = super().evolve(event)
        memberships = _memberships_after(self.memberships, event)
        if memberships is self.memberships:
            return after
        return msgspec.structs.replace(after, memberships=memberships)


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
            current = before[account]
            unchanged = {k: v for k, v in current.properties.items() if k not in deleted}
            record = msgspec.structs.replace(current, properties=unchanged | values)
            return before | {account: record}
        case MembershipEnded():
            record = msgspec.structs.replace(before[account], ended_at=event.occurred_at)
            return before | {account: record}
        case _:
            return before
