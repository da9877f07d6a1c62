"""A workspace under a stream of events: users in accounts, a worker that projects and decides, and
how long after a write something that follows from it shows."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from domain.activity import Activity, ActivityKind
from domain.calendar import LastDays, ThisMonth
from domain.commands import Change, Command, Join, Request, Track
from domain.conditions import language as ask
from domain.identity import Identity, Scheme, SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from tests.bench.figures import Figure, Report

USER = SubjectKind.USER
EVENTS_A_SECOND = 5_000
BATCH = 250
USERS_AN_ACCOUNT = 50
PLANS = ("free", "trial", "pro", "enterprise")
EVENTS = tuple(f"did thing {n}" for n in range(40))
CANARY = "canary"
"""The property by which one user at a time is made to move."""

EDITOR = uuid.UUID("0e000000-0000-4000-8000-000000000001")

WORKER = """
import sys
from pathlib import Path
from infra import bootstrap, workers
from infra.settings import Settings
with bootstrap.opened(Settings(data=Path(sys.argv[1])), sys.argv[2]) as annals:
    bootstrap.collect_garbage_seldom()
    with workers.working(annals, project=True):
        print("working", flush=True)
        sys.stdin.readline()
"""


class Lags(NamedTuple):
    """In seconds; and the rates in 1/s of events sent, and of what was recorded besides."""

    seconds: list[float]
    events: float
    decisions: float

    def add_to(self, report: Report, bench: str) -> None:
        ranked = quantiles(self.seconds, n=100)
        report.note(
            f"{bench} at {self.events:,.0f} events/s and {self.decisions:,.0f} decisions/s,"
            f" {len(self.seconds)} changes: median {median(self.seconds) * 1e3:,.0f} ms,"
            f" p99 {ranked[98] * 1e3:,.0f} ms, most {max(self.seconds) * 1e3:,.0f} ms"
        )
        report.add(Figure(bench, round(ranked[98] * 1e3, 1), "ms"))


def user(n: int) -> tuple[Identity, ...]:
    return (Identity(Scheme.USER_ID, f"user {n}"),)


def did(chance: random.Random, below: int) -> ask.Condition:
    """Some event at least once and less than `below` times, in some period."""
    count = ask.AtLeastTimes(chance.randrange(1, below))
    period = chance.choice((LastDays(7), LastDays(30), ThisMonth(), None))
    return ask.Did("event", chance.choice(EVENTS), count, period)


def populate(annals: Annals, subjects: int, chance: random.Random) -> None:
    """Users with a plan and seats, every other one of them in an account."""
    now = datetime.now(UTC)
    commands: list[Command] = []

    def send() -> None:
        annals.handler.handle([Request(one) for one in commands])
        commands.clear()

    for n in range(subjects):
        commands.append(_change(n, chance, now))
        if n % 2:
            account = (Identity(Scheme.ACCOUNT_ID, f"account {n // USERS_AN_ACCOUNT}"),)
            commands.append(Join(user(n), account, {"plan": chance.choice(PLANS)}, {}, now))
        if len(commands) >= 2_000:
            send()
    commands.append(Change(USER, user(0), {CANARY: -1}, now))
    send()


def _change(n: int, chance: random.Random, at: datetime) -> Change:
    properties = {"plan": chance.choice(PLANS), "seats": chance.randrange(100)}
    return Change(USER, user(n), properties, at)


def lags(
    annals: Annals,
    subjects: int,
    chance: random.Random,
    *,
    seconds: int,
    changes: float,
    shown: str,
) -> Lags:
    """How long it takes each time until a user whose `CANARY` has come to be positive shows it.

    Args:
        changes: the share of the events that change a user's plan and seats.
        shown: a query with a row as soon as it does; takes `subject`.
    """
    stop, sent = threading.Event(), 0

    def send() -> None:
        nonlocal sent
        due = time.perf_counter()
        while not stop.is_set():
            now = datetime.now(UTC)
            commands: list[Command] = []
            for _ in range(BATCH):
                n = chance.randrange(subjects)
                if chance.random() < changes:
                    commands.append(_change(n, chance, now))
                else:
                    deed = (Activity(ActivityKind.EVENT, chance.choice(EVENTS)),)
                    at = now - timedelta(days=chance.choice((0, 0, 0, 1, 10)))
                    commands.append(Track(user(n), (), deed, at))
            annals.handler.handle([Request(one) for one in commands])
            sent += BATCH
            due += BATCH / EVENTS_A_SECOND
            stop.wait(max(0.0, due - time.perf_counter()))

    found: list[float] = []
    sender = threading.Thread(target=send)
    sender.start()
    try:
        time.sleep(min(5, seconds))
        begun, before, already = time.perf_counter(), sent, recorded(annals)
        with annals.views.connection() as conn:
            while time.perf_counter() - begun < seconds:
                n = len(found)
                subject: SubjectId | None = annals.subject_lookup.find(user(n)[0])
                change = Change(USER, user(n), {CANARY: n + 1}, datetime.now(UTC))
                annals.handler.handle([Request(change)])
                written = time.perf_counter()
                while not conn.execute(shown, {"subject": subject}).rowcount:
                    time.sleep(0.002)
                found.append(time.perf_counter() - written)
        lasted = time.perf_counter() - begun
        events = sent - before
        return Lags(found, events / lasted, (recorded(annals) - already - events) / lasted)
    finally:
        stop.set()
        sender.join()


def recorded(annals: Annals) -> int:
    """How many events the log has."""
    return sum(annals.log.heads(range(256)).values())


def settle(annals: Annals, report: Report | None = None) -> None:
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


@contextmanager
def working(data: Path, url: str) -> Iterator[None]:
    """A process that projects and decides, while in use."""
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
