"""A signal of one subject, as its playbook has it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.conditions.language import AllOf
from domain.definitions.types import DefinitionId, Signal
from domain.events.decisions import (
    DecisionEvent,
    GoalMissed,
    GoalReached,
    OfRebuild,
    SignalEnded,
    SignalTriggered,
)
from domain.identity import SubjectKind
from domain.workspace.signals import Goal, Next, SignalState, following

NOON = datetime(2024, 5, 13, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ID = DefinitionId(uuid.uuid4())
ONCE = Signal(SubjectKind.USER, "s", AllOf([]))
AGAIN = Signal(SubjectKind.USER, "s", AllOf([]), reentry_hours=4)
HOPING = Signal(SubjectKind.USER, "s", AllOf([]), 4, AllOf([]), 2)


class Play:
    """A signal that is looked at as the hours go by."""

    def __init__(self, signal: Signal | None) -> None:
        self.signal = signal
        self.state = SignalState()
        self.now = NOON
        self.history: list[tuple[int, type[DecisionEvent]]] = []
        self.look_again_at: datetime | None = None

    def look(self, hour: int, *, holds: bool, goal: bool = False) -> list[type[DecisionEvent]]:
        self.now = NOON + hour * HOUR
        coming = following(self.signal, self.state, holds=holds, goal_holds=goal, now=self.now)
        for step in coming.steps:
            self._happen(step.what, coming, hour)
        self.look_again_at = coming.look_again_at
        return [step.what for step in coming.steps]

    def _happen(self, what: Any, coming: Next, hour: int) -> None:
        more = {"goal_due_at": coming.goal_due_at} if what is SignalTriggered else {}
        event = what(ID, self.state.ordinal + 1, 1, OfRebuild(), {}, **more)
        self.state = self.state.evolve(event, self.now)
        self.history.append((hour, what))


def test_a_signal_triggers_when_it_turns_on_and_ends_when_it_turns_off() -> None:
    play = Play(ONCE)
    assert play.look(0, holds=False) == []
    assert play.look(1, holds=True) == [SignalTriggered]
    assert play.look(2, holds=True) == []
    assert play.look(3, holds=False) == [SignalEnded]
    assert (play.state.triggered_at, play.state.ended_at) == (NOON + HOUR, NOON + 3 * HOUR)


def test_without_re_entry_it_triggers_once() -> None:
    play = Play(ONCE)
    play.look(0, holds=True)
    play.look(1, holds=False)
    assert play.look(1_000, holds=True) == []
    assert play.look_again_at is None


def test_it_triggers_again_once_the_time_since_it_last_triggered_is_over() -> None:
    play = Play(AGAIN)
    play.look(0, holds=True)
    play.look(1, holds=False)
    assert play.look(2, holds=True) == []
    assert play.look_again_at == NOON + 4 * HOUR
    assert play.look(4, holds=True) == [SignalTriggered]
    assert play.state.triggers == 2


def test_it_does_not_wait_for_a_re_entry_of_which_nothing_holds() -> None:
    play = Play(AGAIN)
    play.look(0, holds=True)
    play.look(1, holds=False)
    play.look(2, holds=True)
    assert play.look(3, holds=False) == []
    assert play.look_again_at is None
    assert play.look(9, holds=True) == [SignalTriggered]


def test_a_goal_is_reached_in_time_whether_the_signal_is_still_on_or_not() -> None:
    play = Play(HOPING)
    play.look(0, holds=True)
    assert play.look_again_at is None  # its event is looked at, and says until when to wait
    assert play.look(0, holds=True) == []
    assert play.look_again_at == NOON + 2 * HOUR
    play.look(1, holds=False)
    assert play.state.goal is Goal.WAITING
    assert play.look(1, holds=False, goal=True) == [GoalReached]
    assert play.look(1, holds=False, goal=True) == []


def test_a_goal_is_missed_when_its_time_is_over_though_it_holds_by_then() -> None:
    play = Play(HOPING)
    play.look(0, holds=True)
    assert play.look(2, holds=True, goal=True) == [GoalMissed]
    coming = following(
        HOPING, SignalState(1, True, NOON, None, 1, Goal.WAITING, NOON), holds=True,
        goal_holds=False, now=NOON + HOUR,
    )  # fmt: skip
    assert coming.steps[0].of_time == NOON


def test_a_goal_that_holds_already_is_reached_with_the_trigger() -> None:
    assert Play(HOPING).look(0, holds=True, goal=True) == [SignalTriggered, GoalReached]


def test_what_is_archived_ends_and_does_nothing_more() -> None:
    play = Play(HOPING)
    play.look(0, holds=True)
    play.signal = None
    assert play.look(1, holds=False) == [SignalEnded]
    assert play.look(9, holds=False, goal=True) == []
    assert play.look_again_at is None


looks = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=25)
playbooks = st.builds(
    lambda reentry, goal: Signal(
        SubjectKind.USER, "s", AllOf([]), reentry, AllOf([]) if goal else None, goal
    ),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 5),
)


@given(playbooks, looks)
def test_whatever_is_looked_at_the_history_keeps_to_the_playbook(
    signal: Signal, steps: list[tuple[int, bool, bool]]
) -> None:
    play = Play(signal)
    hour, is_on, triggered, waits_until = 0, False, None, None
    for hours, holds, goal in steps:
        hour += hours
        for what in play.look(hour, holds=holds, goal=goal):
            if what is SignalTriggered:
                assert holds
                assert not is_on
                if triggered is not None:
                    assert signal.reentry_hours is not None
                    assert hour >= triggered + signal.reentry_hours
                is_on, triggered = True, hour
                waits_until = None if signal.goal_hours is None else hour + signal.goal_hours
            elif what is SignalEnded:
                assert is_on
                assert not holds
                is_on = False
            else:
                assert waits_until is not None
                reached = what is GoalReached
                assert reached is (hour < waits_until)
                assert goal or not reached
                waits_until = None
        assert play.state.is_on is is_on
        # Looked at twice, it does nothing more.
        assert play.look(hour, holds=holds, goal=goal) == []
        # It is on while its condition holds, unless its re-entry is not due; then it is looked at.
        may = triggered is None or (
            signal.reentry_hours is not None and hour >= triggered + signal.reentry_hours
        )
        assert is_on is holds or (holds and not may)
        due = [waits_until] if waits_until is not None else []
        if holds and not is_on and triggered is not None and signal.reentry_hours is not None:
            due.append(triggered + signal.reentry_hours)
        expected = NOON + min(due) * HOUR if due else None
        assert play.look_again_at == expected
