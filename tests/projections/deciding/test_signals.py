"""Signals: when they turn on and off, when they may again, and what becomes of their goals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.commands import Alias, Change
from domain.conditions.language import Is, PropertyIs, SignalIs
from domain.events.decisions import (
    DecisionEvent,
    GoalMissed,
    GoalReached,
    OfEvent,
    OfTime,
    SignalEnded,
    SignalTriggered,
)
from domain.identity import SubjectId, SubjectKind
from infra import workers
from infra.bootstrap.annals import Annals
from projections.deciding.process_manager import ProcessManager
from tests.infra.erasures import erase
from tests.projections.definitions import activate, archive, change, decisions, row, signal
from tests.projections.read_models import (
    NOON,
    dump,
    forget_read_models,
    found,
    project,
    user,
    write,
)
from tests.projections.segments import define, members, settle

USER = SubjectKind.USER
IS_STUCK = PropertyIs("stuck", Is(True))
IS_HELPED = PropertyIs("helped", Is(True))
HOUR = timedelta(hours=1)


class Hours:
    """A decider whose clock goes on by hours, and a user who gets stuck and is helped."""

    def __init__(self, annals: Annals) -> None:
        self.annals = annals
        self.now = NOON
        self.decider: ProcessManager = annals.decider(lambda: self.now)
        write(annals, Change(USER, user("ada"), {"stuck": False, "helped": False}, NOON))
        self.ada = found(annals, user("ada"))

    def wait(self, hours: int) -> None:
        self.now += hours * HOUR
        self.settle()

    def is_now(self, **values: object) -> None:
        write(self.annals, Change(USER, user("ada"), values, self.now))
        self.settle()

    def settle(self) -> None:
        settle(self.annals, self.decider)

    def history(self, subject: SubjectId | None = None) -> list[tuple[str, int]]:
        """What happened, each with the hour in which it was decided."""
        rows = self.annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
        steps: list[tuple[str, int]] = []
        for event in self.annals.sealer.open_rows(rows):
            if event.row.stream == (subject or self.ada) and isinstance(
                event.payload, DecisionEvent
            ):
                hour = (event.row.occurred_at - NOON) // HOUR
                steps.append((type(event.payload).__name__, hour))
        return steps


def timers(annals: Annals) -> list[datetime]:
    with annals.views.connection() as conn:
        return [at for (at,) in conn.execute("SELECT due_at FROM views.timers ORDER BY due_at")]


@pytest.fixture
def hours(annals: Annals) -> Hours:
    return Hours(annals)


def test_a_signal_triggers_and_ends_with_what_was_seen(annals: Annals, hours: Hours) -> None:
    id = activate(annals, signal(IS_STUCK), NOON)
    hours.settle()
    hours.is_now(stuck=True)
    hours.wait(1)
    hours.is_now(stuck=False)
    assert hours.history() == [("SignalTriggered", 0), ("SignalEnded", 1)]
    triggered, ended = decisions(annals, hours.ada, DecisionEvent)
    assert (triggered.definition, triggered.version, triggered.ordinal) == (id, 2, 1)
    assert isinstance(triggered.cause, OfEvent)
    assert triggered.saw == {"/condition": {"value": True, "held": True}}
    assert ended.saw == {"/condition": {"value": False, "held": False}}
    shown = row(annals, "SELECT is_on, triggered_at, ended_at, triggers FROM views.signals")
    assert shown == (False, NOON, NOON + HOUR, 1)


def test_without_re_entry_it_triggers_once(annals: Annals, hours: Hours) -> None:
    activate(annals, signal(IS_STUCK), NOON)
    for stuck in (True, False, True):
        hours.is_now(stuck=stuck)
        hours.wait(1)
    assert hours.history() == [("SignalTriggered", 0), ("SignalEnded", 1)]
    assert timers(annals) == []


def test_the_clock_lets_it_trigger_again_while_its_condition_holds(
    annals: Annals, hours: Hours
) -> None:
    activate(annals, signal(IS_STUCK, reentry_hours=4), NOON)
    for stuck in (True, False, True):
        hours.is_now(stuck=stuck)
        hours.wait(1)
    assert hours.history() == [("SignalTriggered", 0), ("SignalEnded", 1)]
    assert timers(annals) == [NOON + 4 * HOUR]
    hours.wait(1)
    assert hours.history()[2:] == [("SignalTriggered", 4)]
    [_, again] = decisions(annals, hours.ada, SignalTriggered)
    assert again.cause == OfTime(NOON + 4 * HOUR)
    assert timers(annals) == []


def test_a_re_entry_of_which_nothing_holds_by_then_waits_for_the_condition(
    annals: Annals, hours: Hours
) -> None:
    activate(annals, signal(IS_STUCK, reentry_hours=4), NOON)
    for stuck in (True, False, True, False):
        hours.is_now(stuck=stuck)
    hours.wait(5)
    assert hours.history() == [("SignalTriggered", 0), ("SignalEnded", 0)]
    assert timers(annals) == []
    hours.is_now(stuck=True)
    assert hours.history()[2:] == [("SignalTriggered", 5)]


def test_a_shorter_re_entry_lets_those_in_who_waited(annals: Annals, hours: Hours) -> None:
    id = activate(annals, signal(IS_STUCK, reentry_hours=100), NOON)
    for stuck in (True, False, True):
        hours.is_now(stuck=stuck)
    hours.wait(3)
    change(annals, id, signal(IS_STUCK, reentry_hours=2))
    hours.settle()
    assert hours.history()[2:] == [("SignalTriggered", 3)]


def test_a_goal_is_reached_in_time(annals: Annals, hours: Hours) -> None:
    activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4), NOON)
    hours.is_now(stuck=True)
    assert row(annals, "SELECT goal, goal_due_at FROM views.signals") == (
        "waiting",
        NOON + 4 * HOUR,
    )
    hours.is_now(stuck=False)
    hours.wait(3)
    hours.is_now(helped=True)
    hours.wait(3)
    assert hours.history() == [("SignalTriggered", 0), ("SignalEnded", 0), ("GoalReached", 3)]
    assert row(annals, "SELECT goal FROM views.signals") == ("reached",)


def test_a_goal_is_missed_when_its_time_is_over(annals: Annals, hours: Hours) -> None:
    activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4), NOON)
    hours.is_now(stuck=True)
    hours.wait(3)
    assert hours.history() == [("SignalTriggered", 0)]
    hours.wait(1)
    hours.is_now(helped=True)
    assert hours.history() == [("SignalTriggered", 0), ("GoalMissed", 4)]
    [missed] = decisions(annals, hours.ada, GoalMissed)
    assert missed.cause == OfTime(NOON + 4 * HOUR)
    assert missed.saw["/goal"] == {"value": False, "held": False}
    assert row(annals, "SELECT goal FROM views.signals") == ("missed",)


def test_an_archived_signal_ends_and_is_waited_for_no_more(annals: Annals, hours: Hours) -> None:
    id = activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4), NOON)
    hours.is_now(stuck=True)
    archive(annals, id)
    hours.wait(9)
    assert [what for what, _ in hours.history()] == ["SignalTriggered", "SignalEnded"]
    assert timers(annals) == []


def test_a_segment_follows_a_signal_and_a_signal_a_signal(annals: Annals, hours: Hours) -> None:
    activate(annals, signal(IS_STUCK), NOON)
    activate(annals, signal(SignalIs("alarm", True), name="echo"), NOON)
    alarmed = define(annals, SignalIs("echo", True))
    calm = define(annals, SignalIs("echo", False))
    hours.settle()
    assert (members(annals, alarmed), members(annals, calm)) == (set(), {hours.ada})
    hours.is_now(stuck=True)
    assert (members(annals, alarmed), members(annals, calm)) == ({hours.ada}, set())
    hours.is_now(stuck=False)
    assert (members(annals, alarmed), members(annals, calm)) == (set(), {hours.ada})


def test_the_signal_of_one_that_was_merged_goes_and_the_other_is_asked_anew(
    annals: Annals, hours: Hours
) -> None:
    activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4), NOON)
    write(annals, Change(USER, user("old"), {"angry": True, "stuck": True}, NOON))
    hours.settle()
    old = found(annals, user("old"))
    assert hours.history(old) == [("SignalTriggered", 0)]
    write(annals, Change(USER, user("eve"), {}, NOON))
    write(annals, Alias(user("eve"), user("old"), NOON))
    hours.settle()
    eve = found(annals, user("eve"))
    assert hours.history(eve) == [("SignalTriggered", 0)]
    hours.wait(4)
    assert hours.history(eve)[1:] == [("GoalMissed", 4)]
    assert hours.history(old) == [("SignalTriggered", 0)]
    assert row(annals, "SELECT 1 FROM views.signals WHERE subject = %s", old) is None


def test_timers_of_an_erased_user_are_gone_and_nothing_comes_of_the_clock(
    annals: Annals, hours: Hours
) -> None:
    activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4), NOON)
    hours.is_now(stuck=True)
    assert timers(annals) == [NOON + 4 * HOUR]
    erase(annals, hours.ada)
    project(annals)
    assert timers(annals) == []
    hours.wait(9)
    assert row(annals, "SELECT 1 FROM views.signals") is None


def test_read_models_that_are_made_anew_wait_for_the_same(
    annals: Annals, hours: Hours, database_url: str
) -> None:
    activate(annals, signal(IS_STUCK, reentry_hours=9, goal=IS_HELPED, goal_hours=4), NOON)
    for stuck in (True, False, True):
        hours.is_now(stuck=stuck)
    before, said = dump(database_url)["signals"], hours.history()
    forget_read_models(database_url)
    hours.settle()
    assert dump(database_url)["signals"] == before
    assert timers(annals) == [NOON + 4 * HOUR]
    hours.wait(4)
    assert timers(annals) == [NOON + 9 * HOUR]
    hours.wait(5)
    assert hours.history() == [*said, ("GoalMissed", 4), ("SignalTriggered", 9)]


def test_a_tick_that_dies_after_recording_records_nothing_twice(
    annals: Annals, hours: Hours
) -> None:
    class Dying:
        def record(self, *arguments: Any) -> None:
            recorder.record(*arguments)
            raise RuntimeError("killed")

    activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4), NOON)
    hours.is_now(stuck=True)
    hours.now += 4 * HOUR
    recorder, hours.decider._recorder = hours.decider._recorder, Dying()
    with pytest.raises(RuntimeError):
        hours.decider.tick()
    hours.decider._recorder = recorder
    assert timers(annals) == [NOON + 4 * HOUR]
    assert hours.decider.tick() == 1
    hours.settle()
    assert hours.history() == [("SignalTriggered", 0), ("GoalMissed", 4)]


def test_two_processes_at_once_trigger_and_end_each_once(
    open_annals: Callable[[], Annals],
) -> None:
    annals, other = open_annals(), open_annals()
    activate(annals, signal(IS_STUCK, goal=IS_HELPED, goal_hours=4))
    names = [f"u{n}" for n in range(30)]
    with ExitStack() as stack:
        for process in (annals, other):
            stack.enter_context(workers.working(process, project=True))
        for values in ({"stuck": True}, {"stuck": False, "helped": True}, {"helped": False}):
            write(annals, *(Change(USER, user(name), {**values}, NOON) for name in names))
    settle(annals)
    for name in names:
        steps = decisions(annals, found(annals, user(name)), DecisionEvent)
        assert [step.ordinal for step in steps] == list(range(1, len(steps) + 1))
        kinds = [type(step) for step in steps]
        if kinds:  # whether she was seen as stuck does not matter
            assert kinds[0] is SignalTriggered
            assert kinds.count(SignalTriggered) == kinds.count(SignalEnded) == 1
            assert kinds.count(GoalReached) <= 1
