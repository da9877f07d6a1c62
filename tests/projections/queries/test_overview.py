"""The Overview: 30 calendar days, today among them, against the 30 before."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.commands import Alias, Change, Command, Track
from domain.definitions.types import Preferred
from domain.identity import SubjectKind
from domain.name_rules import NameScope
from domain.properties import PropertyType
from infra.bootstrap.annals import Annals
from projections.queries import overview as overview_module
from projections.queries.overview import MOST, Overview, OverviewProperty, overview
from tests.projections.read_models import NOON, empty, event, found, project, user, write
from tests.projections.segments import EDITOR

USER = SubjectKind.USER
DAY = timedelta(days=1)
NONE = Preferred()


def seen(
    annals: Annals,
    preferred: Preferred = NONE,
    name: str = "jo",
    now: datetime = NOON,
    zone: tzinfo = UTC,
) -> Overview:
    project(annals)
    with annals.queries.connect() as conn:
        return overview(
            conn,
            annals.timelines,
            annals.sealer,
            USER,
            found(annals, user(name)),
            preferred,
            Moment(now, zone),
            annals.workspace_now().names.types_of(USER),
        )


def did(name: str, days_ago: float, times: int = 1) -> list[Command]:
    return [Track(user("jo"), (), event(name), NOON - DAY * days_ago) for _ in range(times)]


def test_an_event_has_a_figure_for_each_day_and_the_change_against_the_days_before(
    annals: Annals,
) -> None:
    write(
        annals,
        *did("login", 0, 2), *did("login", 29), *did("login", 30, 4), *did("login", 59),
        *did("login", 60, 7), *did("other", 1), *did("login", -1, 5),
    )  # fmt: skip
    shown = seen(annals, Preferred(events=["login", "never"]))
    assert (shown.first_day, shown.last_day) == (date(2024, 4, 14), date(2024, 5, 13))
    login, never = shown.events
    assert login.days == [1] + [0] * 28 + [2]
    assert (login.count, login.before, login.change, login.percent) == (3, 5, -2, -40.0)
    assert (never.name, never.days, never.count, never.percent) == ("never", [0] * 30, 0, None)
    assert shown.preferred == {"properties": False, "events": True}


def test_days_are_those_of_the_workspace(annals: Annals) -> None:
    write(annals, *did("login", 0))
    [login] = seen(annals, now=NOON + 13 * timedelta(hours=1)).events
    assert login.days[-2:] == [1, 0]
    with annals.queries.connect():
        shown = seen(annals, now=NOON + 11 * timedelta(hours=1), zone=ZoneInfo("Asia/Tokyo"))
    assert shown.last_day == date(2024, 5, 14)


def test_without_a_preference_the_most_frequent_events_of_the_last_days_come_first(
    annals: Annals,
) -> None:
    write(annals, *did("old", 40, 9), *did("seldom", 2), *did("often", 3, 3), *did("ancient", 400))
    assert [event.name for event in seen(annals).events] == ["often", "seldom", "old", "ancient"]
    write(annals, *(event for n in range(MOST) for event in did(f"new {n}", 1, 20)))
    assert [event.name for event in seen(annals).events] == [f"new {n}" for n in range(MOST)]


def test_a_property_shows_what_it_was_when_the_days_began(annals: Annals) -> None:
    def change(days_ago: float, **values: object) -> Change:
        return Change(USER, user("jo"), values, NOON - DAY * days_ago)

    write(
        annals,
        change(50, plan="free", seats=3, city="Ghent", gone="yes", since="2024-01-01"),
        change(20, plan="trial", seats=5, gone=None, new=True),
        change(3, plan="pro", seats=8.5, since="2024-02-01"),
    )
    names = ["plan", "seats", "city", "gone", "new", "since", "none"]
    shown = seen(annals, Preferred(properties=names))
    late, early = NOON - 3 * DAY, NOON - 20 * DAY
    assert shown.properties == [
        OverviewProperty("plan", "pro", "free", True, late, None),
        OverviewProperty("seats", 8.5, 3, True, late, 5.5),
        OverviewProperty("city", "Ghent", "Ghent", False, None, None),
        OverviewProperty("gone", None, "yes", True, early, None),
        OverviewProperty("new", True, None, True, early, None),
        OverviewProperty("since", "2024-02-01", "2024-01-01", True, late, None),
        OverviewProperty("none", None, None, False, None, None),
    ]
    assert shown.preferred == {"properties": True, "events": False}


def test_what_a_property_was_is_shown_as_of_the_type_that_it_has_now(annals: Annals) -> None:
    old, new = NOON - 50 * DAY, NOON - 3 * DAY
    write(annals, Change(USER, user("jo"), {"seats": "5", "size": "5", "word": "a"}, old))
    for name in ("seats", "size", "word"):
        scope, to = NameScope.USER_PROPERTY, PropertyType.NUMBER
        annals.names.change_type(scope, name, to, EDITOR, NOON - 10 * DAY)
    write(annals, Change(USER, user("jo"), {"seats": 5, "size": 7, "word": 1}, new))
    shown = seen(annals, Preferred(properties=["seats", "size", "word"]))
    assert shown.properties == [
        OverviewProperty("seats", 5, 5, False, new, 0.0),
        OverviewProperty("size", 7, 5, True, new, 2.0),
        OverviewProperty("word", 1, None, True, new, None),
    ]


def test_without_a_preference_the_properties_most_used_in_the_workspace_are_shown(
    annals: Annals,
) -> None:
    write(
        annals,
        Change(USER, user("jo"), {"rare": 1, "common": 2}, NOON),
        Change(USER, user("ann"), {"common": 3, "hers": 4}, NOON),
    )
    assert [property.name for property in seen(annals).properties] == ["common", "rare"]


@given(st.lists(st.tuples(st.integers(0, 70), st.sampled_from([1, 2, 3, None])), max_size=25))
def test_a_property_was_what_it_was_told_to_be_before_the_days_began(
    annals: Annals, database_url: str, told: list[tuple[int, int | None]]
) -> None:
    empty(database_url)
    told = sorted(told, key=lambda entry: -entry[0])
    write(annals, Change(USER, user("jo"), {"name": "Jo"}, NOON - 100 * DAY))
    write(
        annals,
        *(
            Change(USER, user("jo"), {"seats": seats}, NOON - DAY * days_ago)
            for days_ago, seats in told
        ),
    )
    was = next((seats for days_ago, seats in reversed(told) if days_ago >= 30), None)
    value = told[-1][1] if told else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview_module, "ROWS_AT_ONCE", 3)
        [seats] = seen(annals, Preferred(properties=["seats"])).properties
    assert (seats.value, seats.before, seats.is_changed) == (value, was, value != was)


def test_what_a_merge_brought_was_not_there_before(annals: Annals) -> None:
    write(
        annals,
        Change(USER, user("jo"), {"plan": "pro"}, NOON - 50 * DAY),
        Change(USER, user("ann"), {"plan": "free", "city": "Ghent"}, NOON - 50 * DAY),
        Alias(user("jo"), user("ann"), NOON - DAY),
    )
    plan, city = seen(annals, Preferred(properties=["plan", "city"])).properties
    assert (plan.before, plan.is_changed) == ("pro", False)
    assert (city.value, city.before, city.changed_at) == ("Ghent", None, NOON - DAY)
