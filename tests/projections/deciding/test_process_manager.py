"""Segments follow what happens: who enters, who leaves, when and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from domain.calendar import LastDays
from domain.commands import Change, Join, Leave, Track
from domain.conditions.language import (
    AnyOf,
    Did,
    InSegment,
    Is,
    IsSet,
    Not,
    OfAccounts,
    OfUsers,
    PropertyIs,
)
from domain.definitions.types import Segment
from domain.events.decisions import OfDefinition, OfEvent, SegmentEntered, SegmentLeft
from domain.identity import SubjectKind
from infra import workers
from infra.bootstrap.annals import Annals
from projections.deciding.affected_rules import affected
from projections.models import sweeps
from projections.projector.projector import Projector
from tests.infra.erasures import erase
from tests.projections.definitions import change
from tests.projections.read_models import NOON, account, event, found, project, user, write
from tests.projections.segments import (
    assert_each_once_and_in_turn,
    define,
    members,
    settle,
    transitions,
)

USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT
IS_PRO = PropertyIs("plan", Is("pro"))


def test_a_user_enters_and_leaves_with_the_event_that_did_it(annals: Annals) -> None:
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    pros = define(annals, IS_PRO)
    settle(annals)
    assert members(annals, pros) == set()
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    settle(annals)
    ada = found(annals, user("ada"))
    assert members(annals, pros) == {ada}
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    assert members(annals, pros) == set()
    [entered, left] = transitions(annals)[ada, pros]
    assert isinstance(entered, SegmentEntered)
    assert isinstance(entered.cause, OfEvent)
    assert isinstance(left, SegmentLeft)


def test_a_new_segment_takes_in_who_is_there(annals: Annals) -> None:
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    settle(annals)
    pros = define(annals, IS_PRO)
    settle(annals)
    ada = found(annals, user("ada"))
    assert members(annals, pros) == {ada}
    [entered] = transitions(annals)[ada, pros]
    assert entered.cause == OfDefinition(1)


def test_segments_inside_others_and_over_memberships_follow(annals: Annals) -> None:
    pros = define(annals, IS_PRO, ACCOUNT)
    of_pros = define(annals, OfAccounts(AnyOf(), InSegment(pros)))
    both = define(annals, InSegment(of_pros))
    settle(annals)
    write(annals, Join(user("ada"), account("acme"), {"plan": "free"}, {}, NOON))
    settle(annals)
    assert members(annals, of_pros) == set()
    write(annals, Change(ACCOUNT, account("acme"), {"plan": "pro"}, NOON))
    settle(annals)
    ada = found(annals, user("ada"))
    assert members(annals, of_pros) == members(annals, both) == {ada}
    write(annals, Leave(user("ada"), account("acme"), NOON + timedelta(1)))
    settle(annals)
    assert members(annals, of_pros) == members(annals, both) == set()
    assert_each_once_and_in_turn(annals)


def test_an_account_follows_its_users_and_takes_them_along_when_it_is_merged(
    annals: Annals,
) -> None:
    with_pros = define(annals, OfUsers(AnyOf(), IS_PRO), ACCOUNT)
    of_big = define(annals, OfAccounts(AnyOf(), PropertyIs("seats", Is(9))))
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    write(annals, Change(ACCOUNT, account("big"), {"seats": 9}, NOON))
    write(annals, Change(ACCOUNT, account("acme"), {"seats": 1}, NOON))
    settle(annals)
    assert members(annals, with_pros) == set()
    write(annals, Join(user("ada"), account("acme"), {}, {}, NOON))
    settle(annals)
    assert members(annals, with_pros) == {found(annals, account("acme"))}
    assert members(annals, of_big) == set()
    write(annals, Change(ACCOUNT, account("big") + account("acme"), {}, NOON))
    settle(annals)
    assert members(annals, with_pros) == {found(annals, account("big"))}
    assert members(annals, of_big) == {found(annals, user("ada"))}
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    assert members(annals, with_pros) == set()
    write(annals, Leave(user("ada"), account("acme"), NOON + timedelta(1)))
    settle(annals)
    assert members(annals, of_big) == set()


def test_who_was_active_leaves_when_the_days_are_over(annals: Annals) -> None:
    now = NOON
    decider = annals.decider(lambda: now)
    active = define(annals, Did("event", "login", period=LastDays(2)))
    write(annals, Track(user("ada"), (), event("login"), NOON))
    settle(annals, decider)
    ada = found(annals, user("ada"))
    assert members(annals, active) == {ada}
    now = NOON + timedelta(1)
    settle(annals, decider)
    assert members(annals, active) == {ada}
    now = NOON + timedelta(2)
    settle(annals, decider)
    assert members(annals, active) == set()


def one_by_one(annals: Annals) -> Projector:
    return Projector(
        log=annals.log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=annals.workspace_now,
        batch_events=1,
    )


def test_what_was_decided_too_late_is_put_right(annals: Annals) -> None:
    class Late:
        """Something happens between looking and recording."""

        def record(self, *arguments: Any) -> None:
            write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
            recorder.record(*arguments)

    pros = define(annals, IS_PRO)
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    project(annals)
    decider = annals.decider()
    recorder, decider._recorder = decider._recorder, Late()
    assert decider.step()
    decider._recorder = recorder
    projector = one_by_one(annals)
    while projector.step():
        decider.step()
    projector.release()
    settle(annals, decider)
    assert members(annals, pros) == set()
    assert [
        type(transition) for transition in transitions(annals)[found(annals, user("ada")), pros]
    ] == [
        SegmentEntered,
        SegmentLeft,
    ]


def test_a_sweep_decides_by_the_definition_that_began_it(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"u{n}" for n in range(20)]
    write(annals, *(Change(USER, user(name), {"plan": "pro"}, NOON) for name in names))
    some = define(annals, IS_PRO)
    settle(annals)
    decider = annals.decider()
    change(annals, some, Segment(USER, "Some", PropertyIs("plan", IsSet())))
    project(annals)
    lock = sweeps.lock_unfinished

    def after_a_change(*arguments: Any) -> Any:
        """The definition changes after the decider read the rules, before it locks the sweep."""
        monkeypatch.undo()
        change(annals, some, Segment(USER, "Others", Not(IS_PRO)))
        project(annals)
        return lock(*arguments)

    monkeypatch.setattr(sweeps, "lock_unfinished", after_a_change)
    assert decider.sweep()
    settle(annals, decider)
    assert members(annals, some) == set()


def test_what_several_processes_decide_at_once_is_recorded_once(
    open_annals: Callable[[], Annals],
) -> None:
    annals, other = open_annals(), open_annals()
    pros = define(annals, IS_PRO)
    others = define(annals, Not(InSegment(pros)))
    names = [f"u{n}" for n in range(30)]
    with ExitStack() as stack:
        for process in (annals, other):
            stack.enter_context(workers.working(process, project=True))
        for plan in ("pro", "free", "pro", "free", "pro"):
            write(annals, *(Change(USER, user(name), {"plan": plan}, NOON) for name in names))
            time.sleep(0.1)  # so that some of it is seen; whether it is does not matter
    settle(annals)
    everyone = {found(annals, user(name)) for name in names}
    assert members(annals, pros) == everyone
    assert members(annals, others) == set()
    assert_each_once_and_in_turn(annals)


def test_what_became_of_an_erased_user_is_not_decided_any_more(annals: Annals) -> None:
    pros = define(annals, IS_PRO)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    project(annals)
    ada = found(annals, user("ada"))
    erase(annals, ada)
    assert annals.decider().sweep() >= 0  # the read models show her still; her key is gone
    settle(annals)
    assert members(annals, pros) == set()
    assert transitions(annals) == {}


def test_read_models_that_are_made_anew_make_no_history_up(annals: Annals) -> None:
    pros = define(annals, IS_PRO)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    settle(annals)
    for plan in ("free", "pro"):  # by the time that it is decided, she is a pro again
        write(annals, Change(USER, user("ada"), {"plan": plan}, NOON))
    settle(annals)
    before = transitions(annals)
    projector, decider = annals.projector(), annals.decider()
    projector.start_over()
    small = one_by_one(annals)
    while small.step():
        decider.step()
        decider.sweep()
    small.release()
    settle(annals, decider)
    assert members(annals, pros) == {found(annals, user("ada"))}
    assert transitions(annals) == before


def test_the_cause_is_what_happened_though_a_decision_on_it_was_recorded_after(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that comes between a look and the record of what it found stands before it."""
    pros = define(annals, IS_PRO)
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    project(annals)
    append = annals.working_log.append

    def after_another_write(*asked: Any) -> Any:
        monkeypatch.undo()
        write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
        return append(*asked)

    monkeypatch.setattr(annals.working_log, "append", after_another_write)
    settle(annals)
    [entered, left] = transitions(annals)[found(annals, user("ada")), pros]
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 100)
    topics = {OfEvent(row.log_partition, row.position): row.topic for row in rows}
    assert [topics[decision.cause] for decision in (entered, left)] == [
        "user.properties_changed"
    ] * 2


def test_the_cause_is_what_happened_though_only_a_decision_was_noted_when_it_was_looked(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is projected between a look at the notes and a look at the subjects is seen too."""
    pros = define(annals, IS_PRO)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    settle(annals)
    ada = found(annals, user("ada"))
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    project(annals)
    decider = annals.decider()
    assert decider.step()
    project(annals)  # the decision, which is noted

    def and_another_write(*asked: Any) -> Any:
        monkeypatch.undo()
        due = affected(*asked)
        write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
        project(annals)
        return due

    monkeypatch.setattr("projections.deciding.process_manager.affected", and_another_write)
    settle(annals)
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 100)
    topics = {OfEvent(row.log_partition, row.position): row.topic for row in rows}
    [*_, entered, left] = transitions(annals)[ada, pros]
    assert [topics[decision.cause] for decision in (entered, left)] == [
        "user.properties_changed"
    ] * 2
