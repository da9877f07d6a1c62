"""Back-test: the decisions that a definition would have made on each day of the past, had it been
active.

Its conditions, and the active definitions that they rest on, are evaluated in plain Python
(`domain.conditions.evaluation`) over a replay of the log (`domain.backtest.replay`), at the end of
each day. A day evaluates only subjects that changed, or that the calendar may move. A back-test
writes no event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, tzinfo
from uuid import UUID

import msgspec

from domain.backtest.outcomes import (
    BacktestDay,
    BacktestResult,
    DayCount,
    Outcome,
    Verdict,
    band,
    is_in,
    is_on,
)
from domain.backtest.plan import Node, Plan
from domain.backtest.replay import Replay
from domain.backtest.signal_past import SignalPast
from domain.calendar import Moment, end_of
from domain.conditions.evaluation import Facts, holds
from domain.conditions.language import Health
from domain.definitions import scores
from domain.definitions.types import (
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stages,
)
from domain.events.decisions import GoalMissed, GoalReached, SignalEnded, SignalTriggered
from domain.identity import SubjectId, SubjectKind


class Backtest:
    """Evaluates a plan over a replay, day by day.

    Args:
        counted: the subjects to count, with those that were merged into them since.
    """

    def __init__(self, plan: Plan, replay: Replay, counted: Iterable[SubjectId]) -> None:
        self._plan = plan
        self._replay = replay
        self._counted = frozenset(counted)
        self._signals = {
            node: SignalPast(msgspec.structs.replace(signal, goal=None, goal_hours=None))
            for node in plan.order
            if node.of is not None and isinstance(signal := plan.active.get(node.of), Signal)
        }
        self._draft_signal = SignalPast(plan.draft) if isinstance(plan.draft, Signal) else None
        self._outcomes: dict[UUID, tuple[Outcome, float | None]] = {}
        self._counts: Counter[Outcome] = Counter()

    def run(
        self,
        now: datetime,
        zone: tzinfo,
        days: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> BacktestResult:
        """Decides the last `days` days up to `now`.

        Args:
            progress: called with the number of days done; an exception from it ends the run.
        """
        decided: list[BacktestDay] = []
        for n, moment in enumerate(moments(now, zone, days), 1):
            is_last = n == days
            changed = self._replay.advance(None if is_last else moment.today)
            self._decide(changed, moment, is_first=n == 1)
            decided.append(self._day(moment.today))
            progress(n)
        return BacktestResult(decided, self._verdicts())

    def _decide(self, changed: set[SubjectId], moment: Moment, *, is_first: bool) -> None:
        for signal in self._all_signals():
            signal.today.clear()
        world = self._replay.world
        for subject in changed:
            if subject not in world.subjects:
                self._forget(subject)
        due = self._reached(self._moved(changed, moment, is_first=is_first))
        users: list[UUID] = []
        accounts: list[UUID] = []
        for id in due:
            facts = world.subjects.get(id)
            if facts is not None:
                (users if facts.kind is SubjectKind.USER else accounts).append(id)
        by_kind = {SubjectKind.USER: users, SubjectKind.ACCOUNT: accounts}
        for node in self._plan.order:
            for id in by_kind[node.kind]:
                self._decide_node(node, id, world.subjects[id], moment)
        for id in by_kind[self._plan.kind]:
            if SubjectId(id) in self._counted:
                self._note(id, self._decide_draft(id, world.subjects[id], moment))

    def _all_signals(self) -> Iterator[SignalPast]:
        yield from self._signals.values()
        if self._draft_signal is not None:
            yield self._draft_signal

    def _forget(self, id: UUID) -> None:
        """Drops a subject that was merged into another one."""
        for signal in self._all_signals():
            signal.timers.pop(id, None)
        before = self._outcomes.pop(id, None)
        if before is not None:
            self._counts[before[0]] -= 1

    def _moved(self, changed: set[SubjectId], moment: Moment, *, is_first: bool) -> Iterable[UUID]:
        subjects, plan = self._replay.world.subjects, self._plan
        if is_first or plan.calendar_moves_all:
            return list(subjects)
        due: set[UUID] = {*changed}
        for signal in self._all_signals():
            due.update(signal.due(moment.now))
        if plan.calendar_moves_deeds:
            due.update(id for id, facts in subjects.items() if facts.deeds)
        return due

    def _reached(self, subjects: Iterable[UUID]) -> set[UUID]:
        """The subjects, and all others whose answers may rest on them."""
        due, last = set(subjects), set(subjects)
        for _ in range(self._plan.reach):
            last = set(self._replay.neighbours(last)) - due
            due |= last
        return due

    def _decide_node(self, node: Node, id: UUID, facts: Facts, moment: Moment) -> None:
        plan, world = self._plan, self._replay.world
        match node.family:
            case DefinitionKind.STAGES:
                facts.stage = self._stage(plan.stages(node.kind), id, moment)
                return
            case DefinitionKind.HEALTH:
                facts.health = self._health(plan.profiles(node.kind), id, facts, moment)
                return
            case _:
                pass
        if node.of is None:
            return
        match plan.active.get(node.of):
            case Segment() as segment:
                belongs = self._belongs(segment, node.of, id, moment)
                (facts.segments.add if belongs else facts.segments.discard)(node.of)
            case Score() as score:
                facts.scores[score.name] = self._score(score, id, moment)
            case Signal() as signal:
                on = self._signals[node].decide(id, world, moment, counts=False)
                (facts.signals.add if on else facts.signals.discard)(signal.name)
            case _:
                pass

    def _decide_draft(self, id: UUID, facts: Facts, moment: Moment) -> tuple[Outcome, float | None]:
        draft = self._plan.draft
        match draft:
            case Stages():
                return self._stage(draft, id, moment), None
            case HealthProfile():
                profiles = [draft, *self._plan.other_profiles]
                return self._health(profiles, id, facts, moment).value, None
            case Score():
                value = self._score(draft, id, moment)
                return band(value), value
            case Segment():
                of = self._plan.replaces or DefinitionId(UUID(int=0))
                return is_in(self._belongs(draft, of, id, moment)), None
            case _:
                assert self._draft_signal is not None
                world = self._replay.world
                return is_on(self._draft_signal.decide(id, world, moment, counts=True)), None

    def _stage(self, stages: Stages | None, id: UUID, moment: Moment) -> str | None:
        if id in self._replay.manual_stages:
            return self._replay.manual_stages[id]
        world = self._replay.world
        return next(
            (
                stage.name
                for stage in (stages.stages if stages is not None else ())
                if holds(stage.condition, id, world, moment)
            ),
            None,
        )

    def _health(
        self, profiles: Iterable[HealthProfile], id: UUID, facts: Facts, moment: Moment
    ) -> Health:
        world = self._replay.world
        for profile in profiles:
            if facts.stage in profile.stages:
                if profile.good is not None and holds(profile.good, id, world, moment):
                    return Health.GOOD
                if profile.bad is not None and holds(profile.bad, id, world, moment):
                    return Health.BAD
                return Health.NORMAL
        return Health.NORMAL

    def _score(self, score: Score, id: UUID, moment: Moment) -> float:
        world = self._replay.world
        held = [rule.name for rule in score.rules if holds(rule.condition, id, world, moment)]
        return float(scores.value(score.rules, held))

    def _belongs(self, segment: Segment, of: DefinitionId, id: UUID, moment: Moment) -> bool:
        if segment.condition is None:
            return self._replay.is_listed(of, id)
        return holds(segment.condition, id, self._replay.world, moment)

    def _note(self, id: UUID, outcome: tuple[Outcome, float | None]) -> None:
        before = self._outcomes.get(id)
        if before is not None:
            self._counts[before[0]] -= 1
        self._outcomes[id] = outcome
        self._counts[outcome[0]] += 1

    def _day(self, day: date) -> BacktestDay:
        steps = Counter[type]() if self._draft_signal is None else self._draft_signal.today
        counts = [
            DayCount(outcome, self._counts[outcome])
            for outcome in sorted(
                self._counts, key=lambda outcome: (outcome is None, outcome or "")
            )
            if self._counts[outcome]
        ]
        times = (steps[step] for step in (SignalTriggered, SignalEnded, GoalReached, GoalMissed))
        return BacktestDay(day, counts, *times)

    def _verdicts(self) -> dict[SubjectId, Verdict]:
        counterpart, subjects = self._plan.counterpart, self._replay.world.subjects
        verdicts: dict[SubjectId, Verdict] = {}
        for id in sorted(self._outcomes):
            after, value = self._outcomes[id]
            before, was = (None, None)
            if counterpart is not None:
                before, was = self._active_outcome(counterpart, subjects[id])
            verdicts[SubjectId(id)] = Verdict(after, before, value, was)
        return verdicts

    def _active_outcome(self, node: Node, facts: Facts) -> tuple[Outcome, float | None]:
        """The outcome that an active definition decided about a subject."""
        match node.family:
            case DefinitionKind.STAGES:
                return facts.stage, None
            case DefinitionKind.HEALTH:
                return facts.health.value, None
            case DefinitionKind.SEGMENT:
                return is_in(node.of in facts.segments), None
            case _:
                pass
        match None if node.of is None else self._plan.active.get(node.of):
            case Score(_, name):
                value = float(facts.scores[name])
                return band(value), value
            case Signal(_, name):
                return is_on(name in facts.signals), None
            case _:
                raise TypeError("no other definition has an outcome")


def moments(now: datetime, zone: tzinfo, days: int) -> list[Moment]:
    """The last instant of each of some days; that of the last day is now."""
    today = Moment(now, zone).today
    ends = [
        Moment(end_of(today - timedelta(n), zone) - timedelta(microseconds=1), zone)
        for n in range(days - 1, 0, -1)
    ]
    return [*ends, Moment(now, zone)]
