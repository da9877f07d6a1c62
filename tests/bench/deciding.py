"""Stages, health, scores and signals: how long after a write they show while events stream in; and
how long it takes to decide everybody anew after a definition changed.

A worker process projects and decides. This one sends events at a steady rate and, among them,
changes of users of its own, and looks each time how long it takes until the stage shows it.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

from domain import conditions as c
from domain.activity import Activity, ActivityKind
from domain.commands import Change, Command, Join, Request, Track
from domain.definitions import (
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
from domain.identity import Identity, Scheme, SubjectKind
from domain.periods import LastDays, ThisMonth
from infra.wiring import Annals
from tests.bench.figures import Figure, Report
from tests.bench.segments import EDITOR, working

EVENTS_A_SECOND = 5_000
BATCH = 250
CHANGES = 0.02
"""Of the events those that change a user's plan and seats: most change a score, some a stage."""

USERS_AN_ACCOUNT = 50
PLANS = ("free", "trial", "pro", "enterprise")
EVENTS = tuple(f"did thing {n}" for n in range(40))
SCORES, RULES, SIGNALS = 5, 6, 20
CANARY = "canary"

USER = SubjectKind.USER


def run(annals: Annals, url: str, report: Report, *, subjects: int, seconds: int) -> None:
    """The row `decide.lag_p99`."""
    chance = random.Random(1)
    with working(annals.settings.data, url):
        report.note(f"{subjects:,} users come to be known")
        populate(annals, subjects, chance)
        _define_all(annals, chance)
        _settle(annals)
        report.note(
            f"6 stages, 3 profiles, {SCORES} scores of {RULES} rules and {SIGNALS} signals are"
            f" decided; {EVENTS_A_SECOND:,} events/s begin"
        )
        lags, rate, decided = _lags(annals, subjects, seconds, chance)
    ranked = quantiles(lags, n=100)
    report.note(
        f"decide.lag at {rate:,.0f} events/s and {decided:,.0f} decisions/s, {len(lags)} changes:"
        f" median {median(lags) * 1e3:,.0f} ms, p99 {ranked[98] * 1e3:,.0f} ms,"
        f" most {max(lags) * 1e3:,.0f} ms"
    )
    report.add(Figure("decide.lag_p99", round(ranked[98] * 1e3, 1), "ms"))


def run_full(annals: Annals, url: str, report: Report, *, subjects: int) -> None:
    """The row `decide.full`: from the change of a list of stages until all that it moves, a tenth,
    is recorded and shown."""
    chance = random.Random(1)
    with working(annals.settings.data, url):
        report.note(f"{subjects:,} users come to be known")
        populate(annals, subjects, chance)
        id = activate(annals, _stages(trial_seats=50))
        _settle(annals)
        report.note("their stages are decided; the list changes")
        before = _recorded(annals)
        begun = time.perf_counter()
        changed = _stages(trial_seats=90)
        annals.definitions.decide(lambda state: state.change(id, changed, EDITOR), _now())
        _settle(annals, report)
        seconds = time.perf_counter() - begun
        report.note(f"decide.full: {_recorded(annals) - before:,} decisions were recorded")
    report.add(Figure("decide.full", round(seconds, 2), "s"))


def populate(annals: Annals, subjects: int, chance: random.Random) -> None:
    now = _now()
    commands: list[Command] = []

    def send() -> None:
        annals.handler.handle([Request(one) for one in commands])
        commands.clear()

    for n in range(subjects):
        properties = {"plan": chance.choice(PLANS), "seats": chance.randrange(100)}
        commands.append(Change(USER, _user(n), properties, now))
        if n % 2:
            account = {"plan": chance.choice(PLANS)}
            commands.append(Join(_user(n), _account(n // USERS_AN_ACCOUNT), account, {}, now))
        if len(commands) >= 2_000:
            send()
    commands.append(Change(USER, _user(0), {CANARY: -1}, now))
    send()


def activate(annals: Annals, definition: Definition) -> DefinitionId:
    id = DefinitionId(uuid.uuid4())
    annals.definitions.decide(lambda state: state.make(id, definition, EDITOR), _now())
    annals.definitions.decide(lambda state: state.activate(id, EDITOR), _now())
    return id


def _user(n: int) -> tuple[Identity, ...]:
    return (Identity(Scheme.USER_ID, f"user {n}"),)


def _account(n: int) -> tuple[Identity, ...]:
    return (Identity(Scheme.ACCOUNT_ID, f"account {n}"),)


def _now() -> datetime:
    return datetime.now(UTC)


def _plan(*plans: str) -> c.Condition:
    return c.PropertyIs("plan", c.In([*plans]))


def _seats(least: int) -> c.Condition:
    return c.PropertyIs("seats", c.AtLeast(least))


def _did(chance: random.Random, least: int) -> c.Condition:
    count = c.AtLeastTimes(chance.randrange(1, least))
    period = chance.choice((LastDays(7), LastDays(30), ThisMonth(), None))
    return c.Did("event", chance.choice(EVENTS), count, period)


def _stages(trial_seats: int = 20, active: c.Condition | None = None) -> Stages:
    conditions = {
        CANARY: c.PropertyIs(CANARY, c.Greater(0)),
        "enterprise": c.AllOf([_plan("enterprise"), _seats(10)]),
        "paying": _plan("pro", "enterprise"),
        "late trial": c.AllOf([_plan("trial"), _seats(trial_seats)]),
        "trial": _plan("trial"),
        "active": active or c.PropertyIs("seats", c.Less(50)),
    }
    stages = [Stage(name, StageType.OTHER, one) for name, one in conditions.items()]
    return Stages(USER, "life", stages)


def _define_all(annals: Annals, chance: random.Random) -> None:
    activate(annals, _stages(active=_did(chance, 4)))
    for n, stages in enumerate((["enterprise", "paying"], ["late trial", "trial"], ["active"])):
        good = c.AllOf([_seats(30), _did(chance, 4)])
        activate(annals, HealthProfile(USER, f"profile {n}", [*stages], good, c.Not(_seats(10))))
    for n in range(SCORES):
        conditions = [
            _plan("pro", "enterprise"),
            _seats(chance.randrange(100)),
            *(_did(chance, 6) for _ in range(3)),
            c.OfAccounts(c.AnyOf(), _plan(chance.choice(PLANS))),
        ]
        rules = [ScoreRule(f"rule {m}", m + 1, one) for m, one in enumerate(conditions)]
        activate(annals, Score(USER, f"score {n}", rules))
    for n in range(SIGNALS):
        condition = c.AllOf(
            [
                _plan(chance.choice(PLANS)),
                _did(chance, 6),
                c.StageIs(["paying", "enterprise", "trial"])
                if n % 2
                else c.ScoreIs(f"score {n % SCORES}", c.AtLeast(30)),
            ]
        )
        goal, hours = (_did(chance, 6), 24) if n % 4 == 0 else (None, None)
        activate(annals, Signal(USER, f"signal {n}", condition, 24, goal, hours))


def _lags(
    annals: Annals, subjects: int, seconds: int, chance: random.Random
) -> tuple[list[float], float, float]:
    """How long each of some changes took to show; and the rates of events and of decisions
    meanwhile."""
    stop, sent = threading.Event(), 0

    def send() -> None:
        nonlocal sent
        due = time.perf_counter()
        while not stop.is_set():
            now = _now()
            commands: list[Command] = []
            for _ in range(BATCH):
                user = chance.randrange(subjects)
                if chance.random() < CHANGES:
                    properties = {"plan": chance.choice(PLANS), "seats": chance.randrange(100)}
                    commands.append(Change(USER, _user(user), properties, now))
                else:
                    did = (Activity(ActivityKind.EVENT, chance.choice(EVENTS)),)
                    at = now - timedelta(days=chance.choice((0, 0, 0, 1, 10)))
                    commands.append(Track(_user(user), (), did, at))
            annals.handler.handle([Request(one) for one in commands])
            sent += BATCH
            due += BATCH / EVENTS_A_SECOND
            stop.wait(max(0.0, due - time.perf_counter()))

    lags: list[float] = []
    sender = threading.Thread(target=send)
    sender.start()
    try:
        time.sleep(min(5, seconds))
        begun, before, recorded = time.perf_counter(), sent, _recorded(annals)
        with annals.views.connection() as conn:
            n = 0
            while time.perf_counter() - begun < seconds:
                id = annals.handler.find(_user(n)[0])
                n += 1
                change = Change(USER, _user(n - 1), {CANARY: n}, _now())
                annals.handler.handle([Request(change)])
                written = time.perf_counter()
                while not conn.execute(
                    "SELECT FROM views.contacts WHERE subject = %s AND stage = %s", (id, CANARY)
                ).rowcount:
                    time.sleep(0.002)
                lags.append(time.perf_counter() - written)
        lasted = time.perf_counter() - begun
        events = sent - before
        return lags, events / lasted, (_recorded(annals) - recorded - events) / lasted
    finally:
        stop.set()
        sender.join()


def _recorded(annals: Annals) -> int:
    return sum(annals.log.heads(range(256)).values())


def _settle(annals: Annals, report: Report | None = None) -> None:
    """Waits until all is decided and shown; with a report, says how far sweeps are."""
    deadline, quiet, said = time.monotonic() + 1_800, 0, 0.0
    while quiet < 2:
        assert time.monotonic() < deadline, "the worker does not get there"
        status = annals.status()
        if report is not None and time.monotonic() - said > 2 and status.deciding:
            said = time.monotonic()
            shares = ", ".join(f"{one.rule} {one.done:.0%}" for one in status.deciding)
            report.note(f"deciding: {shares}; {status.behind:,} events behind")
        with annals.views.connection() as conn:
            row = conn.execute("SELECT count(*) FROM views.changes_due").fetchone()
        is_done = not status.behind and not status.deciding and row == (0,)
        quiet = quiet + 1 if is_done else 0
        time.sleep(0.1)
