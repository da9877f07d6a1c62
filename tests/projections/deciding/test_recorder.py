"""What is recorded of decisions that several take at once: each series as one of them took it."""

from __future__ import annotations

import uuid

from domain.commands import Change
from domain.definitions.types import DefinitionId
from domain.events.decisions import (
    DecisionEvent,
    GoalReached,
    OfEvent,
    SignalEnded,
    StageEntered,
    StageLeft,
)
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from tests.projections.definitions import decisions
from tests.projections.read_models import NOON, found, user, write

USER = SubjectKind.USER
ID, CAUSE = DefinitionId(uuid.uuid4()), OfEvent(0, 1)


def test_what_follows_a_decision_that_somebody_else_took_first_is_not_recorded(
    annals: Annals,
) -> None:
    write(annals, Change(USER, user("ada"), {}, NOON))
    ada = found(annals, user("ada"))
    recorder = annals.decider()._recorder
    ended: list[DecisionEvent] = [SignalEnded(ID, 3, 1, CAUSE)]
    both: list[DecisionEvent] = [GoalReached(ID, 3, 1, CAUSE), SignalEnded(ID, 4, 1, CAUSE)]
    recorder.record([(USER, ada, decision) for decision in ended], NOON)
    recorder.record([(USER, ada, decision) for decision in both], NOON)
    assert decisions(annals, ada, DecisionEvent) == ended


def test_other_series_are_recorded_all_the_same(annals: Annals) -> None:
    write(annals, Change(USER, user("ada"), {}, NOON), Change(USER, user("ben"), {}, NOON))
    ada, ben = found(annals, user("ada")), found(annals, user("ben"))
    recorder = annals.decider()._recorder
    first = [(USER, ada, StageLeft(ID, 2, 1, CAUSE, stage="a"))]
    recorder.record(first, NOON)
    moved: list[DecisionEvent] = [
        StageLeft(ID, 2, 1, CAUSE, stage="a"),
        StageEntered(ID, 3, 1, CAUSE, stage="b"),
    ]
    ended = SignalEnded(ID, 2, 1, CAUSE)
    recorder.record(
        [*((USER, who, decision) for who in (ada, ben) for decision in moved), (USER, ada, ended)],
        NOON,
    )
    assert decisions(annals, ada, DecisionEvent) == [first[0][2], ended]
    assert decisions(annals, ben, DecisionEvent) == moved
