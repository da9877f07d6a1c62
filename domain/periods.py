"""Periods: windows of whole calendar days in the workspace's time zone, today included.

"Last 30 days" on 13 May is 14 April to 13 May. Weeks begin on Monday (ISO 8601).
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo
from typing import Annotated

import msgspec

MAX_DAYS = 36_525
"""A hundred years: no period is longer."""

Days = Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS, description="calendar days")]


class LastDays(msgspec.Struct, frozen=True, tag="last_days", tag_field="type"):
    """The last `days` days, today among them."""

    days: Days


class Today(msgspec.Struct, frozen=True, tag="today", tag_field="type"):
    """Today."""


class Yesterday(msgspec.Struct, frozen=True, tag="yesterday", tag_field="type"):
    """Yesterday."""


class ThisWeek(msgspec.Struct, frozen=True, tag="this_week", tag_field="type"):
    """From Monday to today."""


class LastWeek(msgspec.Struct, frozen=True, tag="last_week", tag_field="type"):
    """The whole week before this one."""


class ThisMonth(msgspec.Struct, frozen=True, tag="this_month", tag_field="type"):
    """From the first of the month to today."""


class LastMonth(msgspec.Struct, frozen=True, tag="last_month", tag_field="type"):
    """The whole month before this one."""


class ThisQuarter(msgspec.Struct, frozen=True, tag="this_quarter", tag_field="type"):
    """From the first day of the quarter to today."""


class LastQuarter(msgspec.Struct, frozen=True, tag="last_quarter", tag_field="type"):
    """The whole quarter before this one."""


class ThisYear(msgspec.Struct, frozen=True, tag="this_year", tag_field="type"):
    """From 1 January to today."""


class LastYear(msgspec.Struct, frozen=True, tag="last_year", tag_field="type"):
    """The whole year before this one."""


class Since(msgspec.Struct, frozen=True, tag="since", tag_field="type"):
    """From a day to today."""

    day: date


class Between(msgspec.Struct, frozen=True, tag="between", tag_field="type"):
    """From a day to another, both among them."""

    first: date
    last: date


Period = (
    LastDays
    | Today
    | Yesterday
    | ThisWeek
    | LastWeek
    | ThisMonth
    | LastMonth
    | ThisQuarter
    | LastQuarter
    | ThisYear
    | LastYear
    | Since
    | Between
)


def bounds(period: Period, today: date) -> tuple[date, date]:
    """The first and the last day of a period, both among them; empty where the first is later.

    Raises:
        OverflowError: a day before the year 1.
    """
    match period:
        case LastDays(days):
            return today - timedelta(days - 1), today
        case Today():
            return today, today
        case Yesterday():
            return today - timedelta(1), today - timedelta(1)
        case ThisWeek():
            return _week(today), today
        case LastWeek():
            return _week(today) - timedelta(7), _week(today) - timedelta(1)
        case ThisMonth():
            return today.replace(day=1), today
        case LastMonth():
            last = today.replace(day=1) - timedelta(1)
            return last.replace(day=1), last
        case ThisQuarter():
            return _quarter(today), today
        case LastQuarter():
            last = _quarter(today) - timedelta(1)
            return _quarter(last), last
        case ThisYear():
            return date(today.year, 1, 1), today
        case LastYear():
            return date(today.year - 1, 1, 1), date(today.year - 1, 12, 31)
        case Since(day):
            return day, today
        case Between(first, last):
            return first, last


def moves_with_time(period: Period) -> bool:
    """Whether the window is another one tomorrow."""
    return not isinstance(period, Between)


def _week(day: date) -> date:
    return day - timedelta(day.weekday())


def _quarter(day: date) -> date:
    return date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)


def day_of(at: datetime, zone: tzinfo) -> date:
    """The calendar day of an instant in a zone."""
    return at.astimezone(zone).date()


def start_of(day: date, zone: tzinfo) -> datetime:
    """The instant at which a calendar day begins in a zone."""
    return datetime.combine(day, time.min, zone)
