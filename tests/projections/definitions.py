"""What tests do with definitions of all families: define, change, archive; read decisions back."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, TypeVar

from domain.conditions.language import Condition
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    ScoreRule,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.events.decisions import DecisionEvent
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from tests.projections.segments import EDITOR

D = TypeVar("D", bound=DecisionEvent)


def activate(annals: Annals, definition: Definition, at: datetime | None = None) -> DefinitionId:
    """Makes a definition and activates it."""
    id = DefinitionId(uuid.uuid4())
    at = at or datetime.now(UTC)
    annals.definitions.decide(lambda state: editing.make(state, id, definition, EDITOR), at)
    annals.definitions.decide(lambda state: editing.activate(state, id, EDITOR), at)
    return id


def change(annals: Annals, id: DefinitionId, definition: Definition) -> None:
    annals.definitions.decide(
        lambda state: editing.change(state, id, definition, EDITOR), datetime.now(UTC)
    )


def archive(annals: Annals, id: DefinitionId) -> None:
    annals.definitions.decide(lambda state: editing.archive(state, id, EDITOR), datetime.now(UTC))


def stages(kind: SubjectKind = SubjectKind.USER, /, **conditions: Condition) -> Stages:
    """A list of stages, in the order given, each named with its condition."""
    return Stages(
        kind,
        "life",
        [Stage(name, StageType.OTHER, condition) for name, condition in conditions.items()],
    )


def profile(
    *names: str | None,
    good: Condition | None = None,
    bad: Condition | None = None,
    kind: SubjectKind = SubjectKind.USER,
) -> HealthProfile:
    return HealthProfile(kind, f"of {names}", list(names), good, bad)


def score(
    kind: SubjectKind = SubjectKind.USER, name: str = "fit", **rules: tuple[int, Condition]
) -> Score:
    """A score of rules, each named with its weight and condition."""
    return Score(kind, name, [ScoreRule(rule, *of) for rule, of in rules.items()])


def signal(
    condition: Condition,
    *,
    name: str = "alarm",
    reentry_hours: int | None = None,
    goal: Condition | None = None,
    goal_hours: int | None = None,
    kind: SubjectKind = SubjectKind.USER,
) -> Signal:
    return Signal(kind, name, condition, reentry_hours, goal, goal_hours)


def decisions(annals: Annals, subject: SubjectId, what: type[D]) -> list[D]:
    """What the log says was decided of a subject, in order."""
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    return [
        event.payload
        for event in annals.sealer.open_rows(rows)
        if event.row.stream == subject and isinstance(event.payload, what)
    ]


def row(annals: Annals, query: str, *values: Any) -> tuple[Any, ...] | None:
    with annals.views.connection() as conn:
        return conn.execute(query, values).fetchone()


def standing(annals: Annals, subject: SubjectId) -> tuple[str | None, str]:
    """The stage and the health that the read models show."""
    found = row(annals, "SELECT stage, health FROM views.contacts WHERE subject = %s", subject)
    assert found is not None
    return found[0], found[1]
