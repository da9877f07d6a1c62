"""A date without a time is a calendar day, over HTTP: asked, listed, exported and shown as one."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from projections.models import filters
from tests.api.contacts.test_contacts import identify
from tests.api.contacts.test_lists import names
from tests.api.definitions.test_settings import choose
from tests.serving import Clients, user

WEST, EAST = "Pacific/Pago_Pago", "Pacific/Kiritimati"
"""Their days are never the same: they are 25 hours apart."""


def due(client: Clients, op: str, **rest: Any) -> set[str]:
    condition = {"type": "property", "name": "due", "test": {"op": op, **rest}}
    return set(names(client.see("/api/users", filter=json.dumps(condition))))


def answers(client: Clients, today: date) -> list[set[str]]:
    """The questions that are asked of due dates."""
    return [
        due(client, "in_period", period={"type": "today"}),
        due(client, "in_next_days", days=30),
        due(client, "before", at=today.isoformat()),
        due(client, "after", at=today.isoformat()),
        due(client, "more_than_days_ago", days=1),
        due(client, "in_period", period={"type": "last_days", "days": 2}),
    ]


def today_in(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def test_what_is_due_today_is_due_today_west_and_east_and_after_a_change_of_zone(
    client: Clients,
) -> None:
    first = today_in(WEST)
    days = [first + timedelta(shift) for shift in range(-4, 36)]
    client.send(*(identify(f"{day}", 0, due=f"{day}") for day in days))
    for zone in (WEST, EAST, "America/New_York", WEST):
        choose(client, time_zone=zone)
        found, today = [], None
        while today != today_in(zone):  # a day may begin in between
            today = today_in(zone)
            found = answers(client, today)
        assert today is not None
        expected = [
            [today],
            [today + timedelta(n) for n in range(31)],
            [day for day in days if day < today],
            [day for day in days if day > today],
            [day for day in days if day < today - timedelta(1)],
            [today - timedelta(1), today],
        ]
        assert found == [{f"{day}" for day in those} for those in expected], zone


def test_a_day_is_shown_as_it_was_sent_and_an_instant_as_one(client: Clients) -> None:
    choose(client, time_zone="America/New_York")
    client.send(
        identify("day", 3, born="1980-01-01", note="x"),
        identify("midnight", 2, born="1980-01-01T00:00:00Z"),
        identify("evening", 1, born="1980-01-01T01:00:00-05:00"),
        identify("day", 4, born="1980-01-02", note="1980-01-01"),
        identify("old", 1, born="0001-01-01"),
        identify("late", 1, born="9999-12-31"),
    )
    shown = {
        "day": "1980-01-02",
        "midnight": "1980-01-01T00:00:00Z",
        "evening": "1980-01-01T06:00:00Z",
        "old": "0001-01-01",
        "late": "9999-12-31",
    }
    for name, born in shown.items():
        assert client.see(user(name))["properties"]["born"] == born
    changes = client.see(user("day", "/timeline"), type="property")["items"]
    assert {"name": "born", "before": "1980-01-01", "after": "1980-01-02"} in [
        change for item in changes for change in item["changes"]
    ]
    assert client.see(user("day"))["properties"]["note"] == "1980-01-01"
    listed = client.see("/api/users", sort="property:born", limit=2)
    following = client.see("/api/users", sort="property:born", cursor=listed["next"])
    assert names(listed) + names(following) == ["old", "midnight", "evening", "day", "late"]
    file = client("read").get("/api/users/export", params={"sort": "name", "format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(file)))
    assert {row["external_id"]: row["property:born"] for row in rows} == shown


def test_a_day_stands_among_instants_where_it_begins_in_the_zone(client: Clients) -> None:
    client.send(
        identify("day", 1, at="2024-05-13"),
        identify("before", 1, at="2024-05-13T03:59:59.5Z"),
        identify("after", 1, at="2024-05-13T04:00:00.5Z"),
    )
    orders = {
        "America/New_York": ["before", "day", "after"],
        "UTC": ["day", "before", "after"],
        "Europe/Brussels": ["day", "before", "after"],
        "America/Los_Angeles": ["before", "after", "day"],
    }
    for zone, expected in orders.items():
        choose(client, time_zone=zone)
        assert names(client.see("/api/users", sort="property:at")) == expected
        assert names(client.see("/api/users", sort="-property:at")) == expected[::-1]


def test_the_range_of_a_quick_filter_has_days_and_instants_as_they_are(
    client: Clients,
) -> None:
    client.send(identify("a", 1, at="2024-05-13"), identify("b", 1, at="2024-05-13T03:00:00Z"))
    client.see("/api/users")
    for zone, expected in (
        ("America/New_York", ("2024-05-13T03:00:00Z", "2024-05-13")),
        ("UTC", ("2024-05-13", "2024-05-13T03:00:00Z")),
    ):
        with client.annals.views.connection() as conn:
            conn.execute("UPDATE views.filter_states SET positions = 0, seconds = 0")
        filters.refresh(client.annals.views, lambda zone=zone: ZoneInfo(zone))
        [at] = client.see("/api/users/filters")["properties"]
        assert (at["low"], at["high"]) == expected


@pytest.mark.parametrize("text", ["2024-02-30", "0000-01-01", "2023-02-29"])
def test_an_impossible_day_is_left_out_by_name(client: Clients, text: str) -> None:
    client.send(identify("ada", 1, born="1980-01-01"))
    answer = client.send(identify("ada", 1, born=text))
    [result] = answer["results"]
    assert [one["name"] for one in result["refused"]] == ["born"]
    assert "an impossible one" in result["refused"][0]["reason"]
    assert client.see(user("ada"))["properties"]["born"] == "1980-01-01"
