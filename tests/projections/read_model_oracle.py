"""A naive model of what read models show: written from the product page, not from the code.

It carries out the same commands one by one, in memory, and knows no events, no partitions and no
batches. `read_models.py` reads the same facts from the database.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo

from domain.commands import Alias, Change, Command, Join, Leave, Track
from domain.identity import Identity, SubjectKind
from tests.latest_values import LatestValues


@dataclass
class Membership:
    joined_at: datetime
    left_at: datetime | None
    properties: LatestValues


@dataclass(eq=False)
class Subject:
    kind: SubjectKind
    identities: list[Identity] = field(default_factory=list)
    goes_by: Identity | None = None
    properties: LatestValues = field(default_factory=LatestValues)
    memberships: dict[Subject, Membership] = field(default_factory=dict)
    days: Counter[tuple[str, str, date, bool]] = field(default_factory=Counter)
    seen: list[datetime] = field(default_factory=list)
    merged_into: Subject | None = None
    hand: list[str | None] = field(default_factory=list)
    """The stage that somebody put it into, until it is released."""

    @property
    def today(self) -> Subject:
        return self if self.merged_into is None else self.merged_into.today

    @property
    def external_id(self) -> Identity | None:
        ids = (identity for identity in self.identities if identity.scheme.is_external_id)
        return self.goes_by or next(ids, None)


@dataclass
class Use:
    count: int
    first_at: datetime
    last_at: datetime


class Model:
    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self.names: dict[Identity, Subject] = {}
        self.erased: list[Subject] = []
        self.catalogue: dict[tuple[str, str], Use] = {}

    @property
    def subjects(self) -> list[Subject]:
        return list({id(name): name for name in self.names.values()}.values())

    def carry_out(self, command: Command) -> None:
        match command:
            case Change():
                subject = self._subject(command.kind, command.identities)
                self._set(
                    f"{command.kind}.property", subject.properties, command.properties, command.at
                )
            case Alias():
                user = self._subject(SubjectKind.USER, command.user + command.previous)
                if user.external_id != command.user[0]:
                    user.goes_by = command.user[0]
            case Join():
                user = self._subject(SubjectKind.USER, command.user)
                account = self._subject(SubjectKind.ACCOUNT, command.account)
                self._set(
                    "account.property", account.properties, command.account_properties, command.at
                )
                self._join(user, account, command)
            case Leave():
                if all(identity in self.names for identity in command.user + command.account):
                    user = self._subject(SubjectKind.USER, command.user)
                    account = self._subject(SubjectKind.ACCOUNT, command.account)
                    for membership in _records(user, account):
                        began, left = membership.joined_at, membership.left_at
                        if began <= command.at and (left is None or command.at < left):
                            membership.left_at = command.at
            case Track():
                self._track(command)

    def _subject(self, kind: SubjectKind, identities: tuple[Identity, ...]) -> Subject:
        found = list(
            dict.fromkeys(self.names[identity] for identity in identities if identity in self.names)
        )
        subject = found[0] if found else Subject(kind)
        for other in found[1:]:
            self._merge(other, subject)
        for identity in identities:
            if identity not in self.names:
                subject.identities.append(identity)
            self.names[identity] = subject
        return subject

    def _merge(self, loser: Subject, survivor: Subject) -> None:
        shown = [] if loser.goes_by is None else [loser.goes_by]
        survivor.identities += shown + [one for one in loser.identities if one not in shown]
        survivor.properties.absorb(loser.properties)
        for account, theirs in loser.memberships.items():
            mine = survivor.memberships.get(account)
            if mine is None or (mine.left_at is not None and theirs.left_at is None):
                survivor.memberships[account] = theirs
        survivor.days += loser.days
        survivor.seen += loser.seen
        survivor.hand = survivor.hand or loser.hand
        loser.merged_into = survivor
        for identity in loser.identities:
            self.names[identity] = survivor

    def _set(self, scope: str, kept: LatestValues, sent: dict[str, object], at: datetime) -> None:
        for name, value in sent.items():
            if kept.write(name, value, at) and value is not None:
                self._use(scope, name, at)

    def _use(self, scope: str, name: str, at: datetime) -> None:
        use = self.catalogue.setdefault((scope, name), Use(0, at, at))
        use.count += 1
        use.first_at, use.last_at = min(use.first_at, at), max(use.last_at, at)

    def _join(self, user: Subject, account: Subject, command: Join) -> None:
        scope, sent = "membership.property", command.membership_properties
        records = _held(user, account)
        last = user.memberships.get(account)
        if not records and last is not None and last.left_at is not None:
            records = [last] if command.at < last.left_at else []
        for membership in records:
            self._set(scope, membership.properties, sent, command.at)
        for oldest in sorted(records, key=lambda membership: membership.joined_at)[:1]:
            oldest.joined_at = min(oldest.joined_at, command.at)
        if not records:
            user.memberships[account] = begun = Membership(command.at, None, LatestValues())
            self._set(scope, begun.properties, sent, command.at)

    def _track(self, command: Track) -> None:
        user = self._subject(SubjectKind.USER, command.user) if command.user else None
        account = self._subject(SubjectKind.ACCOUNT, command.account) if command.account else None
        day = command.at.astimezone(self.zone).date()
        in_account = user is not None and account is not None
        for activity in command.activities:
            for party in (user, account):
                if party is not None:
                    party.days[activity.kind.value, activity.name, day, in_account] += 1
                    party.seen.append(command.at)
            if activity.kind not in ("page", "campaign"):
                self._use(activity.kind.value, activity.name, command.at)

    def erase(self, subject: Subject) -> None:
        for identity in subject.identities:
            del self.names[identity]
        for membership in subject.memberships.values():
            membership.properties = LatestValues()
        self.erased.append(subject)

    def accounts_of(self, user: Subject) -> dict[Subject, Membership]:
        """The accounts of a user as they are today: of records that are in one account now, the
        one that holds and began first, or else the one that ended last."""
        accounts: dict[Subject, Membership] = {}
        for account, membership in user.memberships.items():
            today = account.today if account.today not in self.erased else account
            other = accounts.get(today)
            if other is None or _stands_before(membership, other):
                accounts[today] = membership
        return accounts


def _records(user: Subject, account: Subject) -> list[Membership]:
    return [of_one for of, of_one in user.memberships.items() if of.today is account]


def _held(user: Subject, account: Subject) -> list[Membership]:
    return [of_one for of_one in _records(user, account) if of_one.left_at is None]


def _stands_before(membership: Membership, other: Membership) -> bool:
    if membership.left_at is None or other.left_at is None:
        if membership.left_at is None and other.left_at is None:
            return membership.joined_at < other.joined_at
        return membership.left_at is None
    return (membership.left_at, -membership.joined_at.timestamp()) > (
        other.left_at,
        -other.joined_at.timestamp(),
    )
