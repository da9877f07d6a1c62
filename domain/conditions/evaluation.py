"""Evaluates conditions in plain Python: the oracle for the compiler.

It evaluates one subject of a small world at a time, in the most direct way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from domain.calendar import Moment, Period, boundary, bounds, end_of, start_of
from domain.conditions import language as ask
from domain.identity import SubjectKind
from domain.properties import day_in, parse_date

_STORED_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{6})?Z")


class Deed(msgspec.Struct, frozen=True):
    """An activity of a subject on a day, done `count` times.

    Attributes:
        in_account: whether it named an account; then the account's own list has it too.
        metadata: None: unreadable since its user was erased; no test of it holds.
    """

    activity: str
    name: str
    day: date
    in_account: bool = False
    count: int = 1
    metadata: dict[str, Any] | None = {}


class Facts(msgspec.Struct):
    """All that is known of a subject. Properties and metadata are as they stand in JSON. A replay
    changes it as time goes on."""

    kind: SubjectKind
    properties: dict[str, Any] = {}
    attributes: dict[ask.Attribute, str | datetime] = {}
    deeds: list[Deed] = []
    stage: str | None = None
    health: ask.Health = ask.Health.NORMAL
    scores: dict[str, int | float] = {}
    signals: set[str] = set()
    segments: set[UUID] = set()


class Membership(msgspec.Struct, frozen=True):
    """A record of a user in an account, under the account that its events name."""

    user: UUID
    account: UUID
    joined_at: datetime
    left_at: datetime | None = None
    role: str | None = None


class World(msgspec.Struct, frozen=True):
    """
    Attributes:
        merged: merged accounts, each with its survivor.
        records: the memberships by user and by account, for frequent look-ups.
    """

    subjects: Mapping[UUID, Facts]
    memberships: Sequence[Membership] = ()
    merged: Mapping[UUID, UUID] = {}
    records: Mapping[UUID, Mapping[Any, Membership]] | None = None

    def about(self, subject: UUID) -> Iterable[Membership]:
        """Returns the memberships of a user or an account, from `records`."""
        return (self.records or {}).get(subject, {}).values()


def holds(condition: ask.Condition, subject: UUID, world: World, moment: Moment) -> bool:
    """Whether a condition holds of a subject that is there."""
    match condition:
        case ask.AllOf(of):
            return all(holds(part, subject, world, moment) for part in of)
        case ask.OneOf(of):
            return any(holds(part, subject, world, moment) for part in of)
        case ask.Not(of):
            return not holds(of, subject, world, moment)
        case ask.OfAccounts(quantifier, where) | ask.OfUsers(quantifier, where):
            outcomes = others_so(where, subject, world, moment)
            match quantifier:
                case ask.AnyOf():
                    return any(outcomes)
                case ask.EveryOf():
                    return bool(outcomes) and all(outcomes)
                case ask.AtLeastOf(count):
                    return sum(outcomes) >= count
    value = value_of(condition, subject, world, moment)
    match condition:
        case ask.PropertyIs(_, test) | ask.AttributeIs(_, test) | ask.ScoreIs(_, test):
            return passes(test, value, moment)
        case ask.Did():
            return isinstance(value, int) and _often_enough(condition.count, value)
        case ask.StageIs(stages):
            return value in stages
        case ask.HealthIs(health):
            return value in health
        case ask.SignalIs(_, on):
            return value is on
        case ask.InSegment() | ask.BelongsTo():
            return value is True


def value_of(condition: ask.Condition, subject: UUID, world: World, moment: Moment) -> object:
    """Returns the value that a test reads of a subject: a value (None: there is none), a count of
    activity, or whether a fact holds."""
    facts = world.subjects[subject]
    match condition:
        case ask.PropertyIs(name):
            return facts.properties.get(name)
        case ask.AttributeIs(attribute):
            return facts.attributes.get(attribute)
        case ask.Did():
            return _times(condition, subject, world, moment)
        case ask.StageIs():
            return facts.stage
        case ask.HealthIs():
            return facts.health
        case ask.ScoreIs(score):
            return facts.scores.get(score)
        case ask.SignalIs(signal):
            return signal in facts.signals
        case ask.InSegment(segment):
            return segment in facts.segments
        case ask.BelongsTo(other, role, ended):
            if other is not None:
                other = world.merged.get(other, other)
            return any(
                (record.left_at is not None) is ended
                and (other is None or id == other)
                and (role is None or record.role == role)
                for id, record in _others(subject, world).items()
            )
        case _:
            raise TypeError(f"{type(condition).__name__} is not a single test")


def others_so(where: ask.Condition, subject: UUID, world: World, moment: Moment) -> list[bool]:
    """Returns, for each account of a user or each user of an account, whether a condition holds."""
    return [
        holds(where, id, world, moment)
        for id, record in _others(subject, world).items()
        if record.left_at is None and id in world.subjects
    ]


def passes(test: ask.Test, value: object, moment: Moment) -> bool:
    """Whether a value, None where there is none, passes a test."""
    match test:
        case ask.Is(wanted):
            return _equal(value, wanted)
        case ask.IsNot(wanted):
            return not _equal(value, wanted)
        case ask.In(wanted):
            return any(_equal(value, other) for other in wanted)
        case ask.NotIn(wanted):
            return not any(_equal(value, other) for other in wanted)
        case ask.IsSet():
            return value is not None
        case ask.IsNotSet():
            return value is None
        case ask.Contains(part):
            return isinstance(value, str | list) and part in value
        case ask.StartsWith(beginning):
            return isinstance(value, str) and value.startswith(beginning)
        case ask.Greater() | ask.AtLeast() | ask.Less() | ask.AtMost() | ask.Between():
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return _number_passes(test, _exact(value))
        case _:
            at = value if isinstance(value, datetime) else _stored_date(value)
            return at is not None and _date_passes(test, at, moment)


def metadata_passes(test: ask.Test, value: object, moment: Moment) -> bool:
    """Whether a metadata value passes a test. Its dates are texts as they were sent."""
    if isinstance(test, ask.Before | ask.After) and isinstance(value, str):
        try:
            at = parse_date(value)
        except ValueError:
            return False
        return _date_passes(test, date.fromisoformat(at) if isinstance(at, str) else at, moment)
    return passes(test, value, moment)


def _equal(value: object, wanted: object) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return _exact(value) == _exact(wanted)
    return isinstance(value, str) and value == wanted


def _exact(number: int | float) -> Decimal:
    """A number as it is written: 0.1 is a tenth."""
    return Decimal(repr(number))


def _stored_date(value: object) -> date | datetime | None:
    """The day or the instant that a text stands for in a property; None where it stands for
    none."""
    if not isinstance(value, str) or not _STORED_INSTANT.fullmatch(value):
        return day_in(value)
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        return None


def _number_passes(test: ask.Test, number: Decimal) -> bool:
    match test:
        case ask.Greater(limit):
            return number > _exact(limit)
        case ask.AtLeast(limit):
            return number >= _exact(limit)
        case ask.Less(limit):
            return number < _exact(limit)
        case ask.AtMost(limit):
            return number <= _exact(limit)
        case ask.Between(low, high):
            return _exact(low) <= number <= _exact(high)
        case _:
            raise TypeError(f"{test} is no test of a number")


def _date_passes(test: ask.Test, at: date | datetime, moment: Moment) -> bool:
    """Whether a day or an instant passes a test of a date."""
    if isinstance(at, datetime):
        return _instant_passes(test, at, moment)
    return _day_passes(test, at, moment)


def _day_passes(test: ask.Test, day: date, moment: Moment) -> bool:
    """A day is compared with days as a day, and with an instant by its beginning in the zone."""
    zone, today = moment.zone, moment.today
    match test:
        case ask.Before(limit):
            edge = boundary(limit)
            return start_of(day, zone) < edge if isinstance(edge, datetime) else day < edge
        case ask.After(limit):
            edge = boundary(limit)
            return start_of(day, zone) > edge if isinstance(edge, datetime) else day > edge
        case ask.InPeriod(period):
            first, last = bounds(period, today)
            return first <= day <= last
        case ask.InNextDays(days):
            return today <= day <= today + timedelta(days)
        case ask.MoreThanDaysAgo(days):
            return day < today - timedelta(days)
        case _:
            raise TypeError(f"{test} is no test of a date")


def _instant_passes(test: ask.Test, at: datetime, moment: Moment) -> bool:
    zone, today = moment.zone, moment.today
    match test:
        case ask.Before(limit):
            edge = boundary(limit)
            return at < (edge if isinstance(edge, datetime) else start_of(edge, zone))
        case ask.After(limit):
            edge = boundary(limit)
            return at > edge if isinstance(edge, datetime) else at >= end_of(edge, zone)
        case ask.InPeriod(period):
            first, last = bounds(period, today)
            return start_of(first, zone) <= at < end_of(last, zone)
        case ask.InNextDays(days):
            return start_of(today, zone) <= at < end_of(today + timedelta(days), zone)
        case ask.MoreThanDaysAgo(days):
            return at < start_of(today - timedelta(days), zone)
        case _:
            raise TypeError(f"{test} is no test of a date")


def _times(condition: ask.Did, subject: UUID, world: World, moment: Moment) -> int:
    return sum(
        deed.count
        for deed in _deeds(condition.activity, subject, world)
        if deed.name == condition.name
        and _within(condition.period, deed.day, moment)
        and _where(condition, deed, moment)
    )


def _where(condition: ask.Did, deed: Deed, moment: Moment) -> bool:
    if deed.metadata is None:
        return not condition.where
    return all(
        metadata_passes(part.test, deed.metadata.get(part.name), moment) for part in condition.where
    )


def _often_enough(count: ask.Count, times: int) -> bool:
    match count:
        case ask.Occurred():
            return times > 0
        case ask.DidNotOccur():
            return times == 0
        case ask.AtLeastTimes(least):
            return times >= least
        case ask.AtMostTimes(most):
            return times <= most
        case ask.ExactlyTimes(exactly):
            return times == exactly


def _within(period: Period | None, day: date, moment: Moment) -> bool:
    if period is None:
        return True
    first, last = bounds(period, moment.today)
    return first <= day <= last


def _deeds(activity: str, subject: UUID, world: World) -> list[Deed]:
    """Returns a subject's activity of a kind. An account's events are those that name it; its
    pages, screens, channels and campaigns include those of its present members that name no
    account."""
    facts = world.subjects[subject]
    deeds = [deed for deed in facts.deeds if deed.activity == activity]
    if facts.kind is SubjectKind.ACCOUNT and activity != "event":
        for user, record in _others(subject, world).items():
            if record.left_at is None and user in world.subjects:
                deeds += [
                    deed
                    for deed in world.subjects[user].deeds
                    if deed.activity == activity and not deed.in_account
                ]
    return deeds


def _others(subject: UUID, world: World) -> dict[UUID, Membership]:
    """The accounts of a user or the users of an account, each with the one record that counts: the
    one that holds and began first, or else the one that ended last."""
    memberships: dict[UUID, Membership] = {}
    records = world.memberships if world.records is None else world.about(subject)
    for record in sorted(records, key=_precedence):
        account = world.merged.get(record.account, record.account)
        if record.user == subject:
            memberships.setdefault(account, record)
        elif account == subject:
            memberships.setdefault(record.user, record)
    return memberships


def _precedence(record: Membership) -> tuple[bool, float, datetime, UUID]:
    ended = record.left_at.timestamp() if record.left_at is not None else 0.0
    return record.left_at is not None, -ended, record.joined_at, record.account
