"""Periods are whole calendar days in a zone, today included, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import calendar
from domain.calendar import Moment, Period, boundary, bounds, day_of, end_of, start_of
from tests.random_conditions import ZONES, all_periods

BRUSSELS = ZoneInfo("Europe/Brussels")
today_of = st.dates(date(1900, 1, 1), date(2200, 1, 1))
zones = st.sampled_from(ZONES).map(ZoneInfo)


@pytest.mark.parametrize(
    ("period", "first", "last"),
    [
        (calendar.LastDays(30), "2026-04-14", "2026-05-13"),
        (calendar.LastDays(1), "2026-05-13", "2026-05-13"),
        (calendar.Today(), "2026-05-13", "2026-05-13"),
        (calendar.Yesterday(), "2026-05-12", "2026-05-12"),
        (calendar.ThisWeek(), "2026-05-11", "2026-05-13"),
        (calendar.LastWeek(), "2026-05-04", "2026-05-10"),
        (calendar.ThisMonth(), "2026-05-01", "2026-05-13"),
        (calendar.LastMonth(), "2026-04-01", "2026-04-30"),
        (calendar.ThisQuarter(), "2026-04-01", "2026-05-13"),
        (calendar.LastQuarter(), "2026-01-01", "2026-03-31"),
        (calendar.ThisYear(), "2026-01-01", "2026-05-13"),
        (calendar.LastYear(), "2025-01-01", "2025-12-31"),
        (calendar.Since(date(2026, 5, 1)), "2026-05-01", "2026-05-13"),
        (calendar.Between(date(2026, 1, 2), date(2026, 9, 3)), "2026-01-02", "2026-09-03"),
    ],
)
def test_periods_on_a_wednesday_in_may(period: Period, first: str, last: str) -> None:
    asked = bounds(period, date(2026, 5, 13))
    assert asked == (date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    ("period", "today", "first", "last"),
    [
        (calendar.LastMonth(), "2024-03-31", "2024-02-01", "2024-02-29"),
        (calendar.LastMonth(), "2023-03-31", "2023-02-01", "2023-02-28"),
        (calendar.LastDays(366), "2024-12-31", "2024-01-01", "2024-12-31"),
        (calendar.LastQuarter(), "2024-01-01", "2023-10-01", "2023-12-31"),
        (calendar.ThisWeek(), "2024-01-01", "2024-01-01", "2024-01-01"),
        (calendar.LastWeek(), "2025-01-01", "2024-12-23", "2024-12-29"),
        (calendar.Since(date(2024, 2, 29)), "2024-02-28", "2024-02-29", "2024-02-28"),
    ],
)
def test_periods_at_leap_days_and_turns_of_the_year(
    period: Period, today: str, first: str, last: str
) -> None:
    asked = bounds(period, date.fromisoformat(today))
    assert asked == (date.fromisoformat(first), date.fromisoformat(last))


@given(today_of)
def test_a_whole_week_month_quarter_or_year_ends_where_the_running_one_begins(today: date) -> None:
    for before, running in (
        (calendar.LastWeek(), calendar.ThisWeek()),
        (calendar.LastMonth(), calendar.ThisMonth()),
        (calendar.LastQuarter(), calendar.ThisQuarter()),
        (calendar.LastYear(), calendar.ThisYear()),
    ):
        first, last = bounds(before, today)
        begins, ends = bounds(running, today)
        assert (last + timedelta(1), ends) == (begins, today)
        assert bounds(running, first)[0] == bounds(running, last)[0] == first
    assert bounds(calendar.ThisWeek(), today)[0].isoweekday() == 1


@given(all_periods(), today_of)
def test_only_what_lies_between_two_days_does_not_move_with_time(
    period: Period, today: date
) -> None:
    if not calendar.moves_with_time(period):
        assert bounds(period, today) == bounds(period, today + timedelta(1))
    else:
        years = timedelta(800)
        assert bounds(period, today) != bounds(period, today + years)


@given(st.dates(date(1970, 1, 1), date(2037, 1, 1)), zones)
def test_a_day_begins_at_the_first_of_its_instants_and_ends_as_the_next_begins(
    day: date, zone: ZoneInfo
) -> None:
    start, end = start_of(day, zone).astimezone(UTC), end_of(day, zone).astimezone(UTC)
    if zone.key == "Pacific/Apia" and day == date(2011, 12, 30):
        assert start == end  # the day that was left out
        return
    assert timedelta(hours=22) <= end - start <= timedelta(hours=26)
    assert day_of(start, zone) == day
    assert day_of(start - timedelta(seconds=1), zone) < day
    assert day_of(end - timedelta(seconds=1), zone) == day or zone.key == "America/St_Johns"


def test_days_on_which_clocks_change_have_23_or_25_hours() -> None:
    for day, hours in ((date(2024, 3, 31), 23), (date(2024, 10, 27), 25), (date(2024, 5, 13), 24)):
        begins, ends = (at(day, BRUSSELS).astimezone(UTC) for at in (start_of, end_of))
        assert ends - begins == timedelta(hours=hours)


def test_a_day_begins_at_one_where_clocks_are_put_forward_at_midnight() -> None:
    begins = start_of(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo"))
    assert begins.astimezone(UTC) == datetime(2018, 11, 4, 3, tzinfo=UTC)


def test_today_is_the_day_in_the_zone() -> None:
    at = datetime(2024, 5, 12, 22, 30, tzinfo=UTC)
    assert Moment(at, BRUSSELS).today == date(2024, 5, 13)
    assert Moment(at, ZoneInfo("UTC")).today == date(2024, 5, 12)


def test_a_boundary_is_a_day_or_an_instant() -> None:
    assert boundary("2024-02-29") == date(2024, 2, 29)
    assert boundary("2024-02-29T01:00:00+02:00") == datetime(2024, 2, 28, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "2024-02-30", "2024-05-13T10:00:00", "tomorrow", "0001-01-01", "9999-01-01", "13/05/2024",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-10:00", "2024-05-13\n", "２024-05-13"],
)  # fmt: skip
def test_other_texts_are_no_boundary(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        boundary(text)
