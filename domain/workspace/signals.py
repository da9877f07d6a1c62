"""A signal of one subject: its state by its history, and its next steps.

It is on while its condition holds, and triggers when it turns on: the first time, and again after
the hours of the playbook, if it has any. Until then it stays off though its condition holds. The
goal is watched from the trigger until it is reached or its time is over, whether the signal is
still on or not; another trigger meanwhile begins the watch anew.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from domain.definitions.types import Signal
from domain.events.decisions import (
    DecisionEvent,
    GoalMissed,
    GoalReached,
    SignalEnded,
    SignalTriggered,
)


class Goal(enum.StrEnum):
    WAITING = "waiting"
    REACHED = "reached"
    MISSED = "missed"


class SignalState(NamedTuple):
    """The state of a signal by its history.

    Attributes:
        ordinal: number of events so far.
        triggered_at: the last time.
        triggers: how often.
        goal: of the last trigger; None: it has none.
        goal_due_at: the time by which the goal must be reached.
    """

    ordinal: int = 0
    is_on: bool = False
    triggered_at: datetime | None = None
    ended_at: datetime | None = None
    triggers: int = 0
    goal: Goal | None = None
    goal_due_at: datetime | None = None

    def evolve(self, event: DecisionEvent, at: datetime) -> SignalState:
        """The state after an event that occurred at an instant."""
        state = self._replace(ordinal=event.ordinal)
        match event:
            case SignalTriggered():
                due = event.goal_due_at
                return state._replace(
                    is_on=True,
                    triggered_at=at,
                    ended_at=None,
                    triggers=state.triggers + 1,
                    goal=None if due is None else Goal.WAITING,
                    goal_due_at=due,
                )
            case SignalEnded():
                return state._replace(is_on=False, ended_at=at)
            case GoalReached():
                return state._replace(goal=Goal.REACHED)
            case GoalMissed():
                return state._replace(goal=Goal.MISSED)
            case _:
                return state


class Step(NamedTuple):
    """A step of a signal.

    Attributes:
        of_time: the instant that caused it; None: a change of facts caused it.
    """

    what: type[SignalTriggered | SignalEnded | GoalReached | GoalMissed]
    of_time: datetime | None = None


class Next(NamedTuple):
    """The present steps of a signal, and when the clock alone requires the next look.

    Attributes:
        goal_due_at: for a trigger among the steps.
    """

    steps: list[Step]
    look_again_at: datetime | None
    goal_due_at: datetime | None


def reentry_at(signal: Signal, state: SignalState) -> datetime | None:
    """When a signal that triggered before may do so again; None: never, or at once."""
    if state.triggered_at is None or signal.reentry_hours is None:
        return None
    return state.triggered_at + timedelta(hours=signal.reentry_hours)


def following(
    signal: Signal | None, state: SignalState, *, holds: bool, goal_holds: bool, now: datetime
) -> Next:
    """Returns the next steps of a signal.

    Args:
        signal: None: it is archived, and can only turn off.
        holds, goal_holds: whether its condition and its goal hold now.
    """
    if signal is None:
        return Next([Step(SignalEnded)] if state.is_on else [], None, None)
    steps: list[Step] = []
    again: list[datetime] = []
    if signal.goal is not None and state.goal is Goal.WAITING:
        steps += _watched(state.goal_due_at, goal_holds, now)
        if not steps and state.goal_due_at is not None:
            again.append(state.goal_due_at)
    if state.is_on and not holds:
        steps.append(Step(SignalEnded))
    elif holds and not state.is_on:
        may = reentry_at(signal, state)
        if state.triggers and may is not None and may > now:
            again.append(may)
        elif not state.triggers or may is not None:
            due = _goal_due(signal, now)
            steps.append(Step(SignalTriggered))
            if due is not None and goal_holds:
                steps.append(Step(GoalReached))
            return Next(steps, None, due)
    return Next(steps, min(again, default=None), None)


def _watched(due: datetime | None, goal_holds: bool, now: datetime) -> Iterator[Step]:
    if due is not None and due <= now:
        yield Step(GoalMissed, due)
    elif goal_holds:
        yield Step(GoalReached)


def _goal_due(signal: Signal, now: datetime) -> datetime | None:
    if signal.goal is None or signal.goal_hours is None:
        return None
    return now + timedelta(hours=signal.goal_hours)
