"""Back-test: what a definition would have decided on each day of the past, had it been active.

Its conditions, and all active definitions that they rest on, are evaluated in plain Python
(`domain.evaluation`) over a replay of the log (`domain.replay`), as of the end of each day. Only
those are looked at again of whom something changed, or whom the calendar may move. Nothing comes
of it: no event is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple
from uuid import UUID

import msgspec

from domain import conditions as ask
from domain import scores
from domain.checking import parts as parts_of
from domain.conditions import Condition, Health
from domain.definitions import (
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    Segment,
    Settings,
    Signal,
    Stages,
    family_of,
)
from domain.dependencies import NAME_PROPERTIES, asks_the_calendar
from domain.errors import InvalidInput
from domain.evaluation import Facts, World, holds
from domain.events import GoalMissed, GoalReached, OfDay, SignalEnded, SignalTriggered
from domain.identity import SubjectId, SubjectKind
from domain.periods import Moment, end_of
from domain.references import Named, parts, references_of
from domain.replay import Asked, Replay
from domain.signals import SignalState, following

MAX_DAYS = 366
"""Of a window, today among them."""

BAND = 20
"""Per cents of a score that are counted together."""

Outcome = str | None
"""What is decided of one subject: a stage (None: no stage), a health, a band of a score, `in` or
`out` of a segment, `on` or `off` of a signal."""

Active = Mapping[DefinitionId, Definition]


class DayCount(msgspec.Struct, frozen=True):
    """How many there were of an outcome; null stands for no stage."""

    outcome: Outcome
    subjects: int


class BacktestDay(msgspec.Struct, frozen=True):
    """The end of a day.

    Attributes:
        triggered, ended, reached, missed: of a signal and its goal, on this day.
    """

    day: date
    counts: list[DayCount]
    triggered: int = 0
    ended: int = 0
    reached: int = 0
    missed: int = 0


class Move(msgspec.Struct, frozen=True):
    """Who would be elsewhere: from what the active definition says to what the draft says."""

    before: Outcome
    after: Outcome
    subjects: int


class Verdict(NamedTuple):
    """Of one subject, today. `before`: by the active definition. The values are of scores."""

    after: Outcome
    before: Outcome = None
    after_value: float | None = None
    before_value: float | None = None


class Found(NamedTuple):
    """What came of a back-test, with each subject that is there today."""

    days: list[BacktestDay]
    verdicts: dict[SubjectId, Verdict]


class _Node(NamedTuple):
    """What is decided of all users, or of all accounts: `of` tells a segment, a score or a signal
    by its id; stages and health there are one of each."""

    family: DefinitionKind
    kind: SubjectKind
    of: DefinitionId | None = None


class Plan:
    """What has to be known and decided for a back-test, in order.

    Attributes:
        asked: what the replay has to know.
        reach: how many steps over memberships the conditions take.
        lists: static segments whose lists are asked for.

    Args:
        replaces: the active definition that the draft is held against, and whose place it takes.

    Raises:
        InvalidInput: what is asked for comes back to itself.
    """

    def __init__(
        self, draft: Definition, active: Active, replaces: DefinitionId | None = None
    ) -> None:
        if isinstance(draft, Settings):
            raise InvalidInput("settings decide nothing that could be tested")
        self.draft = draft
        self.kind = draft.kind
        self.active = active
        self.replaces = replaces
        self.asked = Asked()
        self.lists: list[DefinitionId] = []
        self._nodes: dict[_Node, int] = {}
        self._open: set[_Node] = set()
        self._named = {
            (family_of(one), one.kind, one.name): id
            for id, one in active.items()
            if isinstance(one, Score | Signal)
        }
        self._calendar: set[bool] = set()
        reaches = [self._visit_definition(draft, with_goal=True)]
        if isinstance(draft, HealthProfile):
            reaches += [self._visit_definition(one) for one in self.other_profiles]
            reaches.append(self._visit(_Node(DefinitionKind.STAGES, draft.kind)))
        counterpart = self.counterpart
        if counterpart is not None:
            reaches.append(self._visit(counterpart))
        self.reach = max(reaches)

    @property
    def order(self) -> list[_Node]:
        """What is decided before the draft, each after what it rests on."""
        return list(self._nodes)

    @property
    def calendar_moves_deeds(self) -> bool:
        return bool(self._calendar)

    @property
    def calendar_moves_all(self) -> bool:
        return True in self._calendar

    @property
    def counterpart(self) -> _Node | None:
        """What the draft is held against; None: nothing is active in its place."""
        family = family_of(self.draft)
        if family in (DefinitionKind.STAGES, DefinitionKind.HEALTH):
            of_kind = [
                one
                for one in self.active.values()
                if not isinstance(one, Settings) and one.kind is self.kind
            ]
            there = any(family_of(one) is family for one in of_kind)
            return _Node(family, self.kind) if there else None
        return None if self.replaces is None else _Node(family, self.kind, self.replaces)

    @property
    def other_profiles(self) -> list[HealthProfile]:
        """The active profiles of stages that the draft, a profile, is not for."""
        return [
            one
            for id, one in self.active.items()
            if isinstance(one, HealthProfile) and one.kind is self.kind and id != self.replaces
        ]

    def stages(self, kind: SubjectKind) -> Stages | None:
        return next(
            (o for o in self.active.values() if isinstance(o, Stages) and o.kind is kind), None
        )

    def profiles(self, kind: SubjectKind) -> list[HealthProfile]:
        return [
            one
            for one in self.active.values()
            if isinstance(one, HealthProfile) and one.kind is kind
        ]

    def _definitions(self, node: _Node) -> list[Definition]:
        match node.family:
            case DefinitionKind.STAGES:
                stages = self.stages(node.kind)
                return [] if stages is None else [stages]
            case DefinitionKind.HEALTH:
                return [*self.profiles(node.kind)]
            case _:
                found = None if node.of is None else self.active.get(node.of)
                return [] if found is None else [found]

    def _node(self, named: Named) -> _Node:
        match named.family:
            case DefinitionKind.STAGES | DefinitionKind.HEALTH:
                return _Node(named.family, named.kind)
            case DefinitionKind.SEGMENT:
                return _Node(named.family, named.kind, DefinitionId(UUID(named.name)))
            case _:
                id = self._named.get((named.family, named.kind, named.name))
                return _Node(named.family, named.kind, id)

    def _visit(self, node: _Node) -> int:
        """Takes in a node and what it rests on; returns how far it reaches over memberships."""
        if node in self._nodes:
            return self._nodes[node]
        if node in self._open:
            raise InvalidInput(
                f"the {node.family} of {node.kind}s would rest on itself; ask for something else"
            )
        self._open.add(node)
        reach = max((self._visit_definition(one) for one in self._definitions(node)), default=0)
        if node.family is DefinitionKind.HEALTH and self.profiles(node.kind):
            reach = max(reach, self._visit(_Node(DefinitionKind.STAGES, node.kind)))
        self._open.remove(node)
        self._nodes[node] = reach
        return reach

    def _visit_definition(self, definition: Definition, *, with_goal: bool = False) -> int:
        """Takes in what a definition asks for. Whether a signal is on rests not on its goal."""
        if isinstance(definition, Settings):
            return 0
        if isinstance(definition, Segment) and definition.condition is None:
            self.lists += [id for id, one in self.active.items() if one is definition]
        for reference in references_of(definition, deciding=not with_goal):
            self._visit(self._node(reference.to))
        reaches = [0]
        for part in parts(definition):
            if not (part.decides or with_goal):
                continue
            reaches.append(self._reach(part.condition, definition.kind))
            if asks_the_calendar(part.condition):
                self._calendar |= set(_calendar(part.condition))
        return max(reaches)

    def _reach(self, condition: Condition, kind: SubjectKind) -> int:
        """Notes what a condition asks for; returns how far it reaches."""
        asked = self.asked
        match condition:
            case ask.PropertyIs(name):
                asked.properties[kind].add(name)
            case ask.AttributeIs(ask.Attribute.NAME):
                asked.properties[kind].update(NAME_PROPERTIES)
            case ask.Did(activity, name):
                metadata = asked.activities.setdefault((activity, name), set())
                metadata.update(one.name for one in condition.where)
                return int(kind is SubjectKind.ACCOUNT and activity != "event")
            case ask.BelongsTo():
                return int(kind is SubjectKind.ACCOUNT)
            case ask.OfAccounts(_, where):
                return 1 + self._reach(where, SubjectKind.ACCOUNT)
            case ask.OfUsers(_, where):
                return 1 + self._reach(where, SubjectKind.USER)
            case ask.AllOf() | ask.OneOf() | ask.Not():
                return max((self._reach(one, kind) for one, _ in parts_of(condition)), default=0)
            case ask.StageIs():
                return self._visit(_Node(DefinitionKind.STAGES, kind))
            case ask.HealthIs():
                return self._visit(_Node(DefinitionKind.HEALTH, kind))
            case ask.ScoreIs(name):
                return self._visit(self._node(Named(DefinitionKind.SCORE, kind, name)))
            case ask.SignalIs(name):
                return self._visit(self._node(Named(DefinitionKind.SIGNAL, kind, name)))
            case ask.InSegment(segment):
                return self._visit(self._node(Named(DefinitionKind.SEGMENT, kind, str(segment))))
            case _:
                pass
        return 0


def _calendar(condition: Condition) -> Iterator[bool]:
    """What the calendar moves in a condition: True: a date, False: only periods of deeds."""
    inner = [one for one, _ in parts_of(condition)]
    for one in inner:
        yield from _calendar(one)
    if not inner and asks_the_calendar(condition):
        # Where nothing was done, no period changes what is counted.
        yield not isinstance(condition, ask.Did)


class _Signal:
    """Where a signal stands, of each subject."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.states: dict[UUID, SignalState] = {}
        self.timers: dict[UUID, datetime] = {}
        self.today: Counter[type] = Counter()
        """What it did on the day that is being decided, of those that are counted."""

    def decide(self, id: UUID, world: World, moment: Moment, *, counts: bool) -> bool:
        """Brings it on; says whether it is on."""
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


class Backtest:
    """Evaluates a plan over a replay, day by day.

    Args:
        counted: the subjects that count, those that turned out to be one of them since included.
    """

    def __init__(self, plan: Plan, replay: Replay, counted: Iterable[SubjectId]) -> None:
        self._plan = plan
        self._replay = replay
        self._counted = frozenset(counted)
        self._signals = {
            node: _Signal(msgspec.structs.replace(signal, goal=None, goal_hours=None))
            for node in plan.order
            if node.of is not None and isinstance(signal := plan.active.get(node.of), Signal)
        }
        self._draft_signal = _Signal(plan.draft) if isinstance(plan.draft, Signal) else None
        self._outcomes: dict[UUID, tuple[Outcome, float | None]] = {}
        self._counts: Counter[Outcome] = Counter()

    def run(
        self,
        now: datetime,
        zone: tzinfo,
        days: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Found:
        """The last `days` days up to `now`.

        Args:
            progress: is told the number of days that are done; what it raises ends the run.
        """
        found: list[BacktestDay] = []
        for n, moment in enumerate(moments(now, zone, days), 1):
            is_last = n == days
            changed = self._replay.advance(None if is_last else moment.today)
            self._decide(changed, moment, is_first=n == 1)
            found.append(self._day(moment.today))
            progress(n)
        return Found(found, self._verdicts())

    def _decide(self, changed: set[SubjectId], moment: Moment, *, is_first: bool) -> None:
        for signal in self._all_signals():
            signal.today.clear()
        world = self._replay.world
        for one in changed:
            if one not in world.subjects:
                self._forget(one)
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

    def _all_signals(self) -> Iterator[_Signal]:
        yield from self._signals.values()
        if self._draft_signal is not None:
            yield self._draft_signal

    def _forget(self, id: UUID) -> None:
        """One that is another subject from now on."""
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
        """Some subjects, and those whose answers may rest on them."""
        due, last = set(subjects), set(subjects)
        for _ in range(self._plan.reach):
            last = set(self._replay.neighbours(last)) - due
            due |= last
        return due

    def _decide_node(self, node: _Node, id: UUID, facts: Facts, moment: Moment) -> None:
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
                is_on = self._signals[node].decide(id, world, moment, counts=False)
                (facts.signals.add if is_on else facts.signals.discard)(signal.name)
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
                return _in(self._belongs(draft, of, id, moment)), None
            case _:
                assert self._draft_signal is not None
                world = self._replay.world
                return _on(self._draft_signal.decide(id, world, moment, counts=True)), None

    def _stage(self, stages: Stages | None, id: UUID, moment: Moment) -> str | None:
        if id in self._replay.hand:
            return self._replay.hand[id]
        world = self._replay.world
        return next(
            (
                one.name
                for one in (stages.stages if stages is not None else ())
                if holds(one.condition, id, world, moment)
            ),
            None,
        )

    def _health(
        self, profiles: Iterable[HealthProfile], id: UUID, facts: Facts, moment: Moment
    ) -> Health:
        world = self._replay.world
        for one in profiles:
            if facts.stage in one.stages:
                if one.good is not None and holds(one.good, id, world, moment):
                    return Health.GOOD
                if one.bad is not None and holds(one.bad, id, world, moment):
                    return Health.BAD
                return Health.NORMAL
        return Health.NORMAL

    def _score(self, score: Score, id: UUID, moment: Moment) -> float:
        world = self._replay.world
        held = [one.name for one in score.rules if holds(one.condition, id, world, moment)]
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
        did = Counter[type]() if self._draft_signal is None else self._draft_signal.today
        counts = [
            DayCount(outcome, self._counts[outcome])
            for outcome in sorted(self._counts, key=lambda one: (one is None, one or ""))
            if self._counts[outcome]
        ]
        happened = (did[one] for one in (SignalTriggered, SignalEnded, GoalReached, GoalMissed))
        return BacktestDay(day, counts, *happened)

    def _verdicts(self) -> dict[SubjectId, Verdict]:
        counterpart, subjects = self._plan.counterpart, self._replay.world.subjects
        found: dict[SubjectId, Verdict] = {}
        for id in sorted(self._outcomes):
            after, value = self._outcomes[id]
            before, was = (None, None)
            if counterpart is not None:
                before, was = self._standing(counterpart, subjects[id])
            found[SubjectId(id)] = Verdict(after, before, value, was)
        return found

    def _standing(self, node: _Node, facts: Facts) -> tuple[Outcome, float | None]:
        """What an active definition says of a subject."""
        match node.family:
            case DefinitionKind.STAGES:
                return facts.stage, None
            case DefinitionKind.HEALTH:
                return facts.health.value, None
            case DefinitionKind.SEGMENT:
                return _in(node.of in facts.segments), None
            case _:
                pass
        match None if node.of is None else self._plan.active.get(node.of):
            case Score(_, name):
                value = float(facts.scores[name])
                return band(value), value
            case Signal(_, name):
                return _on(name in facts.signals), None
            case _:
                raise TypeError("there is nothing else to hold a draft against")


def moments(now: datetime, zone: tzinfo, days: int) -> list[Moment]:
    """The last instants of some days, the last of which is now."""
    today = Moment(now, zone).today
    ends = [
        Moment(end_of(today - timedelta(n), zone) - timedelta(microseconds=1), zone)
        for n in range(days - 1, 0, -1)
    ]
    return [*ends, Moment(now, zone)]


def moves(verdicts: Iterable[Verdict]) -> list[Move]:
    """Who is elsewhere, counted; the largest first."""
    counts = Counter((one.before, one.after) for one in verdicts if one.before != one.after)
    return [
        Move(before, after, count)
        for (before, after), count in sorted(
            counts.items(), key=lambda one: (-one[1], str(one[0][0]), str(one[0][1]))
        )
    ]


def band(value: float) -> str:
    """The band that a score's value is counted in: `0-19`, ..., `80-100`."""
    low = min(int(value // BAND) * BAND, 100 - BAND)
    return f"{low}-{100 if low == 100 - BAND else low + BAND - 1}"


def _in(belongs: bool) -> str:
    return "in" if belongs else "out"


def _on(is_on: bool) -> str:
    return "on" if is_on else "off"
