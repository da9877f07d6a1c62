"""Whether a condition can be asked: every refusal names the exact place, and what would do.

What was sent is decoded here too, for its depth and size have to be seen before anything walks it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import Any, Protocol, cast, get_args
from uuid import UUID

import msgspec

from domain import calendar
from domain.conditions.language import (
    MAX_DEPTH,
    MAX_NODES,
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
    Count,
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
    Quantifier,
    ScoreIs,
    SignalIs,
    StageIs,
    StartsWith,
    Test,
)
from domain.errors import InvalidInput
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
# What is counted once has to count the same tomorrow.
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

# A condition is two levels of JSON, and the last one's tests and periods two more.
_MAX_JSON_DEPTH = 2 * MAX_DEPTH + 4

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]')
_PLACE = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNKNOWN_TAG = re.compile(r"Invalid (?:enum )?value '(.*)'$", re.DOTALL)

_decoder: msgspec.json.Decoder[Condition] = msgspec.json.Decoder(Condition)


class Vocabulary(Protocol):
    """What names there are to ask about."""

    def properties(self, kind: SubjectKind) -> Mapping[str, PropertyType]: ...
    def activities(self, activity: str) -> Collection[str]:
        """The names of an `event` or a `screen`, which are a closed catalogue; those of pages,
        channels and campaigns come and go, and any of them can be asked about."""
        ...

    def segments(self) -> Mapping[UUID, SubjectKind]: ...
    def stages(self, kind: SubjectKind) -> Collection[str]: ...
    def scores(self, kind: SubjectKind) -> Collection[str]: ...
    def signals(self, kind: SubjectKind) -> Collection[str]: ...


def decoded(raw: bytes, pointer: str = "") -> Condition:
    """A condition from JSON.

    Args:
        pointer: JSON pointer to where the condition stands in what was sent.

    Raises:
        InvalidInput: it is no condition, nested too deeply or too large; says where.
    """
    _refuse_deep_json(raw, pointer)
    try:
        condition = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), pointer) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the condition is no JSON: {error}", pointer=pointer) from None
    _refuse_large(condition, pointer)
    return condition


def _refuse_deep_json(raw: bytes, pointer: str) -> None:
    steps: list[str | int] = []
    is_key = False
    for match in _TOKEN.finditer(raw):
        token = match.group()
        if token in (b"{", b"["):
            if len(steps) == _MAX_JSON_DEPTH:
                raise _too_deep(pointer + "".join(f"/{step}" for step in steps))
            steps.append("" if token == b"{" else 0)
            is_key = token == b"{"
        elif token in (b"}", b"]"):
            if steps:
                steps.pop()
            is_key = False
        elif token == b"," and steps:
            last = steps[-1]
            if isinstance(last, int):
                steps[-1] = last + 1
            is_key = not isinstance(last, int)
        elif token == b":":
            is_key = False
        elif is_key and steps:
            steps[-1] = _escaped(token[1:-1].decode(errors="replace"))


def _too_deep(pointer: str) -> InvalidInput:
    return InvalidInput(
        f"the condition is nested deeper than {MAX_DEPTH} levels; flatten it, or make a segment of"
        " a part and ask for that",
        pointer=pointer,
    )


def _refuse_large(condition: Condition, pointer: str) -> None:
    """Counts and measures without recursion: conditions are made in Python too."""
    found = [(condition, pointer, 1)]
    count = 0
    while found:
        one, here, depth = found.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise _too_deep(here)
        if count > MAX_NODES:
            raise InvalidInput(
                f"the condition has more than {MAX_NODES} parts; use `in` for lists of values, or"
                " make segments of its parts and ask for those",
                pointer=here,
            )
        found += reversed([(part, f"{here}{step}", depth + 1) for part, step in parts(one)])


def parts(condition: Condition) -> Iterator[tuple[Condition, str]]:
    """The conditions right inside another one, each with its place there."""
    match condition:
        case AllOf(of) | OneOf(of):
            yield from ((one, f"/of/{n}") for n, one in enumerate(of))
        case Not(of):
            yield of, "/of"
        case OfAccounts(_, where) | OfUsers(_, where):
            yield where, "/where"


def _refusal(message: str, pointer: str) -> InvalidInput:
    """What msgspec says, with its path as a JSON pointer and the tags that there are."""
    match = _PLACE.match(message)
    assert match is not None
    detail, path = match.group(1).replace("`", ""), match.group(2) or ""
    steps = [name or index for name, index in _STEP.findall(path)]
    pointer += "".join(f"/{_escaped(step)}" for step in steps)
    tag = _UNKNOWN_TAG.match(detail)
    if tag is not None and steps:
        known = _known_tags(steps)
        if known:
            return InvalidInput(unknown(f"{steps[-1]}", tag.group(1), known), pointer=pointer)
    return InvalidInput(f"{detail[:1].lower()}{detail[1:]}", pointer=pointer)


def _known_tags(steps: list[str]) -> list[str]:
    parent = steps[-2] if len(steps) > 1 else ""
    match parent, steps[-1]:
        case "test", "op":
            return _tags(Test)
        case "count", "op":
            return _tags(Count)
        case "quantifier", "op":
            return _tags(Quantifier)
        case "period", "type":
            return _tags(calendar.Period)
        case _, "type":
            return _tags(Condition)
        case _, "activity":
            return ["event", "page", "screen", "channel", "campaign"]
        case _, "name":
            return [one.value for one in Attribute]
        case _:
            return []


def _tags(union: object) -> list[str]:
    return [tag for one in get_args(union) if isinstance(tag := one.__struct_config__.tag, str)]


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """That a name is unknown, and which known ones are near; all, where there are few."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    shown = near or (sorted(known) if len(known) <= 20 else [])
    hint = f"; there {'is' if len(shown) == 1 else 'are'} {', '.join(shown)}" if shown else ""
    if near:
        hint = f"; did you mean {' or '.join(near)}?"
    return f"unknown {what} {name[:128]!r}{hint}"


def check(
    condition: Condition, kind: SubjectKind, vocabulary: Vocabulary, pointer: str = ""
) -> None:
    """Sees to it that a condition can be asked about users or about accounts.

    Raises:
        InvalidInput: it cannot; names the place and what would do.
    """
    _refuse_large(condition, pointer)
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
                    raise _none(f"property of {kind}s", name, types, f"{pointer}/name")
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
                        raise _none(f"stage of {kind}s", stage, names, f"{pointer}/stages/{n}")
            case ScoreIs(score, test):
                if score not in known.scores(kind):
                    raise _none(f"score of {kind}s", score, known.scores(kind), f"{pointer}/score")
                _fits(test, PropertyType.NUMBER, f"the score {score}", f"{pointer}/test")
            case SignalIs(signal):
                if signal not in known.signals(kind):
                    names = known.signals(kind)
                    raise _none(f"signal of {kind}s", signal, names, f"{pointer}/signal")
            case InSegment(segment):
                _of_kind(known.segments().get(segment), kind, f"{pointer}/segment")
            case BelongsTo():
                if condition.role is not None:
                    _text(condition.role, f"{pointer}/role")
            case OfAccounts(_, where):
                if kind is SubjectKind.ACCOUNT:
                    raise _wrong_kind("accounts", "users", "users", pointer)
                self.condition(where, SubjectKind.ACCOUNT, f"{pointer}/where")
            case OfUsers(_, where):
                if kind is SubjectKind.USER:
                    raise _wrong_kind("users", "accounts", "accounts", pointer)
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
                raise _none(condition.activity, name, names, f"{pointer}/name")
        if condition.period is not None:
            _period(condition.period, f"{pointer}/period")
        for n, one in enumerate(condition.where):
            here = f"{pointer}/where/{n}"
            _text(one.name, f"{here}/name")
            if not isinstance(one.test, _OF_METADATA):
                raise _wrong_operator(one.test, "metadata", _OF_METADATA, f"{here}/test/op")
            _values(one.test, None, f"{here}/test")


def _none(what: str, name: str, known: Collection[str], pointer: str) -> InvalidInput:
    return InvalidInput(unknown(what, name, known), pointer=pointer)


def _wrong_kind(asked: str, of: str, here: str, pointer: str) -> InvalidInput:
    there = "accounts" if here == "users" else "users"
    return InvalidInput(
        f"`{asked}` asks about the {asked} of {of}, and this is a question about {there}",
        pointer=f"{pointer}/type",
    )


def _of_kind(found: SubjectKind | None, kind: SubjectKind, pointer: str) -> None:
    if found is None:
        raise InvalidInput("there is no such segment; it may have been deleted", pointer=pointer)
    if found is not kind:
        raise InvalidInput(f"this is a segment of {found}s, not of {kind}s", pointer=pointer)


def fits(test: Test, type: PropertyType) -> bool:
    """Whether a property of a type can be tested so."""
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
    names = ", ".join(str(cast(Any, one).__struct_config__.tag) for one in allowed)
    return InvalidInput(
        f"{test.__struct_config__.tag} does not fit {what}; what fits is {names}", pointer=pointer
    )


_PYTHON_TYPES: dict[PropertyType, tuple[type, ...]] = {
    PropertyType.STRING: (str,),
    PropertyType.BOOLEAN: (bool,),
    PropertyType.NUMBER: (int, float),
}


def _values(test: Test, type: PropertyType | None, pointer: str) -> None:
    """The values of a test, which are of a property's type (metadata: of any)."""
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
        fits = isinstance(value, _PYTHON_TYPES[type])
        if not fits or (isinstance(value, bool) and type is not PropertyType.BOOLEAN):
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
