"""A condition in words, as the console and explanations show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from domain import calendar
from domain.conditions import language as ask

MAX_SHOWN = 5
"""Values of a list that are named; the others are counted."""


def in_words(condition: ask.Condition, segments: Mapping[UUID, str] | None = None) -> str:
    """Like “plan is pro and (not in segment Churned)”.

    Args:
        segments: the names of segments by id; a segment without a name is shown by its id.
    """
    known = segments or {}
    match condition:
        case ask.AllOf(of):
            return _several([in_words(part, known) for part in of], "and", "everybody")
        case ask.OneOf(of):
            return _several([in_words(part, known) for part in of], "or", "nobody")
        case ask.Not(of):
            return f"not ({in_words(of, known)})"
        case ask.PropertyIs(name, test):
            return f"{name} {_test(test)}"
        case ask.AttributeIs(name, test):
            return f"{name.value.replace('_', ' ')} {_test(test)}"
        case ask.Did():
            return _did(condition)
        case ask.StageIs(stages):
            return f"stage is {_any('no stage' if stage is None else stage for stage in stages)}"
        case ask.HealthIs(health):
            return f"health is {_any(value.value for value in health)}"
        case ask.ScoreIs(score, test):
            return f"score {score} {_test(test)}"
        case ask.SignalIs(signal, on):
            return f"signal {signal} is {'on' if on else 'off'}"
        case ask.InSegment(segment):
            return f"in segment {known.get(segment, str(segment))}"
        case ask.BelongsTo():
            return _belongs(condition)
        case ask.OfAccounts(quantifier, where):
            return f"{_quantifier(quantifier, 'account')}: {in_words(where, known)}"
        case ask.OfUsers(quantifier, where):
            return f"{_quantifier(quantifier, 'user')}: {in_words(where, known)}"


def _several(parts: list[str], link: str, none: str) -> str:
    if not parts:
        return none
    if len(parts) == 1:
        return parts[0]
    return f" {link} ".join(
        f"({part})" if " and " in part or " or " in part else part for part in parts
    )


def _any(names: Iterable[str]) -> str:
    shown = [*names]
    if len(shown) > MAX_SHOWN:
        shown = [*shown[:MAX_SHOWN], f"{len(shown) - MAX_SHOWN} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "empty" if value == "" else str(value)


def _test(test: ask.Test) -> str:
    match test:
        case ask.Is(value):
            return f"is {_value(value)}"
        case ask.IsNot(value):
            return f"is not {_value(value)}"
        case ask.In(values):
            return f"is {_any(_value(value) for value in values)}"
        case ask.NotIn(values):
            return f"is not {_any(_value(value) for value in values)}"
        case ask.Contains(value):
            return f"contains {value}"
        case ask.StartsWith(value):
            return f"starts with {value}"
        case ask.Greater(value):
            return f"is greater than {value}"
        case ask.AtLeast(value):
            return f"is at least {value}"
        case ask.Less(value):
            return f"is less than {value}"
        case ask.AtMost(value):
            return f"is at most {value}"
        case ask.Between(low, high):
            return f"is from {low} to {high}"
        case ask.Before(at):
            return f"is before {at}"
        case ask.After(at):
            return f"is after {at}"
        case ask.InPeriod(period):
            return f"is {_period(period)}"
        case ask.InNextDays(days):
            return f"is today or in the next {_plural(days, 'day')}"
        case ask.MoreThanDaysAgo(days):
            return f"is more than {_plural(days, 'day')} ago"
        case ask.IsSet():
            return "is set"
        case ask.IsNotSet():
            return "is not set"


def _did(condition: ask.Did) -> str:
    what = f"{condition.activity} {condition.name}"
    if condition.where:
        what += (
            f" with {' and '.join(f'{part.name} {_test(part.test)}' for part in condition.where)}"
        )
    match condition.count:
        case ask.Occurred():
            text = f"{what} occurred"
        case ask.DidNotOccur():
            text = f"{what} did not occur"
        case ask.AtLeastTimes(times):
            text = f"{what} occurred at least {_plural(times, 'time')}"
        case ask.AtMostTimes(times):
            text = f"{what} occurred at most {_plural(times, 'time')}"
        case ask.ExactlyTimes(times):
            text = f"{what} occurred exactly {_plural(times, 'time')}"
    return text if condition.period is None else f"{text} {_period(condition.period)}"


_NAMED: dict[type, str] = {
    calendar.Today: "today",
    calendar.Yesterday: "yesterday",
    calendar.ThisWeek: "this week",
    calendar.LastWeek: "last week",
    calendar.ThisMonth: "this month",
    calendar.LastMonth: "last month",
    calendar.ThisQuarter: "this quarter",
    calendar.LastQuarter: "last quarter",
    calendar.ThisYear: "this year",
    calendar.LastYear: "last year",
}


def _period(period: calendar.Period) -> str:
    match period:
        case calendar.LastDays(days):
            return f"in the last {_plural(days, 'day')}"
        case calendar.Since(day):
            return f"since {day}"
        case calendar.Between(first, last):
            return f"from {first} to {last}"
        case _:
            return _NAMED[type(period)]


def _belongs(condition: ask.BelongsTo) -> str:
    verb = "belonged once" if condition.ended else "belongs"
    whom = "any" if condition.other is None else str(condition.other)
    return f"{verb} to {whom}" + (f" as {condition.role}" if condition.role is not None else "")


def _quantifier(quantifier: ask.Quantifier, other: str) -> str:
    match quantifier:
        case ask.AnyOf():
            return f"any {other}"
        case ask.EveryOf():
            return f"every {other}"
        case ask.AtLeastOf(count):
            return f"at least {_plural(count, other)}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
