"""Stages and health: who is put where, why, and what a hand overrules."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from domain.calendar import LastDays
from domain.commands import Alias, Change, Join, ReleaseStage, SetStage, Track
from domain.conditions.language import (
    AnyOf,
    Did,
    DidNotOccur,
    Health,
    HealthIs,
    InSegment,
    Is,
    Not,
    OfAccounts,
    PropertyIs,
    StageIs,
)
from domain.definitions.types import DefinitionId
from domain.errors import NotFound
from domain.events.decisions import (
    DecisionEvent,
    HealthChanged,
    OfDay,
    OfDefinition,
    OfEvent,
    ScoreChanged,
    SignalTriggered,
    StageEntered,
    StageLeft,
    StageTransition,
)
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from infra import workers
from infra.bootstrap.annals import Annals
from projections.queries.bars import bars_of_all
from tests.infra.erasures import erase
from tests.projections.definitions import (
    activate,
    archive,
    change,
    decisions,
    profile,
    row,
    stages,
    standing,
)
from tests.projections.read_models import (
    NOON,
    account,
    dump,
    event,
    forget_read_models,
    found,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR, define, members, settle

USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT
IS_PRO = PropertyIs("plan", Is("pro"))
IS_TRIAL = PropertyIs("plan", Is("trial"))
IS_HAPPY = PropertyIs("mood", Is("happy"))
IS_SAD = PropertyIs("mood", Is("sad"))


def put(annals: Annals, subject: SubjectId, stage: str | None, kind: SubjectKind = USER) -> None:
    annals.manual_stages.apply(SetStage(kind, subject, stage, "a talk on the phone", EDITOR, NOON))


def release(annals: Annals, subject: SubjectId) -> None:
    annals.manual_stages.apply(ReleaseStage(USER, subject, EDITOR, NOON))


def path(annals: Annals, subject: SubjectId) -> list[str]:
    """Entered stages with a plus, left ones with a minus."""
    found = decisions(annals, subject, StageTransition)
    assert [event.ordinal for event in found] == list(range(1, len(found) + 1))
    return [("+" if isinstance(event, StageEntered) else "-") + event.stage for event in found]


def set_properties(annals: Annals, name: str, **values: object) -> SubjectId:
    write(annals, Change(USER, user(name), values, NOON))
    return found(annals, user(name))


def test_the_first_stage_whose_condition_holds_wins(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO, happy=IS_HAPPY))
    ada = set_properties(annals, "ada", plan="pro", mood="happy")
    settle(annals)
    assert standing(annals, ada) == ("paying", "normal")
    set_properties(annals, "ada", plan="free")
    settle(annals)
    assert standing(annals, ada) == ("happy", "normal")
    set_properties(annals, "ada", mood="sad")
    settle(annals)
    assert standing(annals, ada) == (None, "normal")
    assert path(annals, ada) == ["+paying", "-paying", "+happy", "-happy"]


def test_a_stage_is_entered_with_its_cause_and_what_was_seen(annals: Annals) -> None:
    id = activate(annals, stages(paying=IS_PRO))
    settle(annals)
    ada = set_properties(annals, "ada", plan="pro")
    settle(annals)
    [entered] = decisions(annals, ada, StageEntered)
    assert (entered.definition, entered.version) == (id, 2)
    assert isinstance(entered.cause, OfEvent)
    assert entered.saw == {"/stages/0/condition": {"value": "pro", "held": True}}
    assert not entered.by_hand


def test_a_stage_is_looked_for_only_once_its_list_is_active(annals: Annals) -> None:
    ada = set_properties(annals, "ada", plan="pro")
    id = DefinitionId(uuid.uuid4())
    annals.definitions.decide(
        lambda state: editing.make(state, id, stages(paying=IS_PRO), EDITOR), NOON
    )
    settle(annals)
    assert standing(annals, ada) == (None, "normal")
    annals.definitions.decide(lambda state: editing.activate(state, id, EDITOR), NOON)
    settle(annals)
    assert standing(annals, ada) == ("paying", "normal")
    [entered] = decisions(annals, ada, StageEntered)
    assert entered.cause == OfDefinition(2, DefinitionId(id))


def test_a_change_of_the_list_decides_everybody_anew(annals: Annals) -> None:
    id = activate(annals, stages(paying=IS_PRO, other=Not(IS_PRO)))
    ada = set_properties(annals, "ada", plan="trial")
    settle(annals)
    change(annals, id, stages(trial=IS_TRIAL, paying=IS_PRO, other=Not(IS_PRO)))
    settle(annals)
    assert path(annals, ada) == ["+other", "-other", "+trial"]
    assert decisions(annals, ada, StageEntered)[-1].cause == OfDefinition(3, id)
    archive(annals, id)
    settle(annals)
    assert standing(annals, ada) == (None, "normal")
    assert path(annals, ada)[-1] == "-trial"


def test_health_is_asked_of_the_profile_of_the_stage_good_before_bad(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    paying = activate(annals, profile("paying", good=IS_HAPPY, bad=Not(IS_SAD)))
    activate(annals, profile("trial", None, bad=IS_HAPPY))
    ada = set_properties(annals, "ada", plan="pro", mood="happy")
    settle(annals)
    assert standing(annals, ada) == ("paying", "good")
    [changed] = decisions(annals, ada, HealthChanged)
    assert (changed.before, changed.after) == (Health.NORMAL, Health.GOOD)
    assert changed.definition == paying
    assert changed.saw["/good"] == {"value": "happy", "held": True}
    set_properties(annals, "ada", mood="so so")
    settle(annals)
    assert standing(annals, ada) == ("paying", "bad")
    set_properties(annals, "ada", mood="sad")
    settle(annals)
    assert standing(annals, ada) == ("paying", "normal")
    set_properties(annals, "ada", plan="free", mood="happy")
    settle(annals)
    assert standing(annals, ada) == (None, "bad")


def test_a_change_that_moves_stage_and_health_leaves_no_turn_that_nobody_took(
    annals: Annals,
) -> None:
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    activate(annals, profile("paying", good=IS_HAPPY))
    activate(annals, profile("trial", bad=IS_HAPPY))
    well = define(annals, HealthIs([Health.GOOD]))
    ada = set_properties(annals, "ada", plan="trial")
    settle(annals)
    # As a trial she would be bad: but she is none any more.
    set_properties(annals, "ada", plan="pro", mood="happy")
    settle(annals)
    assert [decision.after for decision in decisions(annals, ada, HealthChanged)] == [Health.GOOD]
    assert members(annals, well) == {ada}


def test_health_without_a_profile_is_normal_again(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO))
    id = activate(annals, profile("paying", good=IS_HAPPY))
    ada = set_properties(annals, "ada", plan="pro", mood="happy")
    settle(annals)
    archive(annals, id)
    settle(annals)
    assert standing(annals, ada) == ("paying", "normal")
    assert len(decisions(annals, ada, HealthChanged)) == 2


def test_a_user_follows_its_account_through_stage_health_and_segment(annals: Annals) -> None:
    activate(annals, stages(ACCOUNT, paying=IS_PRO))
    activate(annals, profile("paying", good=IS_HAPPY, kind=ACCOUNT))
    activate(annals, stages(customer=OfAccounts(AnyOf(), StageIs(["paying"]))))
    of_well = define(annals, OfAccounts(AnyOf(), HealthIs([Health.GOOD])))
    write(annals, Join(user("ada"), account("acme"), {"plan": "pro", "mood": "happy"}, {}, NOON))
    settle(annals)
    ada, acme = found(annals, user("ada")), found(annals, account("acme"))
    assert standing(annals, acme) == ("paying", "good")
    assert standing(annals, ada) == ("customer", "normal")
    assert members(annals, of_well) == {ada}


def test_a_new_day_moves_who_was_active(annals: Annals) -> None:
    now = NOON
    decider = annals.decider(lambda: now)
    activate(annals, stages(active=Did("event", "login", period=LastDays(2))), NOON)
    write(annals, Track(user("ada"), (), event("login"), NOON))
    settle(annals, decider)
    ada = found(annals, user("ada"))
    assert standing(annals, ada)[0] == "active"
    now = NOON + timedelta(2)
    settle(annals, decider)
    assert standing(annals, ada)[0] is None
    [left] = decisions(annals, ada, StageLeft)
    assert left.cause == OfDay(now.date())


def test_a_stage_set_by_hand_stays_until_it_is_released(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    activate(annals, profile("trial", good=IS_HAPPY))
    ada = set_properties(annals, "ada", plan="pro", mood="happy")
    settle(annals)
    put(annals, ada, "trial")
    settle(annals)
    assert standing(annals, ada) == ("trial", "good")
    assert decisions(annals, ada, StageEntered)[-1].by_hand
    assert isinstance(decisions(annals, ada, StageEntered)[-1].cause, OfEvent)
    set_properties(annals, "ada", plan="free")
    settle(annals)
    assert standing(annals, ada)[0] == "trial"
    put(annals, ada, None)
    settle(annals)
    assert standing(annals, ada)[0] is None
    set_properties(annals, "ada", plan="pro")
    settle(annals)
    assert standing(annals, ada)[0] is None
    release(annals, ada)
    settle(annals)
    assert standing(annals, ada)[0] == "paying"
    assert path(annals, ada) == ["+paying", "-paying", "+trial", "-trial", "+paying"]
    assert not decisions(annals, ada, StageEntered)[-1].by_hand


def test_setting_by_hand_what_is_set_stores_nothing_and_so_does_releasing_nothing(
    annals: Annals,
) -> None:
    ada = set_properties(annals, "ada", plan="pro")
    release(annals, ada)
    put(annals, ada, "trial")
    put(annals, ada, "trial")
    release(annals, ada)
    release(annals, ada)
    rows = annals.log.read_streams({ada: 0})[ada]
    assert [row.topic for row in rows] == [
        "user.registered",
        "user.properties_changed",
        "user.stage_set",
        "user.stage_released",
    ]


def test_on_another_day_a_stage_is_decided_after_the_segments_that_it_asks_for(
    annals: Annals,
) -> None:
    is_away = Did("event", "login", DidNotOccur(), LastDays(1))
    away = define(annals, is_away)
    activate(annals, stages(missed=InSegment(away), gone=is_away))
    now = NOON
    decider = annals.decider(lambda: now)
    write(annals, Track(user("ada"), (), event("login"), NOON))
    ada = found(annals, user("ada"))
    settle(annals, decider)
    assert standing(annals, ada)[0] is None
    now += timedelta(days=1)
    settle(annals, decider)
    assert path(annals, ada) == ["+missed"]


def test_only_who_is_there_can_be_put_into_a_stage(annals: Annals) -> None:
    ada = set_properties(annals, "ada", plan="pro")
    with pytest.raises(NotFound):
        put(annals, SubjectId(uuid.uuid4()), "trial")
    with pytest.raises(NotFound):
        put(annals, ada, "trial", ACCOUNT)
    erase(annals, ada)
    with pytest.raises(NotFound):
        put(annals, ada, "trial")


def test_whoever_was_merged_is_set_by_hand_as_who_it_lives_on_in(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    ada, old = set_properties(annals, "ada"), set_properties(annals, "old", plan="pro")
    settle(annals)
    assert standing(annals, old)[0] == "paying"
    put(annals, old, "trial")
    write(annals, Alias(user("ada"), user("old"), NOON))
    settle(annals)
    # What was set of the one that was merged is hers now.
    assert standing(annals, ada)[0] == "trial"
    assert row(annals, "SELECT 1 FROM views.contacts WHERE subject = %s", old) is None
    for table in ("standings", "stage_spells"):
        assert row(annals, f"SELECT 1 FROM views.{table} WHERE subject = %s", old) is None
    put(annals, old, "paying")
    settle(annals)
    assert standing(annals, ada)[0] == "paying"


def test_what_was_decided_of_one_that_was_merged_meanwhile_leaves_nothing_behind(
    annals: Annals, database_url: str
) -> None:
    set_properties(annals, "ada")
    old = set_properties(annals, "old", plan="pro")
    write(annals, Alias(user("ada"), user("old"), NOON))
    settle(annals)
    before = dump(database_url)
    id, cause = DefinitionId(uuid.uuid4()), OfEvent(0, 1)
    late: list[DecisionEvent] = [
        StageEntered(id, 1, 1, cause, stage="paying"),
        HealthChanged(id, 1, 1, cause, before=Health.NORMAL, after=Health.BAD),
        ScoreChanged(id, 1, 1, cause, before=None, after=1.0),
        SignalTriggered(DefinitionId(uuid.uuid4()), 1, 1, cause),
    ]
    annals.decider()._recorder.record([(USER, old, decision) for decision in late], NOON)
    settle(annals)
    assert len(decisions(annals, old, DecisionEvent)) == len(late)
    assert dump(database_url) == before


def test_spells_say_when_each_stage_was_entered_and_left(annals: Annals) -> None:
    now = NOON
    decider = annals.decider(lambda: now)
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL), NOON)
    ada = set_properties(annals, "ada", plan="trial")
    settle(annals, decider)
    now += timedelta(hours=1)
    set_properties(annals, "ada", plan="pro")
    settle(annals, decider)
    now += timedelta(hours=1)
    set_properties(annals, "ada", plan="trial")
    settle(annals, decider)
    with annals.views.connection() as conn:
        spells = conn.execute(
            "SELECT stage, entered_at, left_at, by_hand FROM views.stage_spells"
            " WHERE subject = %s ORDER BY ordinal",
            (ada,),
        ).fetchall()
    hours = [NOON + timedelta(hours=n) for n in range(3)]
    assert spells == [
        ("trial", hours[0], hours[1], False),
        ("paying", hours[1], hours[2], False),
        ("trial", hours[2], None, False),
    ]


def test_bars_follow_what_is_decided(annals: Annals) -> None:
    activate(annals, stages(paying=IS_PRO))
    activate(annals, profile("paying", good=IS_HAPPY))
    for name in ("ada", "ben", "cyd"):
        set_properties(annals, name, plan="pro", mood="happy", mrr=10)
    set_properties(annals, "dan", plan="free")
    settle(annals)
    with annals.queries.connect() as conn:
        shown = bars_of_all(conn, USER)
    assert [(stage.stage, stage.count, stage.good, stage.normal) for stage in shown.stages] == [
        ("paying", 3, 3, 0),
        (None, 1, 0, 1),
    ]
    good = next(health for health in shown.health if health.health is Health.GOOD)
    assert [amount.amount for amount in good.mrr] == ["30"]


def test_decisions_of_an_erased_user_leave_nothing_behind(
    annals: Annals, database_url: str
) -> None:
    activate(annals, stages(paying=IS_PRO))
    activate(annals, profile("paying", good=IS_PRO))
    settle(annals)
    empty = dump(database_url)
    ada = set_properties(annals, "ada", plan="pro")
    settle(annals)
    put(annals, ada, None)
    settle(annals)
    erase(annals, ada)
    settle(annals)
    after = dump(database_url)
    for table in ("contacts", "standings", "stage_spells", "bar_counts"):
        assert after[table] == empty[table]


def test_what_was_decided_is_the_same_when_read_models_are_made_anew(
    annals: Annals, database_url: str
) -> None:
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    activate(annals, profile("paying", good=IS_HAPPY))
    ada = set_properties(annals, "ada", plan="trial", mood="happy")
    settle(annals)
    set_properties(annals, "ada", plan="pro")
    settle(annals)
    put(annals, ada, None)
    settle(annals)
    said, shown = decisions(annals, ada, DecisionEvent), dump(database_url)
    forget_read_models(database_url)
    settle(annals)
    assert decisions(annals, ada, DecisionEvent) == said
    after = dump(database_url)
    assert after == shown


def test_two_processes_at_once_decide_each_stage_and_health_once(
    open_annals: Callable[[], Annals],
) -> None:
    annals, other = open_annals(), open_annals()
    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    activate(annals, profile("paying", good=IS_HAPPY, bad=IS_SAD))
    names = [f"u{n}" for n in range(30)]
    with ExitStack() as stack:
        for process in (annals, other):
            stack.enter_context(workers.working(process, project=True))
        for plan, mood in (("trial", "sad"), ("pro", "happy"), ("trial", "sad"), ("pro", "sad")):
            values = {"plan": plan, "mood": mood}
            write(annals, *(Change(USER, user(name), dict(values), NOON) for name in names))
    settle(annals)
    for name in names:
        subject = found(annals, user(name))
        assert standing(annals, subject) == ("paying", "bad")
        steps = path(annals, subject)
        assert [step[0] for step in steps] == ["+", "-"] * (len(steps) // 2) + ["+"]
        for left, entered in zip(steps[1::2], steps[::2], strict=False):
            assert left[1:] == entered[1:]
        health = [Health.NORMAL]
        for decision in decisions(annals, subject, HealthChanged):
            assert decision.before is health[-1] is not decision.after
            health.append(decision.after)


def test_what_was_recorded_before_a_crash_is_not_recorded_again(annals: Annals) -> None:
    class Dying:
        def record(self, *arguments: Any) -> None:
            recorder.record(*arguments)
            raise RuntimeError("killed")

    activate(annals, stages(paying=IS_PRO, trial=IS_TRIAL))
    ada = set_properties(annals, "ada", plan="trial")
    settle(annals)
    set_properties(annals, "ada", plan="pro")
    project(annals)
    decider = annals.decider()
    recorder, decider._recorder = decider._recorder, Dying()
    with pytest.raises(RuntimeError):
        decider.step()
    decider._recorder = recorder
    settle(annals, decider)
    assert path(annals, ada) == ["+trial", "-trial", "+paying"]
