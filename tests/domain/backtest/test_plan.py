"""The plan of a back-test: what is decided before the draft, and what the replay must know."""

from __future__ import annotations

import uuid

import pytest

from domain import calendar
from domain.backtest.plan import Node, Plan
from domain.conditions import language as ask
from domain.definitions.types import (
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    ScoreRule,
    Segment,
    Settings,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.errors import InvalidInput
from domain.identity import SubjectKind

USER, ACCOUNT = SubjectKind
IDS = [DefinitionId(uuid.UUID(int=n)) for n in range(5)]
IS_PRO = ask.PropertyIs("plan", ask.Is("pro"))
LIFE = Stages(USER, "Life", [Stage("paying", StageType.PAYING, IS_PRO)])
PAYING = ask.StageIs(["paying"])
FIT = Score(USER, "Fit", [ScoreRule("paying", 1, PAYING)])
LOW = ask.ScoreIs("Fit", ask.Less(20))


def plan(draft: Definition, *active: Definition, replaces: DefinitionId | None = None) -> Plan:
    return Plan(draft, dict(zip(IDS, active, strict=False)), replaces)


def test_each_decision_comes_after_those_that_it_rests_on() -> None:
    assert plan(Segment(USER, "Low", LOW), FIT, LIFE).order == [
        Node(DefinitionKind.STAGES, USER),
        Node(DefinitionKind.SCORE, USER, IDS[0]),
    ]


def test_the_health_of_a_kind_rests_on_its_stages() -> None:
    well = HealthProfile(USER, "Well", ["paying"], IS_PRO)
    healthy = Segment(USER, "Healthy", ask.HealthIs([ask.Health.GOOD]))
    assert plan(healthy, well, LIFE).order == [
        Node(DefinitionKind.STAGES, USER),
        Node(DefinitionKind.HEALTH, USER),
    ]


def test_the_replay_knows_what_conditions_test_and_no_more() -> None:
    paid = ask.Did("event", "paid", where=[ask.MetadataIs("sum", ask.Greater(9))])
    condition = ask.AllOf([IS_PRO, paid, ask.OfAccounts(ask.AnyOf(), ask.Did("page", "/"))])
    scope = plan(Segment(USER, "S", condition)).scope
    assert "plan" in scope.properties[USER]
    assert "plan" not in scope.properties[ACCOUNT]
    assert scope.activities == {("event", "paid"): {"sum"}, ("page", "/"): set()}
    assert not scope.memberships
    assert plan(Segment(USER, "S", ask.BelongsTo())).scope.memberships


def test_the_reach_counts_steps_over_memberships() -> None:
    across = ask.OfAccounts(ask.AnyOf(), ask.OfUsers(ask.AnyOf(), IS_PRO))
    assert plan(Segment(USER, "S", IS_PRO)).reach == 0
    assert plan(Segment(USER, "S", across)).reach == 2
    of_members = Segment(ACCOUNT, "S", ask.Did("page", "/"))
    assert plan(of_members).reach == 1, "pages of members are pages of the account"


def test_the_calendar_moves_dates_of_all_and_periods_of_those_who_did_something() -> None:
    recent = ask.Did("event", "login", period=calendar.LastDays(7))
    due = ask.PropertyIs("renewal", ask.InNextDays(7))
    moved = [
        (made.calendar_moves_deeds, made.calendar_moves_all)
        for made in (plan(Segment(USER, "S", one)) for one in (IS_PRO, recent, due))
    ]
    assert moved == [(False, False), (True, False), (True, True)]


def test_a_draft_is_compared_with_what_it_replaces() -> None:
    assert plan(LIFE).counterpart is None
    assert plan(LIFE, LIFE).counterpart == Node(DefinitionKind.STAGES, USER)
    assert plan(FIT, FIT, LIFE).counterpart is None
    compared = plan(FIT, FIT, LIFE, replaces=IDS[0]).counterpart
    assert compared == Node(DefinitionKind.SCORE, USER, IDS[0])


def test_the_lists_of_static_segments_are_needed_where_they_are_named() -> None:
    pilots = Segment(USER, "Pilots")
    assert plan(Segment(USER, "S", ask.InSegment(IDS[0])), pilots).lists == [IDS[0]]
    assert plan(Segment(USER, "S", IS_PRO), pilots).lists == []


def test_a_draft_that_rests_on_itself_is_refused() -> None:
    circular = Stages(USER, "Life", [Stage("paying", StageType.PAYING, LOW)])
    with pytest.raises(InvalidInput, match="would rest on itself"):
        plan(circular, FIT, circular)


def test_settings_decide_nothing_and_a_goal_counts_in_the_draft_alone() -> None:
    with pytest.raises(InvalidInput, match="decides nothing"):
        plan(Settings())
    goal = ask.PropertyIs("city", ask.IsSet())
    signal = Signal(USER, "Low", IS_PRO, None, goal, 24)
    assert "city" in plan(signal).scope.properties[USER]
    rests = plan(Segment(USER, "S", ask.SignalIs("Low", True)), signal)
    assert "city" not in rests.scope.properties[USER]
