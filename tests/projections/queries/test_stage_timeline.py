"""The stages somebody has been in: as decided, and as the facts occurred where that is wanted."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.commands import Change, Position, SetStage
from domain.conditions.language import Is, PropertyIs
from domain.definitions.types import DefinitionId
from domain.events.decisions import OfEvent, StageEntered, StageLeft, StageTransition
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from projections.queries.stage_timeline import (
    StageTimeline,
    moved,
    stage_timeline,
    summary,
    with_gaps,
)
from tests.projections.definitions import activate, stages
from tests.projections.read_models import NOON, dump, found, user, write
from tests.projections.segments import EDITOR, settle

USER = SubjectKind.USER
DAY = timedelta(days=1)
LIFE = stages(trial=PropertyIs("plan", Is("trial")), paying=PropertyIs("plan", Is("pro")))
ID = DefinitionId(uuid.UUID(int=7))


def told(annals: Annals, plan: str | None, day: float, occurred: float | None = None) -> SubjectId:
    """Somebody's plan becomes another, and is decided on, on a day; it was so since `occurred`."""
    at = NOON + DAY * (day if occurred is None else occurred)
    write(annals, Change(USER, user("jo"), {"plan": plan}, at))
    settle(annals, annals.decider(clock=lambda: NOON + DAY * day))
    return found(annals, user("jo"))


def seen(
    annals: Annals, jo: SubjectId, *, backdated: bool = False, day: float = 10
) -> StageTimeline:
    with annals.queries.connect() as conn:
        return stage_timeline(
            conn,
            annals.timelines,
            annals.sealer,
            USER,
            jo,
            backdated=backdated,
            now=NOON + DAY * day,
        )


def spells(timeline: StageTimeline) -> list[tuple[str | None, float, float | None]]:
    """Stage, first and last day of each."""

    def day(at: datetime | None) -> float | None:
        return None if at is None else (at - NOON) / DAY

    return [
        (spell.stage, day(spell.entered_at) or 0.0, day(spell.left_at)) for spell in timeline.spells
    ]


def test_gaps_and_back_and_forth_show_with_how_often_and_how_long(annals: Annals) -> None:
    activate(annals, LIFE)
    for day, plan in enumerate(["trial", "pro", None, "pro", "trial"]):
        jo = told(annals, plan, day)
    timeline = seen(annals, jo)
    assert spells(timeline) == [
        ("trial", 0, 1),
        ("paying", 1, 2),
        (None, 2, 3),
        ("paying", 3, 4),
        ("trial", 4, None),
    ]
    assert [spell.visit for spell in timeline.spells] == [1, 1, 1, 2, 2]
    assert [spell.direction for spell in timeline.spells] == [None, "forward", None, None, "back"]
    assert [(stay.stage, stay.visits, stay.seconds / 86_400) for stay in timeline.summary] == [
        ("trial", 2, 1 + 6),
        ("paying", 2, 2),
        (None, 1, 1),
    ]
    assert timeline.summary[0].last_left_at is None


def test_who_was_in_no_stage_has_none(annals: Annals) -> None:
    jo = told(annals, "free", 0)
    assert seen(annals, jo) == seen(annals, jo, day=11) == StageTimeline([], [], False, [])


def test_a_fact_that_is_told_late_moves_the_timeline_only_where_that_is_wanted(
    annals: Annals, database_url: str
) -> None:
    activate(annals, LIFE)
    told(annals, "trial", 0)
    jo = told(annals, "pro", 5, occurred=3)
    recorded = dump(database_url)
    assert spells(seen(annals, jo)) == [("trial", 0, 5), ("paying", 5, None)]
    late = seen(annals, jo, backdated=True)
    assert spells(late) == [("trial", 0, 3), ("paying", 3, None)]
    assert [spell.decided_at for spell in late.spells] == [NOON, NOON + 5 * DAY]
    assert (late.backdated, [stay.seconds / 86_400 for stay in late.summary]) == (True, [3, 7])
    assert dump(database_url) == recorded


def test_a_value_that_is_sent_for_a_time_before_the_present_one_decides_nothing(
    annals: Annals,
) -> None:
    activate(annals, LIFE)
    told(annals, "trial", 2)
    jo = told(annals, "pro", 5, occurred=1)
    assert spells(seen(annals, jo, backdated=True)) == [("trial", 2, None)]


def test_a_stage_that_was_set_by_hand_says_so(annals: Annals) -> None:
    activate(annals, LIFE)
    jo = told(annals, "trial", 0)
    annals.manual_stages.apply(SetStage(USER, jo, "paying", "a talk", EDITOR, NOON + DAY))
    settle(annals, annals.decider(clock=lambda: NOON + DAY))
    for backdated in (False, True):
        shown = seen(annals, jo, backdated=backdated)
        assert [(spell.stage, spell.by_hand) for spell in shown.spells] == [
            ("trial", False),
            ("paying", True),
        ]


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[list[tuple[datetime, StageTransition]], dict[Position, datetime]]:
    """Transitions in turn, each for a fact that occurred when it was decided or long before."""
    transitions: list[tuple[datetime, StageTransition]] = []
    occurred: dict[Position, datetime] = {}
    stage: str | None = None
    ordinal, hour = 0, 0
    for n in range(draw(st.integers(0, 12))):
        hour += draw(st.integers(0, 5))
        at, cause = NOON + timedelta(hours=hour), OfEvent(1, n)
        occurred[Position(1, n)] = at - timedelta(hours=draw(st.sampled_from([0, 0, 1, 7])))
        following = draw(
            st.sampled_from([None, "a", "b"]).filter(lambda stage_, was=stage: stage_ != was)
        )
        if stage is not None:
            ordinal += 1
            transitions.append((at, StageLeft(ID, ordinal, 1, cause, stage=stage)))
        if following is not None:
            ordinal += 1
            transitions.append((at, StageEntered(ID, ordinal, 1, cause, stage=following)))
        stage = following
    return transitions, occurred


@given(histories())
def test_times_never_overlap_and_the_last_decision_holds(
    history: tuple[list[tuple[datetime, StageTransition]], dict[Position, datetime]],
) -> None:
    transitions, occurred = history
    shown = with_gaps(moved(transitions, occurred), ["a", "b"])
    for spell, following in pairwise(shown):
        assert spell.left_at == following.entered_at
        assert spell.entered_at < following.entered_at
    now = NOON + timedelta(days=9)
    if shown:
        whole = now - shown[0].entered_at
        assert sum(stay.seconds for stay in summary(shown, [], now)) == whole.total_seconds()
    if transitions:
        last = transitions[-1][1]
        assert isinstance(last, StageEntered) == (bool(shown) and shown[-1].stage is not None)
    decided = {(transition.ordinal, at) for at, transition in transitions}
    assert all((n.decided_at in {at for _, at in decided}) for n in shown if n.stage is not None)


@given(histories())
def test_a_stage_holds_at_an_instant_that_the_last_fact_known_of_it_says(
    history: tuple[list[tuple[datetime, StageTransition]], dict[Position, datetime]],
) -> None:
    """Told naively: at any instant holds what the last decision says whose fact is not later."""
    transitions, occurred = history
    shown = with_gaps(moved(transitions, occurred), [])
    for half_hours in range(-20, 140):
        instant = NOON + timedelta(minutes=30 * half_hours + 15)
        holds: str | None = None
        for _, transition in transitions:
            assert isinstance(transition.cause, OfEvent)
            if occurred[Position(transition.cause.partition, transition.cause.position)] <= instant:
                holds = transition.stage if isinstance(transition, StageEntered) else None
        there = [
            spell.stage
            for spell in shown
            if spell.entered_at <= instant and (spell.left_at is None or instant < spell.left_at)
        ]
        assert there == [holds] or (holds is None and there == [])
