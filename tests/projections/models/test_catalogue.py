"""The catalogue: the names of properties and activity in use, with counts, times and types."""

from __future__ import annotations

from typing import Any

import pytest

from domain.activity import ActivityKind
from tests.projections.given import (
    NOON,
    Tables,
    acme,
    ada,
    changed,
    days_later,
    erased,
    given,
    joined,
    registered,
    tracked,
)

CATALOGUE = """
SELECT scope, name, value_type, uses, first_at, last_at FROM views.catalogue ORDER BY scope, name"""


def test_names_of_activity_have_counts_and_times(tables: Tables) -> None:
    events = given(tracked(ada, "Report opened"), tracked(ada, "Report opened", at=days_later(2)))
    assert tables.after(CATALOGUE, events, events) == [
        ("event", "Report opened", None, 4, NOON, days_later(2))
    ]


def test_pages_are_open_ended_and_screens_are_not(tables: Tables) -> None:
    events = given(
        tracked(ada, "/pricing", kind=ActivityKind.PAGE),
        tracked(ada, "Home", kind=ActivityKind.SCREEN),
    )
    assert tables.after(CATALOGUE, events) == [("screen", "Home", None, 1, NOON, NOON)]


def test_properties_have_the_type_of_their_first_value(tables: Tables) -> None:
    first = given(
        changed(ada, {"seats": 5, "vip": True, "tags": ["a"]}), changed(acme, {"plan": "x"})
    )
    assert tables.after(CATALOGUE, first, given(changed(ada, {"seats": "five"}))) == [
        ("account.property", "plan", "string", 1, NOON, NOON),
        ("user.property", "seats", "number", 2, NOON, NOON),
        ("user.property", "tags", "list", 1, NOON, NOON),
        ("user.property", "vip", "boolean", 1, NOON, NOON),
    ]


DAY, OTHER = {"code": "2024-03-05", "since": "2024-03-05"}, {"code": "x"}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [(DAY, DAY, OTHER), (DAY, OTHER, DAY), (OTHER, DAY, DAY)])
def test_a_text_that_could_be_a_day_makes_no_date_of_a_string_in_whatever_order(
    tables: Tables, order: tuple[dict[str, Any], ...], together: bool
) -> None:
    events = [changed(ada, values) for values in order]
    batches = [given(*events)] if together else [given(event) for event in events]
    assert tables.after(CATALOGUE, *batches) == [
        ("user.property", "code", "string", 3, NOON, NOON),
        ("user.property", "since", "date", 2, NOON, NOON),
    ]


def test_properties_of_memberships_are_names_of_their_own(tables: Tables) -> None:
    events = given(joined(ada, acme, {"role": "admin"}))
    assert tables.after(CATALOGUE, events) == [
        ("membership.property", "role", "string", 1, NOON, NOON)
    ]


def test_names_outlive_whom_they_were_used_for(tables: Tables) -> None:
    events = given(registered(ada), changed(ada, {"plan": "pro"}))
    assert tables.after(CATALOGUE, events, given(erased(ada))) == [
        ("user.property", "plan", "string", 1, NOON, NOON)
    ]
