"""Dependencies: the facts that can change an answer, and the way to the subject that is asked."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain import calendar
from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import holds
from domain.identity import SubjectKind
from domain.workspace.dependencies import (
    NAME_PROPERTIES,
    Dependency,
    Fact,
    asks_the_calendar,
    dependencies,
    listed,
    of_list,
)
from tests.random_conditions import WorldMaker, conditions, moments

USER, ACCOUNT = SubjectKind
ALWAYS = Dependency(Fact("user", "everything"))
IS_PRO = ask.PropertyIs("plan", ask.Is("pro"))
SEGMENT = UUID(int=7)
MAY = calendar.Between(date(2026, 5, 1), date(2026, 5, 31))


def of_user(what: str, *of: str) -> Dependency:
    return Dependency(Fact("user", what, of))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (ask.AllOf([]), set()),
        (IS_PRO, {of_user("property", "plan")}),
        (ask.Not(IS_PRO), {of_user("property", "plan")}),
        (ask.Did("event", "login"), {of_user("activity", "event", "login")}),
        (ask.StageIs(["paying"]), {of_user("stage")}),
        (ask.HealthIs([ask.Health.BAD]), {of_user("health")}),
        (ask.ScoreIs("Fit", ask.IsSet()), {of_user("score", "Fit")}),
        (ask.SignalIs("Low", True), {of_user("signal", "Low")}),
        (ask.InSegment(SEGMENT), {of_user("segment", str(SEGMENT))}),
        (
            ask.AttributeIs(ask.Attribute.NAME, ask.IsSet()),
            {of_user("property", name) for name in NAME_PROPERTIES},
        ),
        (ask.AttributeIs(ask.Attribute.LAST_SEEN, ask.IsSet()), {of_user("seen")}),
        (
            ask.AttributeIs(ask.Attribute.EMAIL, ask.IsSet()),
            {of_user("identity"), of_user("property", "email")},
        ),
        (ask.AttributeIs(ask.Attribute.EXTERNAL_ID, ask.IsSet()), {of_user("identity")}),
        (
            ask.AttributeIs(ask.Attribute.REGISTERED_AT, ask.IsSet()),
            {of_user("registered"), of_user("seen")},
        ),
    ],
)
def test_an_answer_rests_on_what_its_condition_tests(
    condition: ask.Condition, expected: set[Dependency]
) -> None:
    assert dependencies(condition, USER) == {ALWAYS, *expected}


def test_a_question_across_rests_on_the_others_and_on_who_belongs_to_whom() -> None:
    assert dependencies(ask.OfAccounts(ask.AnyOf(), IS_PRO), USER) == {
        ALWAYS,
        of_user("membership"),
        Dependency(Fact("account", "everything"), ("user",)),
        Dependency(Fact("account", "property", ("plan",)), ("user",)),
    }


def test_a_question_across_and_back_takes_two_steps() -> None:
    there_and_back = ask.OfAccounts(ask.AnyOf(), ask.OfUsers(ask.AnyOf(), IS_PRO))
    two_steps = Dependency(Fact("user", "property", ("plan",)), ("account", "user"))
    assert two_steps in dependencies(there_and_back, USER)


def test_pages_of_members_are_pages_of_the_account_and_their_events_are_not() -> None:
    pages = dependencies(ask.Did("page", "/"), ACCOUNT)
    assert Dependency(Fact("user", "activity", ("page", "/")), ("account",)) in pages
    events = dependencies(ask.Did("event", "login"), ACCOUNT)
    assert {dependency.way for dependency in events} == {()}


def test_membership_of_a_static_segment_rests_on_its_list() -> None:
    assert of_list(SEGMENT, USER) == {ALWAYS, Dependency(listed(SEGMENT))}


@pytest.mark.parametrize(
    ("condition", "moves"),
    [
        (IS_PRO, False),
        (ask.PropertyIs("since", ask.InNextDays(1)), True),
        (ask.PropertyIs("since", ask.MoreThanDaysAgo(1)), True),
        (ask.PropertyIs("since", ask.InPeriod(calendar.Today())), True),
        (ask.PropertyIs("since", ask.InPeriod(MAY)), False),
        (ask.Did("event", "login"), False),
        (ask.Did("event", "login", period=calendar.LastDays(7)), True),
        (ask.Did("event", "login", period=MAY), False),
        (ask.OfAccounts(ask.AnyOf(), ask.Not(ask.Did("page", "/", period=calendar.Today()))), True),
    ],
)
def test_periods_that_move_make_an_answer_another_one_tomorrow(
    condition: ask.Condition, moves: bool
) -> None:
    assert asks_the_calendar(condition) is moves


@given(st.sampled_from(SubjectKind), moments(), st.integers(1, 400), st.data())
def test_an_answer_that_does_not_ask_the_calendar_is_the_same_on_any_day(
    kind: SubjectKind, moment: Moment, days: int, data: st.DataObject
) -> None:
    condition = data.draw(conditions(kind))
    assume(not asks_the_calendar(condition))
    world = WorldMaker(data.draw(st.integers(0, 99)), moment).world(users=4, accounts=3)
    later = msgspec.structs.replace(moment, now=moment.now + timedelta(days))
    for subject in (id for id, facts in world.subjects.items() if facts.kind is kind):
        assert holds(condition, subject, world, moment) == holds(condition, subject, world, later)


@given(st.sampled_from(SubjectKind), moments(), st.data())
def test_an_answer_changes_only_with_a_property_that_it_rests_on(
    kind: SubjectKind, moment: Moment, data: st.DataObject
) -> None:
    condition = data.draw(conditions(kind))
    world = WorldMaker(data.draw(st.integers(0, 99)), moment).world(users=3, accounts=2)
    rests_on = {
        (dependency.fact.kind, *dependency.fact.of)
        for dependency in dependencies(condition, kind)
        if dependency.fact.what == "property"
    }
    changed = {
        id: msgspec.structs.replace(
            facts,
            properties={
                name: value
                for name, value in facts.properties.items()
                if (facts.kind.value, name) in rests_on
            },
        )
        for id, facts in world.subjects.items()
    }
    without = msgspec.structs.replace(world, subjects=changed)
    for subject in (id for id, facts in world.subjects.items() if facts.kind is kind):
        assert holds(condition, subject, world, moment) == holds(
            condition, subject, without, moment
        )
