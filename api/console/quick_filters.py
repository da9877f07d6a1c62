"""Quick filters of a list, as conditions of the API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from domain.calendar import FIRST_DAY, LAST_DAY

Json = Any


def value_is_one_of(name: str, type: str | None, values: Sequence[str]) -> Json:
    """The condition that a property has one of the picked values."""
    if type == "list":
        conditions = [_property_is(name, {"op": "contains", "value": value}) for value in values]
        return conditions[0] if len(conditions) == 1 else {"type": "any", "of": conditions}
    typed: list[Json] = [value == "true" for value in values] if type == "boolean" else [*values]
    if len(typed) == 1:
        return _property_is(name, {"op": "is", "value": typed[0]})
    return _property_is(name, {"op": "in", "values": typed})


def value_is_between(name: str, type: str | None, low: str | None, high: str | None) -> list[Json]:
    """The conditions that a number or a date lies within bounds; None: no bound."""
    if type == "date":
        if low and high:
            return [_property_is(name, {"op": "in_period", "period": _days(low, high)})]
        if low:
            return [_property_is(name, {"op": "after", "at": _day_before(low)})]
        return [_property_is(name, {"op": "before", "at": _day_after(high or "")})]
    conditions = []
    if low:
        conditions.append(_property_is(name, {"op": "at_least", "value": _number(low)}))
    if high:
        conditions.append(_property_is(name, {"op": "at_most", "value": _number(high)}))
    return conditions


def _days(first: str, last: str) -> Json:
    return {"type": "between", "first": first, "last": last}


def _day_before(day: str) -> str:
    return _shifted(day, -1)


def _day_after(day: str) -> str:
    return _shifted(day, 1)


def _shifted(day: str, days: int) -> str:
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        return day
    return (parsed + timedelta(days)).isoformat() if FIRST_DAY < parsed < LAST_DAY else day


def _number(text: str) -> Json:
    try:
        number = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return number if isinstance(number, int | float) else text


def _property_is(name: str, test: Json) -> Json:
    return {"type": "property", "name": name, "test": test}
