"""Typed property values: which are accepted, which are refused singly and why, how a write
merges."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from domain.identity import MAX_EXACT, json_type
from domain.texts import character_problem, nfc, trimmed
from domain.tokens import MIN_CHARS, looks_like_token

Value = str | int | float | bool | datetime | list[str]
"""A property value. A date is an instant, aware and in UTC, or a calendar day, which is the text
`2026-05-13`: the type of its property tells it from a text. MRR and the like are numbers."""

Values = dict[str, Any]
"""Property values by name, in events and states: each is a `Value`, which msgspec cannot say itself
(texts and instants are both text to it) though its MessagePack keeps them apart."""

MAX_NAME_CHARS = 128
MAX_TEXT_CHARS = 8_192
MAX_LIST_ITEMS = 256
MAX_NUMBER = 2**63 - 1

RETIRED = "an admin retired this name; stop sending it, or have it restored in the catalogue"

_DATE = re.compile(
    r"\d{4}-\d\d-\d\d"
    r"([T ]\d\d:\d\d(:\d\d([.,]\d{1,12})?)?(Z|[+-]\d\d(:?\d\d(:?\d\d)?)?)?)?\Z",
    re.ASCII,
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,400})?")
_WORDS = re.compile(r"[A-Za-z]+(?:[ _-][A-Za-z]+)*")
_EMAIL = re.compile(r"\S+@\S+\.\S+")


class PropertyType(enum.StrEnum):
    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    LIST = "list"

    @property
    def with_article(self) -> str:
        return "a list of strings" if self is PropertyType.LIST else f"a {self.value}"


class RefusedValue(msgspec.Struct, frozen=True):
    """A single value that was left out of a write that otherwise went ahead."""

    name: str
    reason: str


class PropertyWrite(msgspec.Struct, frozen=True):
    """A write after its checks: what to set, which keys to delete, what was refused."""

    values: dict[str, Value]
    deleted: tuple[str, ...]
    refused: tuple[RefusedValue, ...]


def name_problem(name: str) -> str | None:
    """Why a property or event name cannot be taken, or None.

    Names are a closed catalogue in clear, so whatever looks like personal data is kept out.
    """
    if len(name) < MIN_CHARS and _WORDS.fullmatch(name):
        return None  # nearly always
    if not name or name != trimmed(name):
        return "the name is empty, or begins or ends with a space"
    if len(name) > MAX_NAME_CHARS:
        return f"the name has {len(name)} characters, at most {MAX_NAME_CHARS} are accepted"
    problem = character_problem(name)
    if problem is not None:
        return f"the name {problem}; send it without"
    if "@" in name and _EMAIL.search(name):
        return "the name looks like an e-mail address; send that as a value"
    if looks_like_token(name):
        return "the name looks like a token or an id; send that as a value"
    return None


def shown_name(name: str) -> str:
    """A name as an answer can carry it: not too long, and with no half of a surrogate pair."""
    return name[:MAX_NAME_CHARS].encode(errors="replace").decode()


def inferred_type(value: object) -> PropertyType | None:
    """The type that a first value gives to its property; None when no type fits it."""
    if isinstance(value, bool):
        return PropertyType.BOOLEAN
    if isinstance(value, int | float):
        return PropertyType.NUMBER
    if isinstance(value, str):
        return PropertyType.DATE if _is_date(value) else PropertyType.STRING
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return PropertyType.LIST
    return None


def _is_date(text: str) -> bool:
    """Whether a text is, from its beginning to its end, a date that there is."""
    if not _DATE.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def parse_instant(text: str) -> datetime:
    """Reads an ISO 8601 date (midnight UTC) or a date-time with a zone, as UTC.

    Raises:
        ValueError: with a reason fit for the sender.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a date (ISO 8601), got {_shown(text)}") from None
    if instant.tzinfo is None:
        if len(text) > 10:
            raise ValueError("the time has no zone; end it with Z or an offset like +02:00")
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("the date lies outside the years 1 to 9999") from None


def parse_date(text: str) -> str | datetime:
    """Reads a date: an ISO 8601 calendar day, which stays a day (`2026-05-13`), or a date-time with
    a zone, as UTC.

    Raises:
        ValueError: with a reason fit for the sender.
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return parse_instant(text)


def day_in(value: object) -> date | None:
    """The calendar day that a value of a date property is; None: it is an instant, or no date."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _shown(text: str) -> str:
    return "an impossible one" if _DATE.match(text) else "another text"


def checked_value(value: object, expected: PropertyType) -> Value:
    """Takes `value` as `expected`.

    Raises:
        ValueError: with a reason fit for the sender ("expected a date, got a boolean").
    """
    actual = inferred_type(value)
    if expected is PropertyType.STRING and actual is PropertyType.DATE:
        actual = PropertyType.STRING
    if expected is PropertyType.DATE and isinstance(value, str) and _DATE.match(value):
        actual = PropertyType.DATE  # an impossible one is refused as such
    if actual is None:
        raise ValueError(f"expected {expected.with_article}, got {json_type(value)}")
    if actual is not expected:
        raise ValueError(f"expected {expected.with_article}, got {json_type(value)}")
    if isinstance(value, str):
        text = checked_text(value)
        return parse_date(text) if expected is PropertyType.DATE else text
    if isinstance(value, list):
        if len(value) > MAX_LIST_ITEMS:
            raise ValueError(f"the list has {len(value)} items, at most {MAX_LIST_ITEMS}")
        return [checked_text(item) for item in value]
    assert isinstance(value, int | float | bool)
    return checked_number(value)


def converted(value: Value, to: PropertyType) -> Value | None:
    """Converts a value to another type without loss: between texts and numbers, dates, `true` or
    `false`; between booleans and 1 or 0; between a text and the list of it. None: it does not fit.

    A date, be it a day or an instant, and its text have the same result, and so have numbers with
    the same decimals: read models hold values as JSON only."""
    if isinstance(value, datetime):
        value = str(msgspec.to_builtins(value))
    if isinstance(value, list):
        if to is PropertyType.LIST:
            return value
        return converted(value[0], to) if len(value) == 1 else None
    match to:
        case PropertyType.STRING:
            return _as_text(value)
        case PropertyType.NUMBER:
            return _as_number(value)
        case PropertyType.BOOLEAN:
            if isinstance(value, str):
                return {"true": True, "false": False}.get(value.casefold())
            return bool(value) if value in (0, 1) else None
        case PropertyType.DATE:
            return _as_date(value)
        case PropertyType.LIST:
            return [_as_text(value)]


def _as_text(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"{Decimal(repr(value)):f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _as_number(value: str | int | float | bool) -> int | float | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return normal_number(value)
    if not _NUMBER.fullmatch(value):
        return None
    exact = Decimal(value)
    number = int(exact) if exact == exact.to_integral_value() else float(exact)
    try:
        checked_number(number)
    except ValueError:
        return None
    return number if Decimal(repr(number)) == exact else None


def _as_date(value: object) -> str | datetime | None:
    if not isinstance(value, str) or not _DATE.match(value):
        return None
    try:
        return parse_date(value)
    except ValueError:
        return None


def checked_number(number: int | float) -> int | float:
    """A number that every store and reader can hold.

    Raises:
        ValueError: beyond 64 bits, infinite, or not a number at all.
    """
    if not -MAX_NUMBER <= number <= MAX_NUMBER:  # not-a-number compares to nothing
        raise ValueError("the number is not finite or does not fit 64 bits; send it as a string")
    return normal_number(number)


def normal_number(number: int | float) -> int | float:
    """A number in its one form: `3.0` is `3`. A float that may stand for other whole numbers too
    stays as it is."""
    if isinstance(number, float) and -MAX_EXACT <= number <= MAX_EXACT and number.is_integer():
        return int(number)
    return number


def checked_text(text: str) -> str:
    """A text that every store and screen can hold, in NFC.

    Raises:
        ValueError: too long, or with a NUL character or a lone surrogate.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise ValueError(f"the text has {len(text)} characters, at most {MAX_TEXT_CHARS}")
    if "\0" in text:
        raise ValueError("the text holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the text holds half a surrogate pair") from None
        return nfc(text)
    return text


def checked_write(
    sent: Mapping[str, object],
    types: Mapping[str, PropertyType],
    retired: Collection[str] = (),
) -> PropertyWrite:
    """Checks each value of a write alone: fitting values are kept, `null` deletes, the rest is
    refused.

    Args:
        sent: property values as they came.
        types: the fixed type of each property named in `sent` that has one.
        retired: names under which no value is taken; `null` still deletes an existing value.
    """
    values: dict[str, Value] = {}
    deleted: list[str] = []
    refused: list[RefusedValue] = []
    for name, value in sent.items():
        problem = None if name in types else name_problem(name)
        if problem is not None:
            refused.append(RefusedValue(shown_name(name), problem))
        elif value is None:
            deleted.append(name)
        elif name in retired:
            refused.append(RefusedValue(name, RETIRED))
        else:
            try:
                values[name] = _typed(value, types.get(name))
            except ValueError as reason:
                refused.append(RefusedValue(name, str(reason)))
    return PropertyWrite(values, tuple(deleted), tuple(refused))


def _typed(value: object, fixed: PropertyType | None) -> Value:
    if fixed is not None:
        return checked_value(value, fixed)
    kind = inferred_type(value)
    if kind is None:
        raise ValueError(f"{json_type(value)} is not a property value")
    checked_value(value, kind)
    raise ValueError("there are too many property names already, and this one is new")


def is_acceptable(value: object) -> bool:
    """Whether a first value may fix the type of its property."""
    kind = inferred_type(value)
    try:
        return kind is not None and checked_value(value, kind) is not None
    except ValueError:
        return False


class Merged(NamedTuple):
    """What a write does to properties.

    Attributes:
        values: new values.
        deleted: properties that lose their value.
        before: the values of all these until now.
        confirmed: properties whose value, or lack of one, stays and is now known for a later time.
        late_values, late_deleted: what another value, sent for a later time, has replaced already.
    """

    values: dict[str, Value]
    deleted: list[str]
    before: dict[str, Value]
    confirmed: list[str]
    late_values: dict[str, Value]
    late_deleted: list[str]


MAX_DATED_NAMES = 2_000
"""Properties of a subject without a value whose time is kept, at most."""


def merged(
    current: Mapping[str, Value],
    said_at: Mapping[str, datetime],
    write: PropertyWrite,
    at: datetime,
) -> Merged:
    """Merges a write for a time. Of two values of a property, that of the later time holds, in
    whichever order they arrive; of the same time, the one that arrives last.

    Args:
        said_at: the latest time for which the value of a property was sent, or its deletion.
    """
    result = Merged({}, [], {}, [], {}, [])
    for name, value in write.values.items():
        since = said_at.get(name)
        differs = name not in current or not _same(current[name], value)
        if since is not None and at < since:
            if differs:
                result.late_values[name] = value
        elif differs:
            result.values[name] = value
        elif since is None or at > since:
            result.confirmed.append(name)
    for name in write.deleted:
        since = said_at.get(name)
        if since is not None and at < since:
            if name in current:
                result.late_deleted.append(name)
        elif name in current:
            result.deleted.append(name)
        elif at > since if since is not None else len(said_at) < MAX_DATED_NAMES:
            result.confirmed.append(name)
    result.before.update(
        {name: current[name] for name in (*result.values, *result.deleted) if name in current}
    )
    return result


def _same(value: Value, other: Value) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, int | float) and isinstance(other, int | float):
        return value == other
    return type(value) is type(other) and value == other
