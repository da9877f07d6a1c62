"""What decisions of one subject form one history, in which each is recorded once."""

from __future__ import annotations

from domain.events import Decision, HealthChanged, StageTransition

STAGE_SERIES, HEALTH_SERIES = "stage", "health"


def series(decision: Decision) -> str:
    """A subject has one stage and one health, whatever definition decides it; and one history in
    each segment, score and signal."""
    match decision:
        case StageTransition():
            return STAGE_SERIES
        case HealthChanged():
            return HEALTH_SERIES
        case _:
            return str(decision.definition)
