"""Who stands where, written from the product page: a naive model of what definitions decide.

It asks everything of everybody, time and again until nothing changes any more, and knows no events,
no notes and no sweeps. What a condition means is what `domain.conditions.evaluation` says.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple, cast

import msgspec

from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import Deed, Facts, Membership, World, holds
from domain.conditions.language import Health
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stages,
)
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from tests.projections.read_model_oracle import Model, Subject
from tests.projections.read_models import found
from tests.random_conditions import whole

Active = Mapping[DefinitionId, Definition]
"""What decides."""


@dataclass
class Standing:
    """
    Attributes:
        scores: of each its value, and the names of the rules that hold.
    """

    stage: str | None = None
    health: Health = Health.NORMAL
    scores: dict[DefinitionId, tuple[Decimal, list[str]]] = field(default_factory=dict)
    segments: set[DefinitionId] = field(default_factory=set)


Standings = dict[SubjectId, Standing]
On = set[tuple[SubjectId, DefinitionId]]
"""Signals that are on, of whom: what was decided of them before has a say in it."""


class Everybody(NamedTuple):
    """Whom there is to decide on, and all that is known of them but decisions."""

    world: World
    moment: Moment


def known(annals: Annals, model: Model, moment: Moment) -> Everybody:
    """What a model of written facts comes to, under the ids that the system gave."""
    ids: dict[Subject, uuid.UUID] = {
        subject: found(annals, subject.identities) for subject in model.subjects
    }
    merged: dict[uuid.UUID, uuid.UUID] = {}

    def id_of(subject: Subject) -> uuid.UUID:
        if subject not in ids:
            ids[subject] = uuid.uuid4()
            if subject.merged_into is not None and subject.today not in model.erased:
                merged[ids[subject]] = id_of(subject.today)
        return ids[subject]

    memberships = [
        Membership(
            id_of(person), id_of(account), membership.joined_at, membership.left_at,
            cast("str | None", membership.properties.get("role")),
        )
        for person in model.subjects + model.erased
        if person.kind is SubjectKind.USER
        for account, membership in person.memberships.items()
    ]  # fmt: skip
    subjects = {ids[subject]: _facts(subject) for subject in model.subjects}
    return Everybody(whole(subjects, memberships, merged), moment)


def _facts(subject: Subject) -> Facts:
    attributes: dict[ask.Attribute, str | datetime] = {}
    if subject.seen:
        attributes[ask.Attribute.FIRST_SEEN] = min(subject.seen)
        attributes[ask.Attribute.LAST_SEEN] = max(subject.seen)
    if subject.external_id is not None:
        attributes[ask.Attribute.EXTERNAL_ID] = subject.external_id.value
    return Facts(
        kind=subject.kind,
        properties=subject.properties,
        attributes=attributes,
        deeds=[Deed(*key, count) for key, count in subject.days.items()],
    )


def standings(
    everybody: Everybody, active: Active, hands: Mapping[SubjectId, str | None], on: On
) -> Standings:
    """Where everybody stands once all is decided.

    Args:
        hands: in which stage somebody put whom, until released.
    """
    before: Standings = {SubjectId(id): Standing() for id in everybody.world.subjects}
    for _ in range(len(active) + 4):
        seen = with_decisions(everybody, active, before, on)
        after = {id: _standing(id, seen, active, hands, before[id]) for id in before}
        if after == before:
            return after
        before = after
    raise AssertionError("definitions rest on themselves")


def with_decisions(everybody: Everybody, active: Active, decided: Standings, on: On) -> Everybody:
    """What conditions see: the facts, and what was decided."""
    names = {
        id: definition.name
        for id, definition in active.items()
        if isinstance(definition, Score | Signal)
    }
    subjects = {
        id: msgspec.structs.replace(
            facts,
            stage=decided[SubjectId(id)].stage,
            health=decided[SubjectId(id)].health,
            scores={
                names[score]: float(value)
                for score, (value, _) in decided[SubjectId(id)].scores.items()
            },
            signals={names[signal] for of, signal in on if of == id and signal in names},
            segments=set(decided[SubjectId(id)].segments),
        )
        for id, facts in everybody.world.subjects.items()
    }
    return everybody._replace(world=msgspec.structs.replace(everybody.world, subjects=subjects))


def _standing(
    id: SubjectId,
    seen: Everybody,
    active: Active,
    hands: Mapping[SubjectId, str | None],
    before: Standing,
) -> Standing:
    mine = {
        key: definition
        for key, definition in active.items()
        if getattr(definition, "kind", None) is seen.world.subjects[id].kind
    }

    def so(condition: ask.Condition | None) -> bool:
        return condition is not None and holds(condition, id, seen.world, seen.moment)

    after = Standing()
    for definition in mine.values():
        if isinstance(definition, Stages):
            for stage in definition.stages:
                if so(stage.condition):
                    after.stage = stage.name
                    break
    if id in hands:
        after.stage = hands[id]
    for definition in mine.values():
        if isinstance(definition, HealthProfile) and before.stage in definition.stages:
            after.health = _health(definition, good=so(definition.good), bad=so(definition.bad))
    for key, definition in mine.items():
        if isinstance(definition, Score):
            held = [rule.name for rule in definition.rules if so(rule.condition)]
            after.scores[key] = value(definition, held), held
        elif isinstance(definition, Segment) and so(definition.condition):
            after.segments.add(key)
    return after


def _health(profile: HealthProfile, *, good: bool, bad: bool) -> Health:
    if good:
        return Health.GOOD
    return Health.BAD if bad else Health.NORMAL


def value(score: Score, held: Iterable[str]) -> Decimal:
    """Percent, two decimals."""
    weights = {rule.name: rule.weight for rule in score.rules}
    part, whole = sum(weights[name] for name in held), sum(weights.values())
    exact = min(max(Decimal(100 * part) / whole, Decimal(0)), Decimal(100))
    return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)


class Input(NamedTuple):
    """Something decided that a condition asks for.

    Attributes:
        name: of a score or signal; a segment's id.
        of_others: it is asked of others, over memberships.
    """

    family: str
    kind: SubjectKind
    name: str = ""
    of_others: bool = False


def inputs(definition: Definition) -> set[Input]:
    """What of that which is decided a definition asks for."""
    match definition:
        case Stages(kind, _, stages):
            return {input for stage in stages for input in _asked(stage.condition, kind)}
        case HealthProfile(kind, _, _, good, bad):
            both = [condition for condition in (good, bad) if condition is not None]
            return {Input("stage", kind)} | {input for some in both for input in _asked(some, kind)}
        case Score(kind, _, rules):
            return {input for rule in rules for input in _asked(rule.condition, kind)}
        case Signal(kind, _, condition, _, goal, _):
            hoped = set() if goal is None else _asked(goal, kind)
            return _asked(condition, kind) | hoped
        case Segment(kind, _, condition):
            return set() if condition is None else _asked(condition, kind)
        case _:
            return set()


def _asked(condition: ask.Condition, kind: SubjectKind) -> set[Input]:
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            return {found for part in of for found in _asked(part, kind)}
        case ask.Not(part):
            return _asked(part, kind)
        case ask.OfAccounts(_, where):
            asked = _asked(where, SubjectKind.ACCOUNT)
            return {input._replace(of_others=True) for input in asked}
        case ask.OfUsers(_, where):
            return {input._replace(of_others=True) for input in _asked(where, SubjectKind.USER)}
        case ask.StageIs():
            return {Input("stage", kind)}
        case ask.HealthIs():
            return {Input("health", kind)}
        case ask.ScoreIs(score):
            return {Input("score", kind, score)}
        case ask.SignalIs(signal):
            return {Input("signal", kind, signal)}
        case ask.InSegment(segment):
            return {Input("segment", kind, str(segment))}
        case _:
            return set()
