"""Dates: the instants and the days between which a test of a date passes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo

from domain.calendar import Moment, boundary, bounds, day_of, end_of, start_of
from domain.conditions import language as ask


def stored_date(at: datetime) -> str:
    """An instant in the format in which dates of properties are compared."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat()


def window(test: ask.Test, moment: Moment) -> tuple[datetime | None, datetime | None]:
    """The first instant of a test of a date, and the instant that ends it; None: no limit."""
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


def day_window(test: ask.Test, moment: Moment) -> tuple[date | None, date | None]:
    """The first day of a test of a date that is a calendar day, and the day that ends it, which is
    not in it; None: no limit."""
    zone, today = moment.zone, moment.today
    match test:
        case ask.Before(at):
            limit = boundary(at)
            return None, _first_from(limit, zone) if isinstance(limit, datetime) else limit
        case ask.After(at):
            limit = boundary(at)
            if isinstance(limit, datetime):
                return _first_from(limit + timedelta(microseconds=1), zone), None
            return limit + timedelta(1), None
        case ask.InPeriod(period):
            first, last = bounds(period, today)
            return first, last + timedelta(1)
        case ask.InNextDays(days):
            return today, today + timedelta(days + 1)
        case ask.MoreThanDaysAgo(days):
            return None, today - timedelta(days)
        case _:
            raise TypeError(f"{type(test).__name__} is no test of a date")


def _first_from(at: datetime, zone: tzinfo) -> date:
    """The first day that begins at an instant or later. Where clocks go back at midnight, that can
    be one that began in the eyes of the calendar only later."""
    day = day_of(at, zone) - timedelta(1)
    while start_of(day, zone) < at:
        day += timedelta(1)
    return day
