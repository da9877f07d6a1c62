"""Periods: windows of whole calendar days in the workspace's time zone, today included.

"Last 30 days" on 13 May is 14 April to 13 May. Weeks begin on Monday (ISO 8601).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated

import msgspec

FIRST_DAY, LAST_DAY = date(2, 1, 1), date(9998, 12, 31)
"""Days between these are days in every time zone."""

MAX_DAYS = 36_525
"""A hundred years: no period is longer."""

Days = Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS, description="calendar days")]


class _Period(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    """A window of calendar days."""


class LastDays(_Period, frozen=True, tag="last_days"):
    """The last `days` days, including today."""

    days: Days


class Today(_Period, frozen=True, tag="today"):
    """Today."""


class Yesterday(_Period, frozen=True, tag="yesterday"):
    """Yesterday."""


class ThisWeek(_Period, frozen=True, tag="this_week"):
    """From Monday to today."""


class LastWeek(_Period, frozen=True, tag="last_week"):
    """The whole week before this one."""


class ThisMonth(_Period, frozen=True, tag="this_month"):
    """From the first of the month to today."""


class LastMonth(_Period, frozen=True, tag="last_month"):
    """The whole month before this one."""


class ThisQuarter(_Period, frozen=True, tag="this_quarter"):
    """From the first day of the quarter to today."""


class LastQuarter(_Period, frozen=True, tag="last_quarter"):
    """The whole quarter before this one."""


class ThisYear(_Period, frozen=True, tag="this_year"):
    """From 1 January to today."""


class LastYear(_Period, frozen=True, tag="last_year"):
    """The whole year before this one."""


class Since(_Period, frozen=True, tag="since"):
    """From a day to today."""

    day: date


class Between(_Period, frozen=True, tag="between"):
    """From a day to another, both included."""

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


class Moment(msgspec.Struct, frozen=True):
    """When a question is asked, and in which zone its calendar days are counted."""

    now: datetime
    zone: tzinfo

    @property
    def today(self) -> date:
        return day_of(self.now, self.zone)


class Zones(msgspec.Struct, frozen=True):
    """The workspace's time zone, and those that it had. An event counts on the day of the zone that
    held when it was recorded.

    Attributes:
        first: the zone until an admin chooses one.
        chosen: each instant at which a zone was chosen, with the zone, in order.
    """

    first: tzinfo = UTC
    chosen: tuple[tuple[datetime, tzinfo], ...] = ()

    @property
    def now(self) -> tzinfo:
        return self.chosen[-1][1] if self.chosen else self.first

    def at(self, recorded_at: datetime) -> tzinfo:
        """The zone that held at an instant."""
        count = bisect_right(self.chosen, recorded_at, key=lambda choice: choice[0])
        return self.chosen[count - 1][1] if count else self.first


def bounds(period: Period, today: date) -> tuple[date, date]:
    """The first and the last day of a period, both included; empty if the first is later.

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
    """Whether the window changes tomorrow."""
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


def end_of(day: date, zone: tzinfo) -> datetime:
    """The instant at which the next calendar day begins in a zone."""
    return start_of(day + timedelta(1), zone)


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def boundary(text: str) -> date | datetime:
    """Reads a calendar day (2026-05-13), or an instant: a date-time with a zone, as UTC.

    Raises:
        ValueError: neither, or outside the years 2 to 9998; with a reason fit for the sender.
    """
    try:
        if _DAY.fullmatch(text):
            day = date.fromisoformat(text)
        else:
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                raise ValueError("the time has no zone; end it with Z or an offset like +02:00")
            day = at.astimezone(UTC).date()
    except OverflowError:
        raise ValueError("the date lies outside the years 2 to 9998") from None
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError("the date lies outside the years 2 to 9998")
    return day if _DAY.fullmatch(text) else at.astimezone(UTC)
