"""Workers sleep while there is nothing to do, wake when there is, and are told apart from those
that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from infra.bootstrap.annals import Annals
from infra.postgres import wakeups as module
from infra.postgres.wakeups import Wakeups
from tests.commands import identify
from tests.infra.commands import stored
from tests.serving import Clients, problem

LONG = 60.0
"""Seconds that no test waits for."""


@pytest.fixture(autouse=True)
def _sound_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLEEP_SECONDS", LONG)


def wakes(wait: Callable[[], None], signal: Callable[[], object]) -> bool:
    """Whether a worker that sleeps wakes by what is done."""
    asleep, awake = threading.Event(), threading.Event()

    def sleep() -> None:
        asleep.set()
        wait()
        awake.set()

    threading.Thread(target=sleep, daemon=True).start()
    asleep.wait()
    time.sleep(0.05)
    assert not awake.is_set()
    signal()
    return awake.wait(10)


@pytest.mark.parametrize("eager", [True, False])
def test_a_sleeping_worker_wakes_by_a_signal(eager: bool) -> None:
    wakeups = Wakeups()
    sleeper = wakeups.sleeper("one", eager=eager)
    assert wakes(lambda: sleeper.wait(0.01), wakeups.signal)


def test_a_signal_that_came_while_it_worked_is_not_slept_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AWAKE_SECONDS", 0.0)
    wakeups = Wakeups()
    sleeper = wakeups.sleeper("one")
    wakeups.signal()
    sleeper.wait(0.0)
    assert wakes(lambda: sleeper.wait(0.0), wakeups.signal)


def test_after_a_signal_it_looks_again_by_the_next_one_or_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AWAKE_SECONDS", LONG)
    wakeups = Wakeups()
    sleeper = wakeups.sleeper("one")
    wakeups.signal()
    sleeper.wait(0.001)
    sleeper.wait(0.001)  # nobody says anything: it polls
    monkeypatch.setattr(module, "UNTOLD_SECONDS", LONG)
    assert wakes(lambda: sleeper.wait(0.001), wakeups.signal)
    wakeups.signal()  # while it works
    sleeper.wait(0.001)


@pytest.mark.parametrize("signalled", [True, False])
@pytest.mark.parametrize("eager", [True, False])
def test_a_worker_that_waits_wakes_by_the_end(eager: bool, signalled: bool) -> None:
    wakeups = Wakeups()
    sleeper = wakeups.sleeper("one", eager=eager)
    if signalled:  # it looks every so often, and this is how often
        wakeups.signal()
        sleeper.wait(0.0)
    assert wakes(lambda: sleeper.wait(LONG), wakeups.end)


def test_what_another_process_appends_wakes_this_one(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    other = open_annals()
    listener = annals.listener()
    sleeper = annals.wakeups.sleeper("one")
    listener.start()
    try:
        sleeper.wait(0.0)  # it listens now
        monotonic = time.monotonic() + module.AWAKE_SECONDS + 0.1
        while time.monotonic() < monotonic:
            time.sleep(0.05)
        assert wakes(lambda: sleeper.wait(0.0), lambda: stored(other, identify("u1")))
    finally:
        listener.close()


def test_of_many_appends_one_in_a_while_notifies(annals: Annals) -> None:
    assert [Wakeups().owes_notice() for _ in range(2)] == [True, True]
    wakeups = Wakeups()
    assert [wakeups.owes_notice() for _ in range(3)] == [True, False, False]


def test_a_worker_that_hangs_is_told_by_readiness_and_status(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client(None).get("/health/ready").status_code == 200
    workers = client.see("/api/status")["workers"]
    assert {worker["name"] for worker in workers} == {
        "projector", "decider", "sweeper", "filler", "filters", "deliverer",
    }  # fmt: skip
    assert {one["state"] for one in workers} <= {"idle", "working"}
    assert client.see("/api/status")["projectors"] == 1
    hanging = client.annals.wakeups.sleeper("a test")  # it never waits again
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.0)
    answer = client(None).get("/health/ready")
    assert "a test" in problem(answer, 503)["detail"]
    states = {one["name"]: one["state"] for one in client.see("/api/status")["workers"]}
    assert states["a test"] == "stalled"
    hanging.begins(LONG)
    assert "a test" not in client.annals.wakeups.stalled()
    hanging.begins(0.0)
    monkeypatch.setattr(module, "STALLED_SECONDS", LONG)
    hanging.moved()
    assert client(None).get("/health/ready").status_code == 200
