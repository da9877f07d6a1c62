"""Compiles a condition to one SQL predicate: for lists, counts, segments, previews, back-tests.

What a condition means is said in `domain.evaluation`; the two are tested against each other. The
predicate is about a row of `views.contacts` and is never null. Whatever comes from the condition
is a bound parameter.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, distinct_on

from domain import conditions as ask
from domain.identity import SubjectKind
from domain.periods import Moment, boundary, bounds, end_of, start_of
from projections.tables import (
    activity_days,
    contacts,
    memberships,
    merges,
    names,
    segment_members,
)

Predicate = sa.ColumnElement[bool]
Contact = sa.FromClause
"""`views.contacts`, or an alias of it."""


class Scope(enum.Enum):
    """How many subjects a predicate will be asked about: what it costs depends on it.

    ALL: most of them. What many subjects did is counted once, for all.
    FEW: a single one, some that changed, a page. What each one did is looked up for that one.
    """

    ALL = "all"
    FEW = "few"


def predicate(
    condition: ask.Condition,
    kind: SubjectKind,
    moment: Moment,
    *,
    scope: Scope = Scope.ALL,
    contact: Contact = contacts,
) -> Predicate:
    """What holds of a row of `contact`, whose kind is `kind`, if the condition does.

    Args:
        condition: one that `domain.checking.check` let pass.
    """
    return _Compiler(moment, scope).condition(condition, kind, contact)


class _Compiler:
    def __init__(self, moment: Moment, scope: Scope) -> None:
        self._moment = moment
        self._scope = scope

    def condition(self, condition: ask.Condition, kind: SubjectKind, contact: Contact) -> Predicate:
        match condition:
            case ask.AllOf(of):
                return sa.and_(sa.true(), *(self.condition(one, kind, contact) for one in of))
            case ask.OneOf(of):
                return sa.or_(sa.false(), *(self.condition(one, kind, contact) for one in of))
            case ask.Not(of):
                return sa.not_(self.condition(of, kind, contact))
            case ask.PropertyIs(name, test):
                return self._property(contact.c.properties, name, test)
            case ask.AttributeIs(attribute, test):
                return self._attribute(contact.c[attribute.value], attribute, test)
            case ask.Did():
                return self._did(condition, kind, contact)
            case ask.StageIs(stages):
                named = [stage for stage in stages if stage is not None]
                stage = contact.c.stage
                found = sa.and_(stage.is_not(None), stage == sa.any_(_texts(named)))
                return sa.or_(stage.is_(None), found) if None in stages else found
            case ask.HealthIs(health):
                return contact.c.health == sa.any_(_texts([one.value for one in health]))
            case ask.ScoreIs(_, test):
                # No score is kept yet, so none has a value.
                holds = isinstance(test, ask.IsNot | ask.NotIn | ask.IsNotSet)
                return sa.true() if holds else sa.false()
            case ask.SignalIs(_, on):
                # No signal is kept yet, so none is on.
                return sa.false() if on else sa.true()
            case ask.InSegment(segment):
                m = segment_members.alias()
                return sa.exists().where(
                    m.c.log_partition == contact.c.log_partition,
                    m.c.segment == segment,
                    m.c.subject == contact.c.subject,
                )
            case ask.BelongsTo():
                return self._belongs(condition, kind, contact)
            case ask.OfAccounts(quantifier, where) | ask.OfUsers(quantifier, where):
                return self._of_others(quantifier, where, kind, contact)

    def _property(self, properties: sa.ColumnElement[Any], name: str, test: ask.Test) -> Predicate:
        match test:
            case ask.Is(value):
                return _equals(properties, name, value)
            case ask.IsNot(value):
                return sa.not_(_equals(properties, name, value))
            case ask.In(values):
                return _value_in(properties, name, values)
            case ask.NotIn(values):
                return sa.not_(_value_in(properties, name, values))
            case ask.IsSet():
                return _is_set(properties, name)
            case ask.IsNotSet():
                return sa.not_(_is_set(properties, name))
            case ask.Contains(value):
                return _contains(properties, name, value)
            case ask.StartsWith(value):
                text = sa.func.views.text_of(properties, name, type_=sa.Text)
                return _or_false(sa.func.starts_with(text, value, type_=sa.Boolean))
            case ask.Greater() | ask.AtLeast() | ask.Less() | ask.AtMost() | ask.Between():
                number = sa.func.views.number_of(properties, name, type_=sa.Numeric)
                return _or_false(_number_test(number, test))
            case _:
                low, high = window(test, self._moment)
                text = sa.func.views.instant_of(properties, name, type_=sa.Text)
                instant = text.collate("C")
                tests: list[Predicate] = []
                if low is not None:
                    tests.append(instant >= _stored(low))
                if high is not None:
                    tests.append(instant < _stored(high))
                return _or_false(sa.and_(*tests))

    def _attribute(
        self, column: sa.ColumnElement[Any], attribute: ask.Attribute, test: ask.Test
    ) -> Predicate:
        is_there = column.is_not(None)
        match test:
            case ask.Is(value):
                return sa.and_(is_there, column == value)
            case ask.IsNot(value):
                return sa.not_(sa.and_(is_there, column == value))
            case ask.In(values):
                return sa.and_(is_there, column == sa.any_(_texts(values)))
            case ask.NotIn(values):
                return sa.not_(sa.and_(is_there, column == sa.any_(_texts(values))))
            case ask.IsSet():
                return is_there
            case ask.IsNotSet():
                return column.is_(None)
            case ask.Contains(value):
                return sa.and_(is_there, sa.func.strpos(column, value) > 0)
            case ask.StartsWith(value):
                return sa.and_(is_there, sa.func.starts_with(column, value))
            case _:
                low, high = window(test, self._moment)
                tests: list[Predicate] = [is_there]
                if low is not None:
                    tests.append(column >= low)
                if high is not None:
                    tests.append(column < high)
                return sa.and_(*tests)

    def _did(self, condition: ask.Did, kind: SubjectKind, contact: Contact) -> Predicate:
        match condition.count:
            case ask.Occurred():
                return self._counted(condition, kind, contact, at_least=1)
            case ask.DidNotOccur():
                return sa.not_(self._counted(condition, kind, contact, at_least=1))
            case ask.AtLeastTimes(times):
                if times == 0:
                    return sa.true()
                return self._counted(condition, kind, contact, at_least=times)
            case ask.AtMostTimes(times):
                return sa.not_(self._counted(condition, kind, contact, at_least=times + 1))
            case ask.ExactlyTimes(times):
                if times == 0:
                    return sa.not_(self._counted(condition, kind, contact, at_least=1))
                return self._counted(condition, kind, contact, exactly=times)

    def _counted(
        self,
        condition: ask.Did,
        kind: SubjectKind,
        contact: Contact,
        *,
        at_least: int = 0,
        exactly: int | None = None,
    ) -> Predicate:
        if kind is SubjectKind.ACCOUNT and condition.activity != "event":
            days = self._shared_days(condition, contact)
        else:
            days = self._own_days(condition, contact)
        found = sa.select(days.c.subject)
        total = sa.func.sum(days.c.count)
        if exactly is not None:
            found = found.group_by(days.c.subject).having(total == exactly)
        elif at_least > 1:
            found = found.group_by(days.c.subject).having(total >= at_least)
        return self._among(found, contact)

    def _among(self, found: sa.Select[Any], contact: Contact) -> Predicate:
        """Whether a contact is among the subjects found, which for few are looked up one by one."""
        return found.exists() if self._scope is Scope.FEW else contact.c.subject.in_(found)

    def _own_days(self, condition: ask.Did, contact: Contact) -> sa.Subquery:
        d = activity_days.alias()
        chosen: list[Predicate] = self._days(condition, d)
        if self._scope is Scope.FEW:
            chosen.append(d.c.log_partition == contact.c.log_partition)
            chosen.append(d.c.subject == contact.c.subject)
        return sa.select(d.c.subject, d.c.count).where(*chosen).correlate(contact).subquery()

    def _shared_days(self, condition: ask.Did, contact: Contact) -> sa.Subquery:
        """An account's own day counts, and those of its present members that name no account."""
        own = self._own_days(condition, contact)
        r = self._records(SubjectKind.ACCOUNT, contact)
        present = (
            sa.select(r.c.log_partition, r.c.user_id, r.c.account)
            .where(r.c.left_at.is_(None))
            .distinct()
            .subquery()
        )
        d = activity_days.alias()
        theirs = (
            sa.select(present.c.account, d.c.count)
            .join_from(
                present,
                d,
                sa.and_(
                    d.c.log_partition == present.c.log_partition,
                    d.c.subject == present.c.user_id,
                ),
            )
            .where(sa.not_(d.c.in_account), *self._days(condition, d))
        )
        return sa.union_all(sa.select(own.c.subject, own.c.count), theirs).subquery()

    def _days(self, condition: ask.Did, d: sa.FromClause) -> list[Predicate]:
        """What tells the day counts of an activity."""
        name = (
            sa.select(names.c.id)
            .where(names.c.kind == condition.activity, names.c.name == condition.name)
            .scalar_subquery()
        )
        chosen: list[Predicate] = [d.c.name_id == name]
        if condition.period is not None:
            first, last = bounds(condition.period, self._moment.today)
            chosen += [d.c.day >= first, d.c.day <= last]
        return chosen

    def _records(self, kind: SubjectKind, contact: Contact) -> sa.Subquery:
        """Memberships, each under the account that it is in today; for few, those of a contact."""
        m, g = memberships.alias(), merges.alias()
        found = sa.select(
            m.c.log_partition,
            m.c.user_id,
            sa.func.coalesce(g.c.survivor, m.c.account_id).label("account"),
            m.c.account_id,
            m.c.role,
            m.c.joined_at,
            m.c.left_at,
        ).join_from(m, g, g.c.loser == m.c.account_id, isouter=True)
        if self._scope is Scope.FEW:
            if kind is SubjectKind.USER:
                found = found.where(
                    m.c.log_partition == contact.c.log_partition,
                    m.c.user_id == contact.c.subject,
                )
            else:
                absorbed = merges.alias()
                losers = (
                    sa.select(absorbed.c.loser)
                    .where(absorbed.c.survivor == contact.c.subject)
                    .correlate(contact)
                    .scalar_subquery()
                )
                streams = sa.func.array_append(sa.func.array(losers), contact.c.subject)
                found = found.where(m.c.account_id == sa.func.any(streams))
        return found.correlate(contact).subquery()

    def _belongs(self, condition: ask.BelongsTo, kind: SubjectKind, contact: Contact) -> Predicate:
        """Of records that are in one account today, the one counts that the 360 view shows."""
        r = self._records(kind, contact)
        shown = (
            sa.select(r)
            .ext(distinct_on(r.c.log_partition, r.c.user_id, r.c.account))
            .order_by(
                r.c.log_partition,
                r.c.user_id,
                r.c.account,
                r.c.left_at.desc().nulls_first(),
                r.c.joined_at,
                r.c.account_id,
            )
            .subquery()
        )
        mine, other = _sides(shown, kind)
        left = shown.c.left_at
        found = sa.select(mine).where(left.is_not(None) if condition.ended else left.is_(None))
        if condition.role is not None:
            found = found.where(shown.c.role == condition.role)
        if condition.other is not None:
            survivor = sa.select(merges.c.survivor).where(merges.c.loser == condition.other)
            today = sa.func.coalesce(survivor.scalar_subquery(), condition.other)
            found = found.where(other == today)
        return self._among(found, contact)

    def _of_others(
        self, quantifier: ask.Quantifier, where: ask.Condition, kind: SubjectKind, contact: Contact
    ) -> Predicate:
        r = self._records(kind, contact)
        mine, theirs = _sides(r, kind)
        their_kind = SubjectKind.ACCOUNT if kind is SubjectKind.USER else SubjectKind.USER
        other = contacts.alias()
        holds = self.condition(where, their_kind, other)
        found = (
            sa.select(mine)
            .join_from(r, other, other.c.subject == theirs)
            .where(r.c.left_at.is_(None), other.c.kind == their_kind.value)
        )
        match quantifier:
            case ask.AnyOf():
                found = found.where(holds)
            case ask.EveryOf():
                found = found.group_by(mine).having(sa.func.bool_and(holds))
            case ask.AtLeastOf(count):
                number = sa.func.count(sa.distinct(theirs))
                found = found.where(holds).group_by(mine).having(number >= count)
        return self._among(found, contact)


def _sides(
    records: sa.Subquery, kind: SubjectKind
) -> tuple[sa.ColumnElement[UUID], sa.ColumnElement[UUID]]:
    """Of memberships, the column of the kind that is asked about and that of the other kind."""
    user, account = records.c.user_id, records.c.account
    return (user, account) if kind is SubjectKind.USER else (account, user)


def window(test: ask.Test, moment: Moment) -> tuple[datetime | None, datetime | None]:
    """What a test of a date asks for: from an instant on, and before another; None: no limit."""
    zone, today = moment.zone, moment.today
    match test:
        case ask.Before(at):
            limit = boundary(at)
            return None, limit if isinstance(limit, datetime) else start_of(limit, zone)
        case ask.After(at):
            limit = boundary(at)
            if isinstance(limit, datetime):
                return limit + timedelta(microseconds=1), None
            return end_of(limit, zone), None
        case ask.InPeriod(period):
            first, last = bounds(period, today)
            return start_of(first, zone), end_of(last, zone)
        case ask.InNextDays(days):
            return start_of(today, zone), end_of(today + timedelta(days), zone)
        case ask.MoreThanDaysAgo(days):
            return None, start_of(today - timedelta(days), zone)
        case _:
            raise TypeError(f"{type(test).__name__} is no test of a date")


def _stored(at: datetime) -> str:
    """An instant in the form in which the dates of properties are compared."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat()


def _number_test(
    number: sa.ColumnElement[Any],
    test: ask.Greater | ask.AtLeast | ask.Less | ask.AtMost | ask.Between,
) -> Predicate:
    match test:
        case ask.Greater(value):
            return number > _exact(value)
        case ask.AtLeast(value):
            return number >= _exact(value)
        case ask.Less(value):
            return number < _exact(value)
        case ask.AtMost(value):
            return number <= _exact(value)
        case ask.Between(low, high):
            return sa.and_(number >= _exact(low), number <= _exact(high))


def _exact(value: int | float) -> Decimal:
    return Decimal(repr(value))


def _or_false(test: sa.ColumnElement[Any]) -> Predicate:
    return sa.func.coalesce(test, sa.false(), type_=sa.Boolean)


def _json(value: object) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(msgspec.json.encode(value).decode(), sa.Text), JSONB)


def _texts(values: Sequence[object]) -> sa.ColumnElement[Any]:
    return sa.literal(list(values), ARRAY(sa.Text))


def _equals(properties: sa.ColumnElement[Any], name: str, value: object) -> Predicate:
    return properties.op("@>", is_comparison=True)(_json({name: value}))


def _value_in(properties: sa.ColumnElement[Any], name: str, values: Sequence[object]) -> Predicate:
    known = sa.cast(_texts([msgspec.json.encode(one).decode() for one in values]), ARRAY(JSONB))
    return _or_false(_value(properties, name) == sa.any_(known))


def _value(properties: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    return properties.op("->", return_type=JSONB())(sa.literal(name, sa.Text))


def _is_set(properties: sa.ColumnElement[Any], name: str) -> Predicate:
    return _or_false(sa.func.jsonb_typeof(_value(properties, name)) != sa.literal("null", sa.Text))


def _contains(properties: sa.ColumnElement[Any], name: str, value: str) -> Predicate:
    text = sa.func.views.text_of(properties, name, type_=sa.Text)
    in_text = _or_false(sa.func.strpos(text, value) > 0)
    return sa.or_(in_text, _equals(properties, name, [value]))
