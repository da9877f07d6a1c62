"""Decisions: what a definition decided of a subject, and why."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import msgspec

from domain.conditions.language import Health
from domain.definitions.types import DefinitionId
from domain.events.payloads import Payload


class OfEvent(msgspec.Struct, frozen=True, tag="event", gc=False):
    """The newest event of those that changed what a condition asks for."""

    partition: int
    position: int


class OfDay(msgspec.Struct, frozen=True, tag="day", gc=False):
    """A calendar day began: periods moved on."""

    day: date


class OfDefinition(msgspec.Struct, frozen=True, tag="definition", gc=False):
    """Something was made, changed, activated, archived or deleted.

    Attributes:
        version: that it has since.
        definition: where it need not be the one that decides; None: it is.
    """

    version: int
    definition: DefinitionId | None = None


class OfRebuild(msgspec.Struct, frozen=True, tag="rebuild", gc=False):
    """All was looked at again, once read models had been made anew."""


class OfTime(msgspec.Struct, frozen=True, tag="time", gc=False):
    """The clock reached an instant that was waited for."""

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
    """The subject is no member of a segment any more."""


class StageTransition(DecisionEvent, frozen=True, kw_only=True):
    """The subject entered or left a stage; odd ordinals enter. From one stage to the next are two,
    recorded together."""

    stage: str


class StageEntered(StageTransition, frozen=True):
    """The subject came into a stage. `by_hand`: somebody put it there."""

    by_hand: bool = False


class StageLeft(StageTransition, frozen=True):
    """The subject went out of a stage."""


class HealthChanged(DecisionEvent, frozen=True, kw_only=True):
    """The subject became good, normal or bad. `definition` is the profile that was asked,
    or the list of stages where the stage that it is in has none."""

    before: Health
    after: Health


class ScoreChanged(DecisionEvent, frozen=True, kw_only=True):
    """A score, or which of its rules hold, became another.

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
