"""A calendar day passes a test of a date as a day of the workspace's calendar, in every zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.calendar import Between as Days
from domain.calendar import LastDays, Moment, ThisYear, Today, Yesterday, start_of
from domain.conditions import language as ask
from domain.conditions.evaluation import passes
from projections.conditions.date_window import day_window
from tests import random_conditions
from tests.random_conditions import DAYS, ZONES, moments

days = st.sampled_from((*DAYS, date(1, 1, 1), date(9999, 12, 31))) | st.dates()


@given(random_conditions.tests_of_dates(), days, moments())
def test_the_window_of_days_holds_the_days_that_pass(test: Any, day: date, moment: Moment) -> None:
    first, end = day_window(test, moment)
    is_within = (first is None or first <= day) and (end is None or day < end)
    assert passes(test, day.isoformat(), moment) is is_within


@given(days, st.sampled_from(ZONES), st.sampled_from(DAYS), st.integers(-1, 1))
@example(date(2007, 3, 11), "America/St_Johns", date(2007, 11, 4), 1)
def test_a_day_is_before_an_instant_if_it_began_before_it(
    day: date, zone: str, other: date, microseconds: int
) -> None:
    moment = Moment(datetime(2024, 5, 13, 12, tzinfo=UTC), ZoneInfo(zone))
    at = start_of(other, moment.zone).astimezone(UTC) + timedelta(microseconds=microseconds)
    assert passes(ask.Before(at.isoformat()), day.isoformat(), moment) is (
        start_of(day, moment.zone) < at
    )
    assert passes(ask.After(at.isoformat()), day.isoformat(), moment) is (
        start_of(day, moment.zone) > at
    )


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Pacific/Auckland", "Pacific/Apia"])
@pytest.mark.parametrize("hour", [0, 9, 23])
def test_a_day_is_the_same_day_of_the_calendar_in_every_zone(zone: str, hour: int) -> None:
    now = datetime(2024, 5, 13, hour, 30, tzinfo=ZoneInfo(zone))
    moment = Moment(now.astimezone(UTC), ZoneInfo(zone))
    passing: dict[Any, list[str]] = {
        ask.InPeriod(Today()): ["today"],
        ask.InPeriod(Yesterday()): ["yesterday"],
        ask.InPeriod(LastDays(30)): ["29 ago", "yesterday", "today"],
        ask.InPeriod(ThisYear()): ["30 ago", "29 ago", "yesterday", "today"],
        ask.InPeriod(Days(date(2024, 5, 12), date(2024, 5, 13))): ["yesterday", "today"],
        ask.InNextDays(30): ["today", "in 30"],
        ask.MoreThanDaysAgo(29): ["30 ago"],
        ask.Before("2024-05-13"): ["30 ago", "29 ago", "yesterday"],
        ask.After("2024-05-13"): ["in 30", "in 31"],
    }
    ahead = {"30 ago": -30, "29 ago": -29, "yesterday": -1, "today": 0, "in 30": 30, "in 31": 31}
    for test, expected in passing.items():
        assert expected == [
            name
            for name, days in ahead.items()
            if passes(test, (date(2024, 5, 13) + timedelta(days)).isoformat(), moment)
        ], test
