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
from domain.identity import Scheme, SubjectId, SubjectKind
from infra.bootstrap import Annals
from tests.projections.read_model_oracle import Model, Subject
from tests.projections.read_models import found

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
    ids: dict[Subject, uuid.UUID] = {one: found(annals, one.identities) for one in model.subjects}
    merged: dict[uuid.UUID, uuid.UUID] = {}

    def id_of(one: Subject) -> uuid.UUID:
        if one not in ids:
            ids[one] = uuid.uuid4()
            if one.merged_into is not None and one.today not in model.erased:
                merged[ids[one]] = id_of(one.today)
        return ids[one]

    memberships = [
        Membership(
            id_of(person), id_of(account), one.joined_at, one.left_at,
            cast("str | None", one.properties.get("role")),
        )
        for person in model.subjects + model.erased
        if person.kind is SubjectKind.USER
        for account, one in person.memberships.items()
    ]  # fmt: skip
    subjects = {ids[one]: _facts(one) for one in model.subjects}
    return Everybody(World(subjects, memberships, merged), moment)


def _facts(one: Subject) -> Facts:
    attributes: dict[ask.Attribute, str | datetime] = {}
    if one.seen:
        attributes[ask.Attribute.FIRST_SEEN] = min(one.seen)
        attributes[ask.Attribute.LAST_SEEN] = max(one.seen)
    for name in one.identities:
        if name.scheme in (Scheme.USER_ID, Scheme.ACCOUNT_ID):
            attributes.setdefault(ask.Attribute.EXTERNAL_ID, name.value)
    return Facts(
        kind=one.kind,
        properties=one.properties,
        attributes=attributes,
        deeds=[Deed(*key, count) for key, count in one.days.items()],
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
    names = {id: one.name for id, one in active.items() if isinstance(one, Score | Signal)}
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
        key: one
        for key, one in active.items()
        if getattr(one, "kind", None) is seen.world.subjects[id].kind
    }

    def so(condition: ask.Condition | None) -> bool:
        return condition is not None and holds(condition, id, seen.world, seen.moment)

    after = Standing()
    for one in mine.values():
        if isinstance(one, Stages):
            for stage in one.stages:
                if so(stage.condition):
                    after.stage = stage.name
                    break
    if id in hands:
        after.stage = hands[id]
    for one in mine.values():
        if isinstance(one, HealthProfile) and before.stage in one.stages:
            after.health = _health(one, good=so(one.good), bad=so(one.bad))
    for key, one in mine.items():
        if isinstance(one, Score):
            held = [rule.name for rule in one.rules if so(rule.condition)]
            after.scores[key] = value(one, held), held
        elif isinstance(one, Segment) and so(one.condition):
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
            return {one for stage in stages for one in _asked(stage.condition, kind)}
        case HealthProfile(kind, _, _, good, bad):
            both = [one for one in (good, bad) if one is not None]
            return {Input("stage", kind)} | {one for some in both for one in _asked(some, kind)}
        case Score(kind, _, rules):
            return {one for rule in rules for one in _asked(rule.condition, kind)}
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
            return {found for one in of for found in _asked(one, kind)}
        case ask.Not(one):
            return _asked(one, kind)
        case ask.OfAccounts(_, where):
            asked = _asked(where, SubjectKind.ACCOUNT)
            return {one._replace(of_others=True) for one in asked}
        case ask.OfUsers(_, where):
            return {one._replace(of_others=True) for one in _asked(where, SubjectKind.USER)}
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
