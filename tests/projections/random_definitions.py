"""Definitions by chance: segments, stages, health profiles, scores and signals over few names.

What a draft refers to is a number until it is defined: `resolved` puts something in its place that
there is then.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from domain import calendar
from domain.conditions import language as ask
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    ScoreRule,
    Segment,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.identity import SubjectKind

STAGES = ("trial", "paying", "churned")
Drafted = Stages | HealthProfile | Score | Signal | Segment


class Drafter:
    """Makes drafts by chance: drawing each part of dozens of conditions would take for ever."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def workspace(self) -> list[Drafted]:
        """Some of every family, in an order by chance: what comes later may refer to the others."""
        made = [
            family(kind)
            for family in (
                *(self.segment, self.stages, self.profile, self.score, self.signal, self.signal),
            )
            for kind in SubjectKind
        ]
        return self._chance.sample(made, k=len(made))

    def draft(self) -> Drafted:
        families = (self.segment, self.stages, self.profile, self.score, self.signal, self.signal)
        return self._chance.choice(families)(self._chance.choice(list(SubjectKind)))

    def segment(self, kind: SubjectKind) -> Segment:
        return Segment(kind, "", self.condition(kind))

    def stages(self, kind: SubjectKind) -> Stages:
        names = self._chance.sample(STAGES, k=self._chance.choice((1, 2, 3, 3)))
        return Stages(
            kind, "", [Stage(name, StageType.OTHER, self.condition(kind)) for name in names]
        )

    def profile(self, kind: SubjectKind) -> HealthProfile:
        there: list[str | None] = [None, *STAGES]
        of = self._chance.sample(there, k=self._chance.choice((1, 2, 3, 4)))
        good = self._chance.choice((None, self.condition(kind, 1)))
        return HealthProfile(kind, "", of, good, self.condition(kind, 1))

    def score(self, kind: SubjectKind) -> Score:
        weights = [0]
        while sum(weights) <= 0:
            weights = self._chance.choices((-2, -1, 1, 1, 2, 3), k=self._chance.choice((1, 2, 3)))
        rules = [
            ScoreRule(f"rule {n}", weight, self.condition(kind)) for n, weight in enumerate(weights)
        ]
        return Score(kind, "", rules)

    def signal(self, kind: SubjectKind) -> Signal:
        reentry = self._chance.choice((None, 1, 1, 24))
        if self._chance.random() < 0.5:
            return Signal(kind, "", self.condition(kind), reentry)
        hours = self._chance.choice((1, 24, 48))
        return Signal(kind, "", self.condition(kind), reentry, self.condition(kind), hours)

    def condition(self, kind: SubjectKind, levels: int = 2) -> ask.Condition:
        """One that changes its mind; references are numbers."""
        chance = self._chance
        if not levels or chance.random() < 0.5:
            return self._decided() if chance.random() < 0.35 else self._fact()
        here = [self.condition(kind, levels - 1) for _ in range(chance.choice((1, 2)))]
        across: ask.Condition
        if kind is SubjectKind.USER:
            across = ask.OfAccounts(self._quantifier(), self.condition(SubjectKind.ACCOUNT, 0))
        else:
            across = ask.OfUsers(self._quantifier(), self.condition(SubjectKind.USER, 0))
        some: tuple[ask.Condition, ...] = (
            ask.AllOf(here), ask.OneOf(here), ask.Not(here[0]), across, across
        )  # fmt: skip
        return chance.choice(some)

    def _fact(self) -> ask.Condition:
        chance = self._chance
        plan = ask.PropertyIs("plan", chance.choice((ask.Is("pro"), ask.IsNot("pro"), ask.IsSet())))
        seats = ask.PropertyIs("seats", ask.Greater(chance.choice((0, 1))))
        seen = ask.AttributeIs(
            chance.choice((ask.Attribute.FIRST_SEEN, ask.Attribute.LAST_SEEN)),
            chance.choice(
                (ask.InPeriod(self._period()), ask.MoreThanDaysAgo(chance.choice((1, 3))))
            ),
        )
        did = ask.Did(
            chance.choice(("event", "page", "screen")),
            chance.choice(("one", "two")),
            self._times(),
            chance.choice((None, self._period())),
        )
        belongs = ask.BelongsTo(
            role=chance.choice((None, None, "owner")), ended=chance.random() < 0.3
        )
        some: tuple[ask.Condition, ...] = (
            plan,
            plan,
            plan,
            seats,
            seats,
            seen,
            did,
            did,
            did,
            belongs,
        )
        return chance.choice(some)

    def _decided(self) -> ask.Condition:
        chance, n = self._chance, self._chance.randrange(6)
        test = chance.choice(
            (ask.AtLeast(33.33), ask.AtLeast(50), ask.Less(66.67), ask.Is(0), ask.IsSet())
        )
        stages: tuple[list[str | None], ...] = (["0"], ["1"], ["2"], [None], ["0", None])
        some: tuple[ask.Condition, ...] = (
            ask.StageIs(chance.choice(stages)),
            ask.HealthIs(chance.sample(list(ask.Health), k=chance.choice((1, 2)))),
            ask.ScoreIs(f"{n}", test),
            ask.SignalIs(f"{n}", chance.random() < 0.5),
            ask.InSegment(uuid.UUID(int=n)),
        )
        return chance.choice(some)

    def _times(self) -> ask.Count:
        some = (
            *(ask.Occurred(), ask.DidNotOccur(), ask.AtLeastTimes(2), ask.AtLeastTimes(3)),
            *(ask.AtMostTimes(1), ask.ExactlyTimes(1), ask.ExactlyTimes(2)),
        )
        return self._chance.choice(some)

    def _period(self) -> calendar.Period:
        some = (
            *(calendar.LastDays(1), calendar.LastDays(2), calendar.LastDays(3)),
            *(calendar.Today(), calendar.Yesterday(), calendar.ThisMonth()),
        )
        return self._chance.choice(some)

    def _quantifier(self) -> ask.Quantifier:
        return self._chance.choice((ask.AnyOf(), ask.EveryOf(), ask.AtLeastOf(2)))


class Names(msgspec.Struct, frozen=True):
    """What there is to refer to, of each kind."""

    stages: dict[SubjectKind, list[str]]
    scores: dict[SubjectKind, list[str]]
    signals: dict[SubjectKind, list[str]]
    segments: dict[SubjectKind, list[uuid.UUID]]


def resolved(draft: Drafted, name: str, names: Names) -> Drafted:
    """A draft under a name, with what there is in place of numbers."""
    given = msgspec.structs.replace(draft, name=name)

    def put(condition: ask.Condition | None) -> Any:
        return None if condition is None else _resolved(condition, given.kind, names)

    match given:
        case Stages(_, _, some):
            return msgspec.structs.replace(
                given,
                stages=[
                    msgspec.structs.replace(stage, condition=put(stage.condition)) for stage in some
                ],
            )
        case HealthProfile(kind, _, of, good, bad):
            there = [part for part in of if part is None or part in names.stages[kind]] or [None]
            return msgspec.structs.replace(given, stages=there, good=put(good), bad=put(bad))
        case Score(_, _, rules):
            return msgspec.structs.replace(
                given,
                rules=[
                    msgspec.structs.replace(rule, condition=put(rule.condition)) for rule in rules
                ],
            )
        case Signal(_, _, condition, _, goal, _):
            return msgspec.structs.replace(given, condition=put(condition), goal=put(goal))
        case _:
            return msgspec.structs.replace(given, condition=put(given.condition))


ANYBODY = ask.AllOf([])


def _resolved(condition: ask.Condition, kind: SubjectKind, names: Names) -> ask.Condition:
    match condition:
        case ask.AllOf(of):
            return ask.AllOf([_resolved(part, kind, names) for part in of])
        case ask.OneOf(of):
            return ask.OneOf([_resolved(part, kind, names) for part in of])
        case ask.Not(part):
            return ask.Not(_resolved(part, kind, names))
        case ask.OfAccounts(quantifier, where):
            return ask.OfAccounts(quantifier, _resolved(where, SubjectKind.ACCOUNT, names))
        case ask.OfUsers(quantifier, where):
            return ask.OfUsers(quantifier, _resolved(where, SubjectKind.USER, names))
        case ask.StageIs(asked):
            there = names.stages[kind]
            found = [None if input is None else _nth(there, int(input)) for input in asked]
            known = [
                subject for subject, of in zip(found, asked, strict=True) if of is None or subject
            ]
            return ask.StageIs(known) if known else ANYBODY
        case ask.ScoreIs(score, test):
            name = _nth(names.scores[kind], int(score))
            return ANYBODY if name is None else ask.ScoreIs(name, test)
        case ask.SignalIs(signal, on):
            name = _nth(names.signals[kind], int(signal))
            return ANYBODY if name is None else ask.SignalIs(name, on)
        case ask.InSegment(segment):
            id = _nth(names.segments[kind], segment.int)
            return ANYBODY if id is None else ask.InSegment(id)
        case _:
            return condition


def _nth(some: Sequence[Any], n: int) -> Any:
    return some[n % len(some)] if some else None


def names(active: Mapping[DefinitionId, Definition]) -> Names:
    """What can be referred to."""
    found = Names(_of_each(), _of_each(), _of_each(), _of_each())
    for id, definition in active.items():
        match definition:
            case Stages(kind, _, stages):
                found.stages[kind] += [stage.name for stage in stages]
            case Score(kind, name):
                found.scores[kind].append(name)
            case Signal(kind, name):
                found.signals[kind].append(name)
            case Segment(kind):
                found.segments[kind].append(id)
            case _:
                pass
    return found


def _of_each() -> dict[SubjectKind, list[Any]]:
    return {kind: [] for kind in SubjectKind}
