"""Stages, health, scores and signals: how long after a write they show while events stream in; and
how long it takes to decide everybody anew after a definition changed.

A worker process projects and decides. This one sends events at a steady rate and, among them,
changes of users of its own, and looks each time how long it takes until the stage shows it.
"""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime

from domain.conditions import language as ask
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
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from tests.bench.figures import Figure, Report
from tests.bench.stream import (
    CANARY,
    EDITOR,
    EVENTS_A_SECOND,
    PLANS,
    USER,
    did,
    lags,
    populate,
    recorded,
    settle,
    working,
)

SCORES, RULES, SIGNALS = 5, 6, 20
SHOWN = f"SELECT FROM views.contacts WHERE subject = %(subject)s AND stage = '{CANARY}'"


def run(
    annals: Annals, url: str, report: Report, *, subjects: int, seconds: int, changes: float
) -> None:
    """The row `decide.lag_p99`."""
    chance = random.Random(1)
    with working(annals.settings.data, url):
        report.note(f"{subjects:,} users come to be known")
        populate(annals, subjects, chance)
        _define_all(annals, chance)
        settle(annals)
        report.note(
            f"6 stages, 3 profiles, {SCORES} scores of {RULES} rules and {SIGNALS} signals are"
            f" decided; {EVENTS_A_SECOND:,} events/s begin"
        )
        found = lags(annals, subjects, chance, seconds=seconds, changes=changes, shown=SHOWN)
    found.add_to(report, "decide.lag_p99")


def run_full(annals: Annals, url: str, report: Report, *, subjects: int) -> None:
    """The row `decide.full`: from the change of a list of stages until all that it moves, a tenth,
    is recorded and shown."""
    chance = random.Random(1)
    with working(annals.settings.data, url):
        report.note(f"{subjects:,} users come to be known")
        populate(annals, subjects, chance)
        id = activate(annals, _stages(trial_seats=50))
        settle(annals)
        report.note("their stages are decided; the list changes")
        before = recorded(annals)
        begun = time.perf_counter()
        changed = _stages(trial_seats=90)
        annals.definitions.decide(
            lambda state: editing.change(state, id, changed, EDITOR), datetime.now(UTC)
        )
        settle(annals, report)
        seconds = time.perf_counter() - begun
        report.note(f"decide.full: {recorded(annals) - before:,} decisions were recorded")
    report.add(Figure("decide.full", round(seconds, 2), "s"))


def activate(annals: Annals, definition: Definition) -> DefinitionId:
    id = DefinitionId(uuid.uuid4())
    annals.definitions.decide(
        lambda state: editing.make(state, id, definition, EDITOR), datetime.now(UTC)
    )
    annals.definitions.decide(lambda state: editing.activate(state, id, EDITOR), datetime.now(UTC))
    return id


def _plan(*plans: str) -> ask.Condition:
    return ask.PropertyIs("plan", ask.In([*plans]))


def _seats(least: int) -> ask.Condition:
    return ask.PropertyIs("seats", ask.AtLeast(least))


def _stages(trial_seats: int = 20, active: ask.Condition | None = None) -> Stages:
    conditions = {
        CANARY: ask.PropertyIs(CANARY, ask.Greater(0)),
        "enterprise": ask.AllOf([_plan("enterprise"), _seats(10)]),
        "paying": _plan("pro", "enterprise"),
        "late trial": ask.AllOf([_plan("trial"), _seats(trial_seats)]),
        "trial": _plan("trial"),
        "active": active or ask.PropertyIs("seats", ask.Less(50)),
    }
    stages = [Stage(name, StageType.OTHER, one) for name, one in conditions.items()]
    return Stages(USER, "life", stages)


def _define_all(annals: Annals, chance: random.Random) -> None:
    activate(annals, _stages(active=did(chance, 4)))
    for n, stages in enumerate((["enterprise", "paying"], ["late trial", "trial"], ["active"])):
        good = ask.AllOf([_seats(30), did(chance, 4)])
        activate(annals, HealthProfile(USER, f"profile {n}", [*stages], good, ask.Not(_seats(10))))
    for n in range(SCORES):
        conditions = [
            _plan("pro", "enterprise"),
            _seats(chance.randrange(100)),
            *(did(chance, 6) for _ in range(3)),
            ask.OfAccounts(ask.AnyOf(), _plan(chance.choice(PLANS))),
        ]
        rules = [ScoreRule(f"rule {m}", m + 1, one) for m, one in enumerate(conditions)]
        activate(annals, Score(USER, f"score {n}", rules))
    for n in range(SIGNALS):
        condition = ask.AllOf(
            [
                _plan(chance.choice(PLANS)),
                did(chance, 6),
                ask.StageIs(["paying", "enterprise", "trial"])
                if n % 2
                else ask.ScoreIs(f"score {n % SCORES}", ask.AtLeast(30)),
            ]
        )
        goal, hours = (did(chance, 6), 24) if n % 4 == 0 else (None, None)
        activate(annals, Signal(USER, f"signal {n}", condition, 24, goal, hours))
