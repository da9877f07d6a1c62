"""Rule: when a signal turns on and off, and the state of its goal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.calendar import Moment
from domain.definitions.types import DefinitionId, Signal
from domain.events.decisions import DecisionCause, DecisionEvent, OfTime, SignalTriggered
from domain.identity import SubjectKind
from domain.workspace.dependencies import SIGNAL, Dependency, Fact
from domain.workspace.signals import Goal, SignalState, following, reentry_at
from projections.conditions.compiler import QueryScope
from projections.deciding.rules.rule import (
    NOW,
    Row,
    Rule,
    Verdict,
    computed_once,
    holds,
    of_contact,
    saw,
    select,
)
from projections.kernel.tables import contacts, signals, timers


class SignalRule(Rule):
    """
    Args:
    signal: None: it is archived.
    """

    def __init__(
        self,
        id: DefinitionId,
        version: int,
        kind: SubjectKind,
        signal: Signal | None,
        rests_on: set[Dependency],
        *,
        asks_the_calendar: bool,
    ) -> None:
        decides = Fact(kind.value, SIGNAL, (str(id),))
        super().__init__(str(id), kind, decides, rests_on, asks_the_calendar=asks_the_calendar)
        self._id = id
        self._version = version
        self._signal = signal

    def differing(self, moment: Moment, scope: QueryScope) -> sa.Select[Any]:
        """Finds also the subjects that need a timer."""
        s, t, signal = signals.c, timers.c, self._signal
        condition, goal = (signal.condition, signal.goal) if signal else (None, None)
        looked = computed_once(
            "looked",
            holds(condition, self.kind, moment, scope).label("holds"),
            holds(goal, self.kind, moment, scope).label("goal_holds"),
            of=(contacts,),
        )
        condition_holds, is_on = looked.c.holds, sa.func.coalesce(s.is_on, sa.false())
        differs: sa.ColumnElement[bool] = condition_holds != is_on
        if signal is not None and signal.reentry_hours is None:
            differs = sa.and_(differs, sa.or_(is_on, s.triggers.is_(None)))
        elif signal is not None:
            again = s.triggered_at + sa.func.make_interval(0, 0, 0, 0, signal.reentry_hours)
            waits = sa.and_(condition_holds, again > NOW, t.due_at == again)
            differs = sa.and_(differs, sa.func.coalesce(sa.not_(waits), sa.true()))
        if signal is not None and signal.goal is not None:
            is_over = sa.or_(looked.c.goal_holds, s.goal_due_at <= NOW)
            has_timer = sa.func.coalesce(t.due_at <= s.goal_due_at, sa.false())
            is_over = sa.or_(is_over, sa.not_(has_timer))
            differs = sa.or_(differs, sa.and_(s.goal == Goal.WAITING.value, is_over))
        return select(
            self.kind,
            scope,
            lambda source: (
                source.outerjoin(signals, of_contact(signals, s.signal == self._id))
                .outerjoin(timers, of_contact(timers, t.rule == self.key))
                .join(looked, sa.true())
            ),
            *(sa.func.coalesce(s.ordinal, 0), is_on, s.triggered_at, s.ended_at),
            *(sa.func.coalesce(s.triggers, 0), s.goal, s.goal_due_at),
            *(t.due_at, condition_holds, looked.c.goal_holds),
            saw({"/condition": condition, "/goal": goal}, self.kind, moment),
            where=differs,
        )

    def verdict(self, row: Row, cause: DecisionCause, now: datetime) -> Verdict:
        _, *of_state, timer, holds, goal_holds, seen = row
        state = SignalState(*of_state)
        if state.goal is not None:
            state = state._replace(goal=Goal(state.goal))
        coming = following(self._signal, state, holds=holds, goal_holds=goal_holds, now=now)
        decisions: list[DecisionEvent] = []
        for n, step in enumerate(coming.steps, state.ordinal + 1):
            of_time = step.of_time or self._waited_for(step.what, state, timer)
            why = cause if of_time is None else OfTime(of_time)
            decision = step.what(self._id, n, self._version, why, seen)
            if isinstance(decision, SignalTriggered):
                decision = SignalTriggered(
                    self._id, n, self._version, why, seen, goal_due_at=coming.goal_due_at
                )
            decisions.append(decision)
        return Verdict(decisions, coming.look_again_at)

    def _waited_for(
        self, what: type[DecisionEvent], state: SignalState, timer: datetime | None
    ) -> datetime | None:
        """The instant of a re-entry that waited for the clock alone."""
        if what is not SignalTriggered or self._signal is None or timer is None:
            return None
        again = reentry_at(self._signal, state)
        return again if again == timer else None
