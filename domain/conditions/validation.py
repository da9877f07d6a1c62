"""Checks conditions. A refusal names the exact place and what would be accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Protocol, cast
from uuid import UUID

from domain import calendar
from domain.conditions.language import (
    After,
    AllOf,
    AtLeast,
    AtMost,
    Attribute,
    AttributeIs,
    Before,
    BelongsTo,
    Between,
    Condition,
    Contains,
    Did,
    Greater,
    HealthIs,
    In,
    InNextDays,
    InPeriod,
    InSegment,
    Is,
    IsNot,
    IsNotSet,
    IsSet,
    Less,
    MoreThanDaysAgo,
    Not,
    NotIn,
    OfAccounts,
    OfUsers,
    OneOf,
    PropertyIs,
    ScoreIs,
    SignalIs,
    StageIs,
    StartsWith,
    Test,
)
from domain.conditions.tree import parts, refuse_large
from domain.errors import InvalidInput, unknown
from domain.identity import SubjectKind, json_type
from domain.properties import PropertyType, checked_number, checked_text

_NUMBERS = (Greater, AtLeast, Less, AtMost, Between)
_DATES = (Before, After, InPeriod, InNextDays, MoreThanDaysAgo)
_EQUALITY = (Is, IsNot, In, NotIn)
_PRESENCE = (IsSet, IsNotSet)
_OPERATORS: dict[PropertyType, tuple[type, ...]] = {
    PropertyType.STRING: (*_EQUALITY, Contains, StartsWith, *_PRESENCE),
    PropertyType.NUMBER: (*_EQUALITY, *_NUMBERS, *_PRESENCE),
    PropertyType.BOOLEAN: (*_EQUALITY, *_PRESENCE),
    PropertyType.DATE: (*_DATES, *_PRESENCE),
    PropertyType.LIST: (Contains, *_PRESENCE),
}
# Tests of metadata are counted once, so their outcome must not change with time.
_OF_METADATA = (*_EQUALITY, Contains, StartsWith, *_NUMBERS, Before, After, *_PRESENCE)
_ATTRIBUTES: dict[Attribute, PropertyType] = {
    Attribute.NAME: PropertyType.STRING,
    Attribute.EXTERNAL_ID: PropertyType.STRING,
    Attribute.EMAIL: PropertyType.STRING,
    Attribute.DOMAIN: PropertyType.STRING,
    Attribute.FIRST_SEEN: PropertyType.DATE,
    Attribute.LAST_SEEN: PropertyType.DATE,
    Attribute.REGISTERED_AT: PropertyType.DATE,
}
_NOT_OF = {SubjectKind.USER: Attribute.DOMAIN, SubjectKind.ACCOUNT: Attribute.EMAIL}
_CATALOGUED = ("event", "screen")


class Vocabulary(Protocol):
    """The names that conditions can test."""

    def properties(self, kind: SubjectKind) -> Mapping[str, PropertyType]: ...
    def activities(self, activity: str) -> Collection[str]:
        """The names of events or screens, which are a closed catalogue. Pages, channels and
        campaigns have none: a condition may test any of these."""
        ...

    def segments(self) -> Mapping[UUID, SubjectKind]: ...
    def stages(self, kind: SubjectKind) -> Collection[str]: ...
    def scores(self, kind: SubjectKind) -> Collection[str]: ...
    def signals(self, kind: SubjectKind) -> Collection[str]: ...


def check(
    condition: Condition, kind: SubjectKind, vocabulary: Vocabulary, pointer: str = ""
) -> None:
    """Checks that a condition can be asked about users or about accounts.

    Raises:
        InvalidInput: it cannot, with a pointer to the part that is wrong.
    """
    refuse_large(condition, pointer)
    _Check(vocabulary).condition(condition, kind, pointer)


class _Check:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._known = vocabulary

    def condition(self, condition: Condition, kind: SubjectKind, pointer: str) -> None:
        known = self._known
        match condition:
            case PropertyIs(name, test):
                types = known.properties(kind)
                if name not in types:
                    raise _unknown(f"property of {kind}s", name, types, f"{pointer}/name")
                _fits(test, types[name], f"the property {name}", f"{pointer}/test")
            case AttributeIs(attribute, test):
                if attribute is _NOT_OF[kind]:
                    raise InvalidInput(f"{kind}s have no {attribute}", pointer=f"{pointer}/name")
                _fits(test, _ATTRIBUTES[attribute], attribute.value, f"{pointer}/test")
            case Did():
                self._did(condition, pointer)
            case StageIs(stages):
                names = known.stages(kind)
                for n, stage in enumerate(stages):
                    if stage is not None and stage not in names:
                        raise _unknown(f"stage of {kind}s", stage, names, f"{pointer}/stages/{n}")
            case ScoreIs(score, test):
                if score not in known.scores(kind):
                    raise _unknown(
                        f"score of {kind}s", score, known.scores(kind), f"{pointer}/score"
                    )
                _fits(test, PropertyType.NUMBER, f"the score {score}", f"{pointer}/test")
            case SignalIs(signal):
                if signal not in known.signals(kind):
                    names = known.signals(kind)
                    raise _unknown(f"signal of {kind}s", signal, names, f"{pointer}/signal")
            case InSegment(segment):
                _check_segment(known.segments().get(segment), kind, f"{pointer}/segment")
            case BelongsTo():
                if condition.role is not None:
                    _text(condition.role, f"{pointer}/role")
            case OfAccounts(_, where):
                if kind is SubjectKind.ACCOUNT:
                    raise _wrong_kind("accounts", kind, pointer)
                self.condition(where, SubjectKind.ACCOUNT, f"{pointer}/where")
            case OfUsers(_, where):
                if kind is SubjectKind.USER:
                    raise _wrong_kind("users", kind, pointer)
                self.condition(where, SubjectKind.USER, f"{pointer}/where")
            case AllOf() | OneOf() | Not():
                for part, step in parts(condition):
                    self.condition(part, kind, f"{pointer}{step}")
            case HealthIs():
                pass

    def _did(self, condition: Did, pointer: str) -> None:
        name = condition.name
        _text(name, f"{pointer}/name")
        if condition.activity in _CATALOGUED:
            names = self._known.activities(condition.activity)
            if name not in names:
                raise _unknown(condition.activity, name, names, f"{pointer}/name")
        if condition.period is not None:
            _period(condition.period, f"{pointer}/period")
        for n, part in enumerate(condition.where):
            here = f"{pointer}/where/{n}"
            _text(part.name, f"{here}/name")
            if not isinstance(part.test, _OF_METADATA):
                raise _wrong_operator(part.test, "metadata", _OF_METADATA, f"{here}/test/op")
            _values(part.test, None, f"{here}/test")


def _unknown(what: str, name: str, known: Collection[str], pointer: str) -> InvalidInput:
    return InvalidInput(unknown(what, name, known), pointer=pointer)


def _wrong_kind(type: str, kind: SubjectKind, pointer: str) -> InvalidInput:
    other = SubjectKind.ACCOUNT if kind is SubjectKind.USER else SubjectKind.USER
    return InvalidInput(
        f"`{type}` asks about the {type} of {other}s, and this is a question about {kind}s",
        pointer=f"{pointer}/type",
    )


def _check_segment(actual: SubjectKind | None, kind: SubjectKind, pointer: str) -> None:
    if actual is None:
        raise InvalidInput("there is no such segment; it may have been deleted", pointer=pointer)
    if actual is not kind:
        raise InvalidInput(f"this is a segment of {actual}s, not of {kind}s", pointer=pointer)


def fits(test: Test, type: PropertyType) -> bool:
    """Whether a test accepts values of a type."""
    try:
        _fits(test, type, "", "")
    except InvalidInput:
        return False
    return True


def _fits(test: Test, type: PropertyType, what: str, pointer: str) -> None:
    allowed = _OPERATORS[type]
    if not isinstance(test, allowed):
        raise _wrong_operator(test, f"{what} ({type.with_article})", allowed, f"{pointer}/op")
    _values(test, type, pointer)


def _wrong_operator(test: Test, what: str, allowed: tuple[type, ...], pointer: str) -> InvalidInput:
    names = ", ".join(str(cast(Any, test_type).__struct_config__.tag) for test_type in allowed)
    return InvalidInput(
        f"{test.__struct_config__.tag} does not fit {what}; what fits is {names}", pointer=pointer
    )


_PYTHON_TYPES: dict[PropertyType, tuple[type, ...]] = {
    PropertyType.STRING: (str,),
    PropertyType.BOOLEAN: (bool,),
    PropertyType.NUMBER: (int, float),
}


def _values(test: Test, type: PropertyType | None, pointer: str) -> None:
    """Checks the values of a test against the type of its property; None: of any type."""
    match test:
        case Is(value) | IsNot(value):
            _value(value, type, f"{pointer}/value")
        case In(values) | NotIn(values):
            for n, value in enumerate(values):
                _value(value, type, f"{pointer}/values/{n}")
        case Contains(value) | StartsWith(value):
            _text(value, f"{pointer}/value")
        case Greater(number) | AtLeast(number) | Less(number) | AtMost(number):
            _number(number, f"{pointer}/value")
        case Between(low, high):
            _number(low, f"{pointer}/low")
            _number(high, f"{pointer}/high")
            if low > high:
                raise InvalidInput(
                    f"{high} is less than {low}: nothing lies between them; swap them",
                    pointer=f"{pointer}/high",
                )
        case Before(at) | After(at):
            try:
                calendar.boundary(at)
            except ValueError as reason:
                raise InvalidInput(str(reason), pointer=f"{pointer}/at") from None
        case InPeriod(period):
            _period(period, f"{pointer}/period")


def _value(value: str | int | float | bool, type: PropertyType | None, pointer: str) -> None:
    if type is not None:
        has_type = isinstance(value, _PYTHON_TYPES[type])
        if not has_type or (isinstance(value, bool) and type is not PropertyType.BOOLEAN):
            raise InvalidInput(
                f"expected {type.with_article}, got {json_type(value)}", pointer=pointer
            )
    if isinstance(value, str):
        _text(value, pointer)
    else:
        _number(value, pointer)


def _text(text: str, pointer: str) -> None:
    try:
        checked_text(text)
    except ValueError as reason:
        raise InvalidInput(str(reason), pointer=pointer) from None


def _number(number: int | float, pointer: str) -> None:
    try:
        checked_number(number)
    except ValueError as reason:
        raise InvalidInput(str(reason), pointer=pointer) from None


def _period(period: calendar.Period, pointer: str) -> None:
    match period:
        case calendar.Since(day):
            _day(day, f"{pointer}/day")
        case calendar.Between(first, last):
            _day(first, f"{pointer}/first")
            _day(last, f"{pointer}/last")
            if first > last:
                raise InvalidInput(
                    f"the period ends on {last}, before it begins on {first}; swap them",
                    pointer=f"{pointer}/last",
                )


def _day(day: date, pointer: str) -> None:
    if not calendar.FIRST_DAY <= day <= calendar.LAST_DAY:
        raise InvalidInput("the day lies outside the years 2 to 9998", pointer=pointer)
