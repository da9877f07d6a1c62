"""Decisions of definitions about subjects, with their causes."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import msgspec

from domain.conditions.language import Health
from domain.definitions.types import DefinitionId
from domain.events.payloads import Payload


class OfEvent(msgspec.Struct, frozen=True, tag="event", gc=False):
    """The newest event that changed a fact of the conditions."""

    partition: int
    position: int


class OfDay(msgspec.Struct, frozen=True, tag="day", gc=False):
    """A calendar day began: periods moved on."""

    day: date


class OfDefinition(msgspec.Struct, frozen=True, tag="definition", gc=False):
    """A definition was made, changed, activated, archived or deleted.

    Attributes:
        version: its version since then.
        definition: its id, if another than the deciding one may be meant; None: the deciding one.
    """

    version: int
    definition: DefinitionId | None = None


class OfRebuild(msgspec.Struct, frozen=True, tag="rebuild", gc=False):
    """Every subject was evaluated again after a rebuild of the read models."""


class OfTime(msgspec.Struct, frozen=True, tag="time", gc=False):
    """The clock reached an awaited instant."""

    at: datetime


DecisionCause = OfEvent | OfDay | OfDefinition | OfRebuild | OfTime
"""The cause of a decision about a subject."""


class DecisionEvent(Payload, frozen=True):
    """A decision of a definition about the subject of this stream.

    Attributes:
        definition: the deciding definition; for a stage set by hand the active list of stages.
        ordinal: 1, 2, 3 and so on, by subject and `domain.events.decisions.series`: each is
            recorded once.
        version: of the definition.
        saw: the evidence of its conditions, by JSON pointer into the definition.
    """

    definition: DefinitionId
    ordinal: int
    version: int
    cause: DecisionCause
    saw: dict[str, Any] = msgspec.field(default_factory=dict)


class SegmentTransition(DecisionEvent, frozen=True):
    """The subject entered or left a segment; odd ordinals enter."""


class SegmentEntered(SegmentTransition, frozen=True):
    """The subject became a member of a segment."""


class SegmentLeft(SegmentTransition, frozen=True):
    """The subject is no longer a member of a segment."""


class StageTransition(DecisionEvent, frozen=True, kw_only=True):
    """The subject entered or left a stage; odd ordinals enter. A move between two stages is two
    events, recorded together."""

    stage: str


class StageEntered(StageTransition, frozen=True):
    """The subject entered a stage. `by_hand`: a person set it."""

    by_hand: bool = False


class StageLeft(StageTransition, frozen=True):
    """The subject left a stage."""


class HealthChanged(DecisionEvent, frozen=True, kw_only=True):
    """The health of the subject became good, normal or bad. `definition` is the profile of its
    stage, or the list of stages if the stage has no profile."""

    before: Health
    after: Health


class ScoreChanged(DecisionEvent, frozen=True, kw_only=True):
    """A score changed, or the set of its rules that hold.

    Attributes:
        before, after: 0 to 100, two decimals; None: there is no such score (yet, any more).
        held, missed: the rules that hold now and those that do not, by name.
    """

    before: float | None
    after: float | None
    held: list[str] = msgspec.field(default_factory=list)
    missed: list[str] = msgspec.field(default_factory=list)


class SignalTriggered(DecisionEvent, frozen=True, kw_only=True):
    """A signal turned on. `goal_due_at`: until when it is watched for its goal, if it has one."""

    goal_due_at: datetime | None = None


class SignalEnded(DecisionEvent, frozen=True):
    """A signal turned off."""


class GoalReached(DecisionEvent, frozen=True):
    """The goal of a signal's playbook was reached in time."""


class GoalMissed(DecisionEvent, frozen=True):
    """The goal of a signal's playbook was not reached in time."""


STAGE_SERIES, HEALTH_SERIES = "stage", "health"


def series(decision: DecisionEvent) -> str:
    """A subject has one stage and one health, whatever definition decides it; and one history in
    each segment, score and signal."""
    match decision:
        case StageTransition():
            return STAGE_SERIES
        case HealthChanged():
            return HEALTH_SERIES
        case _:
            return str(decision.definition)
