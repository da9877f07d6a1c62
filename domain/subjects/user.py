"""User: a subject with memberships of accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Self

import msgspec

from domain.events.event import Event
from domain.events.payloads import (
    MembershipBackdated,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    Payload,
    PropertiesConfirmed,
)
from domain.identity import SubjectId
from domain.properties import PropertyWrite, Values, merged
from domain.subjects.account import Account
from domain.subjects.subject import Subject, payloads_of


class MembershipRecord(msgspec.Struct, frozen=True):
    """A user's membership of one account.

    Attributes:
        ended_at: None while it lasts; never before `started_at`.
        said_at: as in `Subject`.
    """

    started_at: datetime
    ended_at: datetime | None = None
    properties: Values = msgspec.field(default_factory=dict)
    said_at: dict[str, datetime] = msgspec.field(default_factory=dict)


class User(Subject, frozen=True):
    """A person, identified by user id, e-mail or both.

    Attributes:
        memberships: the latest membership of each account, by the account's id.
    """

    memberships: dict[SubjectId, MembershipRecord] = msgspec.field(default_factory=dict)

    def join(
        self, account: SubjectId, write: PropertyWrite, at: datetime, *, begins: bool = True
    ) -> list[Payload]:
        """Starts a membership, or changes the properties of the present one. For a time before it
        began, it moves its beginning there, if it `begins`."""
        current = self.memberships.get(account)
        if current is None or (current.ended_at is not None and at >= current.ended_at):
            return [MembershipStarted(write.values, None, dict.fromkeys(write.deleted, at))]
        result = merged(current.properties, current.said_at, write, at)
        payloads: list[Payload] = []
        if begins and at < current.started_at:
            payloads.append(MembershipBackdated())
        return payloads + payloads_of(result, MembershipChanged)

    def leave(self, account: SubjectId, at: datetime) -> list[Payload]:
        """Ends a membership. For a time before it began, or after it ended, it causes no event."""
        current = self.memberships.get(account)
        if current is None or at < current.started_at:
            return []
        if current.ended_at is not None and at >= current.ended_at:
            return []
        return [MembershipEnded()]

    def member_as(self, account: Account) -> list[SubjectId]:
        """The account ids of the user's present memberships of an account, the oldest first: the
        account's own id, and the ids of accounts that were merged into it."""
        present = [id for id in self.joined_as(account) if self.memberships[id].ended_at is None]
        return sorted(present, key=lambda under: self.memberships[under].started_at)

    def joined_as(self, account: Account) -> list[SubjectId]:
        """As `member_as`, with the memberships that ended."""
        return [id for id in (account.id, *account.absorbed) if id in self.memberships]

    def memberships_from(self, other: User) -> list[tuple[SubjectId, datetime, Payload]]:
        """Takes over the memberships of a merged user that this user lacks, at their own dates.

        Returns:
            Account, instant and payload of each event, in order.
        """
        events: list[tuple[SubjectId, datetime, Payload]] = []
        for account, record in other.memberships.items():
            own = self.memberships.get(account)
            if own is None or (own.ended_at is not None and record.ended_at is None):
                later = {
                    name: at
                    for name, at in record.said_at.items()
                    if at != record.started_at or name not in record.properties
                }
                started = MembershipStarted(record.properties, other.id, later)
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
            said_at = dict.fromkeys(properties, event.occurred_at) | payload.said_at
            record = MembershipRecord(event.occurred_at, None, properties, said_at)
            return before | {account: record}
        case MembershipBackdated():
            record = msgspec.structs.replace(before[account], started_at=event.occurred_at)
            return before | {account: record}
        case MembershipChanged(values, deleted, _, confirmed):
            current = before[account]
            unchanged = {k: v for k, v in current.properties.items() if k not in deleted}
            said = dict.fromkeys((*values, *deleted, *confirmed), event.occurred_at)
            record = msgspec.structs.replace(
                current, properties=unchanged | values, said_at=current.said_at | said
            )
            return before | {account: record}
        case PropertiesConfirmed(names):
            current = before[account]
            said_at = current.said_at | dict.fromkeys(names, event.occurred_at)
            return before | {account: msgspec.structs.replace(current, said_at=said_at)}
        case MembershipEnded():
            record = msgspec.structs.replace(before[account], ended_at=event.occurred_at)
            return before | {account: record}
        case _:
            return before
