"""A signal over a replayed past."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from domain.calendar import Moment
from domain.conditions.evaluation import World, holds
from domain.definitions.types import (
    DefinitionId,
    Signal,
)
from domain.events.decisions import OfDay, SignalTriggered
from domain.workspace.signals import SignalState, following


class SignalPast:
    """The state of a signal for each subject."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.states: dict[UUID, SignalState] = {}
        self.timers: dict[UUID, datetime] = {}
        self.today: Counter[type] = Counter()
        """The steps of counted subjects on the day that is being decided, by type."""

    def decide(self, id: UUID, world: World, moment: Moment, *, counts: bool) -> bool:
        """Decides the next steps of a subject. Returns whether the signal is on."""
        signal, state = self.signal, self.states.get(id, SignalState())
        goal = signal.goal
        coming = following(
            signal,
            state,
            holds=holds(signal.condition, id, world, moment),
            goal_holds=goal is not None and holds(goal, id, world, moment),
            now=moment.now,
        )
        for step in coming.steps:
            at = step.of_time or moment.now
            place = (DefinitionId(UUID(int=0)), state.ordinal + 1, 0, OfDay(moment.today))
            event = (
                SignalTriggered(*place, goal_due_at=coming.goal_due_at)
                if step.what is SignalTriggered
                else step.what(*place)
            )
            state = state.evolve(event, at)
            if counts:
                self.today[step.what] += 1
        if coming.steps:
            self.states[id] = state
        again = coming.look_again_at
        if state.goal_due_at is not None and state.goal == "waiting":
            again = min(again or state.goal_due_at, state.goal_due_at)
        if again is None:
            self.timers.pop(id, None)
        else:
            self.timers[id] = again
        return state.is_on

    def due(self, now: datetime) -> Iterator[UUID]:
        return (id for id, at in self.timers.items() if at <= now)
