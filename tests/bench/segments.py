"""Membership: how long after a write it shows, with a hundred segments and events that stream in.

A worker process projects and decides. This one sends events at a steady rate and, among them,
changes of users of its own, and looks each time how long it takes until membership shows it.
"""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime

from domain.conditions import language as ask
from domain.definitions.types import DefinitionId, Segment
from domain.identity import SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from tests.bench.figures import Report
from tests.bench.stream import (
    CANARY,
    EDITOR,
    EVENTS_A_SECOND,
    PLANS,
    did,
    lags,
    populate,
    settle,
    working,
)

SEGMENTS = 100


def run(
    annals: Annals, url: str, report: Report, *, subjects: int, seconds: int, changes: float
) -> None:
    """The row `segments.lag_p99`."""
    chance = random.Random(1)
    with working(annals.settings.data, url):
        report.note(f"{subjects:,} users come to be known")
        populate(annals, subjects, chance)
        canary = _define(annals, chance)
        settle(annals)
        report.note(f"{SEGMENTS} segments are decided; {EVENTS_A_SECOND:,} events/s begin")
        shown = (
            f"SELECT FROM views.segment_members WHERE segment = '{canary}'"
            " AND subject = %(subject)s"
        )
        found = lags(annals, subjects, chance, seconds=seconds, changes=changes, shown=shown)
    found.add_to(report, "segments.lag_p99")


def _define(annals: Annals, chance: random.Random) -> DefinitionId:
    """A hundred segments of all sorts; returns the one that is watched."""

    def segment(condition: ask.Condition, kind: SubjectKind = SubjectKind.USER) -> DefinitionId:
        id = DefinitionId(uuid.uuid4())
        made = Segment(kind, str(id), condition)
        annals.definitions.decide(
            lambda state: editing.make(state, id, made, EDITOR), datetime.now(UTC)
        )
        return id

    def plan() -> ask.Condition:
        return ask.PropertyIs("plan", ask.Is(chance.choice(PLANS)))

    canary = segment(ask.PropertyIs(CANARY, ask.Greater(0)))
    accounts = [segment(plan(), SubjectKind.ACCOUNT) for _ in range(9)]
    for n in range(SEGMENTS - 10):
        match n % 5:
            case 0:
                segment(
                    ask.AllOf([plan(), ask.PropertyIs("seats", ask.AtLeast(chance.randrange(100)))])
                )
            case 1 | 2:
                segment(ask.AllOf([plan(), did(chance, 6)]))
            case 3:
                segment(
                    ask.AllOf(
                        [plan(), ask.Not(did(chance, 3)), ask.PropertyIs("seats", ask.Less(20))]
                    )
                )
            case _:
                inside = ask.OfAccounts(ask.AnyOf(), ask.InSegment(chance.choice(accounts)))
                segment(ask.AllOf([inside, did(chance, 4)]))
    return canary
