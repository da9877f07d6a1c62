"""The rules of the workspace's definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.conditions.language import Condition
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Signal,
    Stages,
    Status,
)
from domain.identity import SubjectKind
from domain.workspace.dependencies import (
    BY_HAND,
    EVERYTHING,
    SCORE,
    SIGNAL,
    STAGE,
    Dependency,
    Fact,
    asks_the_calendar,
    dependencies,
    of_list,
)
from domain.workspace.references import counters_of_definition
from projections.deciding.rule_set import RuleSet
from projections.deciding.rules.health import HealthRule, Profile
from projections.deciding.rules.rule import DecidingVersion, Rule
from projections.deciding.rules.score import ScoringRule
from projections.deciding.rules.segment import SegmentRule
from projections.deciding.rules.signal import SignalRule
from projections.deciding.rules.stage import StageRule

SIGNATURE = sa.text("""
SELECT (SELECT coalesce(sum(version) + count(*), 0) FROM views.segments),
       (SELECT coalesce(sum(version) + count(*), 0) FROM views.definitions)""")

SEGMENTS = sa.text("""
SELECT segment, kind, CAST(condition AS text) AS condition, version,
       deleted_at IS NOT NULL AS is_deleted
FROM views.segments""")

# An archived definition revokes its decisions.
DEFINITIONS = sa.text("""
SELECT id, CAST(definition AS text) AS definition, version, status, changed_at
FROM views.definitions WHERE family <> 'segment' AND status IN ('active', 'archived')
ORDER BY created_at, id""")

ACTIVE = sa.text("""
SELECT CAST(definition AS text) FROM views.definitions WHERE status = 'active'""")

_condition = msgspec.json.Decoder(Condition).decode
_definition: Callable[[str], Definition] = msgspec.json.Decoder(Definition).decode


class _Version(NamedTuple):
    id: DefinitionId
    number: int
    is_active: bool
    changed_at: datetime

    @property
    def decider(self) -> DecidingVersion:
        return DecidingVersion(self.id, self.number)


class _Read:
    """The definitions, by family and kind."""

    def __init__(self, conn: sa.Connection) -> None:
        self.stages: list[tuple[_Version, Stages]] = []
        self.profiles: list[tuple[_Version, HealthProfile]] = []
        self.scores: list[tuple[_Version, Score]] = []
        self.signals: list[tuple[_Version, Signal]] = []
        for row in conn.execute(DEFINITIONS):
            is_active = row.status == Status.ACTIVE
            version = _Version(DefinitionId(row.id), row.version, is_active, row.changed_at)
            match _definition(row.definition):
                case Stages() as stages:
                    self.stages.append((version, stages))
                case HealthProfile() as profile:
                    self.profiles.append((version, profile))
                case Score() as score:
                    self.scores.append((version, score))
                case Signal() as signal:
                    self.signals.append((version, signal))
                case _:
                    pass
        self.named = {
            Fact(definition.kind.value, what, (definition.name,)): str(version.id)
            for what, versions in ((SCORE, self.scores), (SIGNAL, self.signals))
            for version, definition in versions
            if version.is_active
        }

    def rests_on(
        self, conditions: Iterable[Condition | None], kind: SubjectKind
    ) -> set[Dependency]:
        """The dependencies of conditions. Scores and signals by id, as another definition may
        take their name."""
        rests_on = {Dependency(Fact(kind.value, EVERYTHING))}
        for condition in conditions:
            if condition is not None:
                rests_on |= dependencies(condition, kind)
        return {
            dependency._replace(fact=dependency.fact._replace(of=(self.named[dependency.fact],)))
            if dependency.fact in self.named
            else dependency
            for dependency in rests_on
        }


def _moves(conditions: Iterable[Condition | None]) -> bool:
    return any(asks_the_calendar(condition) for condition in conditions if condition is not None)


def read_rules(conn: sa.Connection) -> RuleSet:
    """All rules, with those of archived definitions, which revoke their decisions."""
    read = _Read(conn)
    rules: list[Rule] = []
    for kind in SubjectKind:
        rules += _stages(read, kind)
        rules += _health(read, kind)
    rules += [_score(read, version, score) for version, score in read.scores]
    rules += [_signal(read, version, signal) for version, signal in read.signals]
    rules += [_segment(read, row) for row in conn.execute(SEGMENTS)]
    return RuleSet(rules)


def _stages(read: _Read, kind: SubjectKind) -> list[Rule]:
    versions = [(version, stages) for version, stages in read.stages if stages.kind is kind]
    if not versions:
        return []
    version, definition = max(versions, key=lambda some: (some[0].is_active, some[0].changed_at))
    stages = definition.stages if version.is_active else []
    conditions = [stage.condition for stage in stages]
    rests_on = read.rests_on(conditions, kind) | {Dependency(Fact(kind.value, BY_HAND))}
    moves = _moves(conditions)
    return [StageRule(kind, version.decider, stages, rests_on, asks_the_calendar=moves)]


def _health(read: _Read, kind: SubjectKind) -> list[Rule]:
    versions = [(version, profile) for version, profile in read.profiles if profile.kind is kind]
    if not versions:
        return []
    of_stages = [version for version, stages in read.stages if stages.kind is kind]
    others = of_stages or [version for version, _ in versions]
    otherwise = max(others, key=lambda other: (other.is_active, other.changed_at))
    active = [
        Profile(version.decider, profile) for version, profile in versions if version.is_active
    ]
    conditions = [
        condition for version in active for condition in (version.profile.good, version.profile.bad)
    ]
    rests_on = read.rests_on(conditions, kind) | {Dependency(Fact(kind.value, STAGE))}
    moves = _moves(conditions)
    return [HealthRule(kind, active, otherwise.decider, rests_on, asks_the_calendar=moves)]


def _score(read: _Read, version: _Version, score: Score) -> Rule:
    rules = score.rules if version.is_active else []
    conditions = [rule.condition for rule in rules]
    rests_on = read.rests_on(conditions, score.kind)
    moves = _moves(conditions)
    return ScoringRule(
        version.id, version.number, score.kind, rules, rests_on, asks_the_calendar=moves
    )


def _signal(read: _Read, version: _Version, signal: Signal) -> Rule:
    conditions = [signal.condition, signal.goal] if version.is_active else []
    return SignalRule(
        version.id,
        version.number,
        signal.kind,
        signal if version.is_active else None,
        read.rests_on(conditions, signal.kind),
        asks_the_calendar=_moves(conditions),
    )


def _segment(read: _Read, row: sa.Row[tuple[object, ...]]) -> Rule:
    kind = SubjectKind(row.kind)
    condition = None if row.condition is None else _condition(row.condition)
    conditions: Sequence[Condition | None] = [] if row.is_deleted else [condition]
    rests_on = set() if row.is_deleted else read.rests_on(conditions, kind)
    if condition is None and not row.is_deleted:
        rests_on |= of_list(row.segment, kind)
    return SegmentRule(
        DefinitionId(row.segment),
        row.version,
        kind,
        rests_on,
        condition=condition,
        is_deleted=row.is_deleted,
        asks_the_calendar=_moves(conditions),
    )


def read_counters(conn: sa.Connection) -> list[UUID]:
    """The counters of metadata that the rules read."""
    definitions = conn.scalars(ACTIVE)
    return sorted(
        {
            counter.id
            for text in definitions
            for counter in counters_of_definition(_definition(text))
        }
    )


def signature(conn: sa.Connection) -> tuple[int, ...]:
    """Changes whenever a definition is created, changed or deleted."""
    return tuple(conn.execute(SIGNATURE).one())
