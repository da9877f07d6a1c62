"""Processes are killed at random under load: nothing that was acknowledged is lost, doubled, fused
or brought back, and what is shown is what the log says.

`ANNALS_TEST_CRASH_SECONDS` (20) sets for how long, `ANNALS_TEST_CRASH_SEED` repeats the choices of
a run.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra import bootstrap, embedded
from infra.postgres import database
from infra.settings import Settings
from tests.crash.books import Books, rebuilt
from tests.crash.processes import Deployment, deployed, kills
from tests.crash.senders import EVENT, Caller, Definer, Forgetter, Sender, repeat
from tests.infra import chain
from tests.receiver import Receiver

pytestmark = pytest.mark.database  # each starts a server of its own

SECONDS = float(os.environ.get("ANNALS_TEST_CRASH_SECONDS", "20"))
SEED = os.environ.get("ANNALS_TEST_CRASH_SEED") or str(random.SystemRandom().getrandbits(32))
SENDERS = 3
QUIET_SECONDS = 300
"""In which all that was sent is to be shown, decided, told and forgotten, after the last kill."""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path / "data") as one:
        yield one
    embedded.remove(tmp_path / "data")


def _destination(admin: Caller, url: str) -> str:
    """An active destination for all events."""
    body = {"name": "CRM", "url": url, "news": [{"about": "event"}]}
    id: str = admin("POST", "/api/destinations", json=body).json()["id"]
    assert admin("POST", f"/api/destinations/{id}/activate").status_code == 200
    return id


def _settle(admin: Caller, comply: Caller, destination: str, erasures: list[str]) -> None:
    """Waits until nothing is left to do."""
    deadline, quiet = time.monotonic() + QUIET_SECONDS, 0
    while quiet < 3:
        status = admin("GET", "/api/status").json()
        delivery = admin("GET", f"/api/destinations/{destination}").json()["delivery"]
        open_erasures = [
            id
            for id in erasures
            if comply("GET", f"/api/erasures/{id}").json()["step"] != "completed"
        ]
        left = (status["behind"], status["deciding"], delivery["behind"], len(open_erasures))
        is_quiet = left == (0, [], 0, 0)
        quiet = quiet + 1 if is_quiet else 0
        assert time.monotonic() < deadline, f"left: {left}, {delivery}"
        time.sleep(0.3)


def _kill_at_random(
    deployment: Deployment, chance: random.Random, messages: Callable[[], int]
) -> Counter[str]:
    """Kills for `SECONDS`, mostly once messages are acknowledged again; returns how often what
    was killed."""
    choices, killed = kills(deployment, chance), Counter[str]()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        before = messages()
        while chance.random() < 0.98 and messages() == before and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(chance.choice((0.1, 0.5, 1.0, 2.0)))
        what = chance.choice(list(choices))
        choices[what]()
        killed[what] += 1
    return killed


def _shown(read: Caller, sender: Sender) -> dict[str, int]:
    """By user, how often it did what is counted."""
    shown: dict[str, int] = {}
    for user in sender.users:
        items: list[dict[str, Any]] = read("GET", f"/api/users/external:{user}/events").json()[
            "items"
        ]
        shown[user] = sum(one["count"] for one in items if one["name"] == EVENT)
    return {user: count for user, count in shown.items() if count}


@pytest.fixture
def callers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_whatever_is_killed_under_load_nothing_is_lost_doubled_or_brought_back(
    deployment: Deployment,
    receiver: Receiver,
    callers: ExitStack,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chance, stop = random.Random(SEED), threading.Event()
    with capsys.disabled():
        print(f"\nseed {SEED}, {SECONDS:g} s", flush=True)

    def caller(scope: str) -> Caller:
        return callers.enter_context(closing(Caller(deployment.url, deployment.data, scope)))

    read, admin, comply = caller("read"), caller("admin"), caller("comply")
    senders = [Sender(f"s{n}", caller("write"), f"{SEED} {n}") for n in range(SENDERS)]
    forgetter = Forgetter(caller("write"), comply, f"{SEED} forgetter")
    definer = Definer(caller("admin"), f"{SEED} definer")
    for one in senders:
        one.step()
    _wait_until_known(read)
    destination = _destination(admin, receiver.url)
    told_from = Counter(mark for one in senders for mark in one.tracked)
    with ThreadPoolExecutor() as executor:
        going = [
            *(executor.submit(repeat, one.step, 0.02, stop) for one in senders),
            executor.submit(repeat, forgetter.step, 1.0, stop),
            executor.submit(repeat, definer.step, 2.0, stop),
        ]
        try:
            killed = _kill_at_random(
                deployment, chance, lambda: sum(one.messages for one in senders)
            )
        finally:
            stop.set()
        for future in going:
            future.result()
    _settle(admin, comply, destination, forgetter.erasures)
    messages = sum(one.messages for one in senders)
    with capsys.disabled():
        print(
            f"killed {dict(killed)}; {messages:,} messages, {len(forgetter.erasures)} erasures,"
            f" {definer.made} changes of definitions; ended otherwise: {deployment.exits}",
            flush=True,
        )

    status = admin("GET", "/api/status").json()
    assert status["parked"] in (0, []), status
    for one in senders:
        counts = Counter(one.survivor(user) for user in one.tracked.values())
        assert _shown(read, one) == dict(counts)
    told = {item["data"]["metadata"]["mark"] for item in _told(receiver)}
    tracked = Counter(mark for one in senders for mark in one.tracked)
    assert tracked.keys() - told_from.keys() <= told
    deployment.stop()

    settings = Settings(data=deployment.data)
    with embedded.running(settings.data) as server:
        url = database.create_database(server, bootstrap.DATABASE)
        assert chain.problems(url) == []
        with bootstrap.opened(settings, url) as annals:
            books = Books(annals)
            assert {mark: books.tracked[mark] for mark in tracked} == tracked
            changed = {mark for one in senders for mark in one.changed}
            assert {mark: books.changed[mark] for mark in changed} == dict.fromkeys(changed, 1)
            assert [one for one, count in books.decisions.items() if count > 1] == []
            assert rebuilt(annals, url) == {}
            if forgetter.secrets:
                scan = annals.residue_scan.scan(forgetter.secrets[:200])
                assert scan.findings == []
    for line in deployment.log.read_bytes().splitlines():
        assert isinstance(msgspec.json.decode(line), dict)


def _told(receiver: Receiver) -> list[dict[str, Any]]:
    return [
        one
        for one in receiver.taken()
        if one["type"] == "user.event_tracked" and "mark" in (one["data"] or {}).get("metadata", {})
    ]


def _wait_until_known(read: Caller) -> None:
    """What conditions ask about is known by name once it is projected."""
    deadline = time.monotonic() + 60
    while True:
        names = read("GET", "/api/catalogue/properties").json()["items"]
        events = read("GET", "/api/catalogue/events").json()["items"]
        if {"plan", EVENT} <= {one["name"] for one in names + events}:
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)
