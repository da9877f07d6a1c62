"""Values as the console writes them, without a browser."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.console.pages import day, value


@pytest.mark.parametrize("type", ["date", None])
def test_a_calendar_day_has_no_time_that_a_browser_could_shift(type: str | None) -> None:
    assert value("2027-01-12", type) == '<time datetime="2027-01-12">12 Jan 2027</time>'
    assert "T09:30" in value("2027-01-12T09:30:00Z", type)
    assert "T00:00" in value("2027-01-12T00:00:00Z", type)


def test_a_text_that_is_no_day_stays_as_it_is() -> None:
    assert value("2027-02-30") == "2027-02-30"
    assert value("2027-02-30", "date") == "2027-02-30"
    assert value("2027-01-12", "string") == "2027-01-12"


@given(st.dates())
def test_every_day_is_shown_as_that_day(shown: date) -> None:
    assert f'datetime="{shown.isoformat()}"' in day(shown.isoformat())
    assert f"{shown.day} " in day(shown.isoformat())
