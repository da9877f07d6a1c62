"""Membership: how long after a write it shows, with a hundred segments and events that stream in.

A worker process projects and decides. This one sends events at a steady rate and, among them,
changes of users of its own, and looks each time how long it takes until membership shows it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

from domain import conditions as c
from domain.activity import Activity, ActivityKind
from domain.commands import Change, Command, Join, Request, Track
from domain.definitions import DefinitionId, Segment
from domain.identity import Identity, Scheme, SubjectKind
from domain.periods import LastDays, ThisMonth
from infra.wiring import Annals
from tests.bench.figures import Figure, Report

SEGMENTS = 100
EVENTS_A_SECOND = 5_000
BATCH = 250
CHANGES = 0.02
"""Of the events those that change a user's plan, which moves it in some five segments each."""

USERS_AN_ACCOUNT = 50
PLANS = ("free", "trial", "pro", "enterprise")
EVENTS = tuple(f"did thing {n}" for n in range(40))
EDITOR = uuid.UUID("0e000000-0000-4000-8000-000000000001")

WORKER = """
import sys
from pathlib import Path
from infra import wiring
from infra.settings import Settings
with wiring.opened(Settings(data=Path(sys.argv[1])), sys.argv[2]) as annals:
    with wiring.working(annals, project=True):
        print("working", flush=True)
        sys.stdin.readline()
"""


def run(annals: Annals, url: str, report: Report, *, subjects: int, seconds: int) -> None:
    chance = random.Random(1)
    with working(annals.settings.data, url):
        report.note(f"{subjects:,} users come to be known")
        _populate(annals, subjects, chance)
        canary = _define(annals, chance)
        _wait(lambda: _settled(annals))
        report.note(f"{SEGMENTS} segments are decided; {EVENTS_A_SECOND:,} events/s begin")
        lags, rate = _lags(annals, canary, subjects, seconds, chance)
    ranked = quantiles(lags, n=100)
    report.note(
        f"segments.lag at {rate:,.0f} events/s, {len(lags)} changes: median"
        f" {median(lags) * 1e3:,.0f} ms, p99 {ranked[98] * 1e3:,.0f} ms,"
        f" most {max(lags) * 1e3:,.0f} ms"
    )
    report.add(Figure("segments.lag_p99", round(ranked[98] * 1e3, 1), "ms"))


def _user(n: int) -> tuple[Identity, ...]:
    return (Identity(Scheme.USER_ID, f"user {n}"),)


def _account(n: int) -> tuple[Identity, ...]:
    return (Identity(Scheme.ACCOUNT_ID, f"account {n}"),)


def _populate(annals: Annals, subjects: int, chance: random.Random) -> None:
    now = datetime.now(UTC)
    commands: list[Command] = []
    for n in range(subjects):
        properties = {"plan": chance.choice(PLANS), "seats": chance.randrange(100)}
        commands.append(Change(SubjectKind.USER, _user(n), properties, now))
        if n % 2:
            account = {"plan": chance.choice(PLANS)}
            commands.append(Join(_user(n), _account(n // USERS_AN_ACCOUNT), account, {}, now))
    commands.append(Change(SubjectKind.USER, _user(0), {"canary": -1}, now))
    for start in range(0, len(commands), 2_000):
        annals.handler.handle([Request(one) for one in commands[start : start + 2_000]])


def _define(annals: Annals, chance: random.Random) -> DefinitionId:
    """A hundred segments of all sorts; returns the one that is watched."""

    def segment(condition: c.Condition, kind: SubjectKind = SubjectKind.USER) -> DefinitionId:
        id = DefinitionId(uuid.uuid4())
        made = Segment(kind, str(id), condition)
        annals.definitions.decide(lambda state: state.make(id, made, EDITOR), datetime.now(UTC))
        return id

    def did(least: int) -> c.Condition:
        count = c.AtLeastTimes(chance.randrange(1, least))
        period = chance.choice((LastDays(7), LastDays(30), ThisMonth(), None))
        return c.Did("event", chance.choice(EVENTS), count, period)

    def plan() -> c.Condition:
        return c.PropertyIs("plan", c.Is(chance.choice(PLANS)))

    canary = segment(c.PropertyIs("canary", c.Greater(0)))
    accounts = [segment(plan(), SubjectKind.ACCOUNT) for _ in range(9)]
    for n in range(SEGMENTS - 10):
        match n % 5:
            case 0:
                segment(c.AllOf([plan(), c.PropertyIs("seats", c.AtLeast(chance.randrange(100)))]))
            case 1 | 2:
                segment(c.AllOf([plan(), did(6)]))
            case 3:
                segment(c.AllOf([plan(), c.Not(did(3)), c.PropertyIs("seats", c.Less(20))]))
            case _:
                inside = c.OfAccounts(c.AnyOf(), c.InSegment(chance.choice(accounts)))
                segment(c.AllOf([inside, did(4)]))
    return canary


def _lags(
    annals: Annals, canary: DefinitionId, subjects: int, seconds: int, chance: random.Random
) -> tuple[list[float], float]:
    """How long each of some changes took to show, and the rate of events meanwhile."""
    stop, sent = threading.Event(), 0

    def send() -> None:
        nonlocal sent
        due = time.perf_counter()
        while not stop.is_set():
            now = datetime.now(UTC)
            commands: list[Command] = []
            for _ in range(BATCH):
                user = chance.randrange(subjects)
                if chance.random() < CHANGES:
                    properties = {"plan": chance.choice(PLANS), "seats": chance.randrange(100)}
                    commands.append(Change(SubjectKind.USER, _user(user), properties, now))
                else:
                    did = (Activity(ActivityKind.EVENT, chance.choice(EVENTS)),)
                    at = now - timedelta(days=chance.choice((0, 0, 0, 1, 10)))
                    commands.append(Track(_user(user), (), did, at))
            annals.handler.handle([Request(one) for one in commands])
            sent += BATCH
            due += BATCH / EVENTS_A_SECOND
            stop.wait(max(0.0, due - time.perf_counter()))

    lags: list[float] = []
    senders = [threading.Thread(target=send)]
    for one in senders:
        one.start()
    try:
        time.sleep(min(5, seconds))
        begun, before = time.perf_counter(), sent
        with annals.views.connection() as conn:
            n = 0
            while time.perf_counter() - begun < seconds:
                id = annals.handler.find(_user(n)[0])
                n += 1
                change = Change(SubjectKind.USER, _user(n - 1), {"canary": n}, datetime.now(UTC))
                annals.handler.handle([Request(change)])
                written = time.perf_counter()
                while not conn.execute(
                    "SELECT FROM views.segment_members WHERE segment = %s AND subject = %s",
                    (canary, id),
                ).rowcount:
                    time.sleep(0.002)
                lags.append(time.perf_counter() - written)
        return lags, (sent - before) / (time.perf_counter() - begun)
    finally:
        stop.set()
        for one in senders:
            one.join()


def _settled(annals: Annals) -> bool:
    with annals.views.connection() as conn:
        row = conn.execute(
            "SELECT (SELECT count(*) FROM views.changes_due)"
            " + (SELECT count(*) FROM views.sweeps)"
            " + (SELECT 100 - count(*) FROM views.segments)"
        ).fetchone()
    return row is not None and row[0] == 0


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not done():
        assert time.monotonic() < deadline, "the worker does not get there"
        time.sleep(0.2)


@contextmanager
def working(data: Path, url: str) -> Iterator[None]:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(data), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "working\n"
        yield
    finally:
        worker.communicate("stop\n", timeout=60)
