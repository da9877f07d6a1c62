"""Hints that wake idle workers.

An append signals the workers of its own process, and those of others by NOTIFY from its own
transaction. For a moment after a signal workers look again soon after each further one, and poll
every `UNTOLD_SECONDS`; then they sleep, and poll every `SLEEP_SECONDS`. A lost hint costs that much
time and nothing else.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from projections.kernel.idle import WorkerState

CHANNEL = "annals"
NOTIFY = f"NOTIFY {CHANNEL}"
LISTEN = f"LISTEN {CHANNEL}"
UNLISTEN = f"UNLISTEN {CHANNEL}"

AWAKE_SECONDS = 1.5
"""How long workers poll often after a signal."""

UNTOLD_SECONDS = 0.25
"""Longest time between two polls while a worker is awake and nothing is signalled. The projector
signals each batch to the workers of its process; those of other processes poll."""

SLEEP_SECONDS = 5.0

NOTIFY_SECONDS = 0.5
"""Shortest time between two notices of a process. The workers that a notice woke poll often for
longer than that."""

RECONNECT_SECONDS = 1.0

STALLED = "stalled"
STALLED_SECONDS = 300.0
"""A worker that exceeds its announced time by so much hangs."""

log = structlog.get_logger()


class Wakeups:
    """The signals of a process. Safe for use from many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._signals = 0
        self._signalled_at = -math.inf
        self._notified_at = -math.inf
        self._sleepers: list[Sleeper] = []
        self._ending = threading.Event()

    def signal(self) -> None:
        """Wakes the workers of this process."""
        with self._condition:
            self._signals += 1
            self._signalled_at = time.monotonic()
            self._condition.notify_all()

    def owes_notice(self) -> bool:
        """Whether the current append must send `NOTIFY`; if so, counts it as sent."""
        with self._condition:
            now = time.monotonic()
            if now - self._notified_at < NOTIFY_SECONDS:
                return False
            self._notified_at = now
            return True

    def sleeper(self, worker: str, *, eager: bool = False) -> Sleeper:
        """The sleeper of a worker.

        Args:
            eager: whether it polls after each signal, and signals the other workers when it has
                done something.
        """
        sleeper = Sleeper(self, worker, eager=eager)
        with self._condition:
            self._sleepers.append(sleeper)
        return sleeper

    def end(self) -> None:
        """Wakes the workers of this process, which are to end."""
        self._ending.set()
        self.signal()

    def dismiss(self) -> None:
        """Drops the workers, which have ended."""
        with self._condition:
            self._sleepers.clear()
        self._ending.clear()

    def workers(self) -> list[WorkerState]:
        """The states of the workers of this process."""
        with self._condition:
            return [sleeper.state() for sleeper in self._sleepers]

    def stalled(self) -> list[str]:
        """The workers that hang, by name."""
        return [worker.name for worker in self.workers() if worker.state == STALLED]

    def wait(self, seen: int, seconds: float, *, eager: bool) -> int:
        """For `Sleeper`: waits for a signal after the first `seen`; returns their number."""
        with self._condition:
            is_awake = time.monotonic() - self._signalled_at < AWAKE_SECONDS
            if not is_awake or eager:
                pause = seconds if is_awake else max(seconds, SLEEP_SECONDS)
                self._condition.wait_for(lambda: self._signals != seen, pause)
                return self._signals
            signals = self._signals
        if self._ending.wait(seconds):
            return signals
        with self._condition:
            pause = max(0.0, UNTOLD_SECONDS - seconds)
            self._condition.wait_for(lambda: self._signals != seen, pause)
            return self._signals


class Sleeper:
    """Lets one worker sleep, and knows whether it hangs."""

    def __init__(self, wakeups: Wakeups, worker: str, *, eager: bool) -> None:
        self._wakeups = wakeups
        self._worker = worker
        self._eager = eager
        self._seen = 0
        self._is_waiting = False
        self._moved_at = time.monotonic()
        self._takes = 0.0

    def begins(self, seconds: float) -> None:
        self._takes = seconds

    def moved(self) -> None:
        self._moved_at = time.monotonic()
        if self._eager:
            self._wakeups.signal()

    def state(self) -> WorkerState:
        ago = time.monotonic() - self._moved_at
        is_late = ago > self._takes + STALLED_SECONDS
        state = "idle" if self._is_waiting else STALLED if is_late else "working"
        return WorkerState(self._worker, state, datetime.now(UTC) - timedelta(seconds=ago))

    def wait(self, seconds: float) -> None:
        """Returns when the worker must poll: shortly after a signal after `seconds` or sooner, else
        at the next signal or after `SLEEP_SECONDS`."""
        self._is_waiting = True
        try:
            self._seen = self._wakeups.wait(self._seen, seconds, eager=self._eager)
        finally:
            self._is_waiting = False
            self._moved_at = time.monotonic()


class Listener:
    """Turns the notices of other processes into signals; has a thread of its own.

    Args:
        pool: in any role; keeps a connection of it until it is closed.
    """

    def __init__(self, pool: ConnectionPool, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._end, self._ended = os.pipe()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        os.close(self._ended)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            os.close(self._end)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except (psycopg.Error, OSError) as error:
                log.warning("listener.failed", error=type(error).__name__)
                self._closing.wait(RECONNECT_SECONDS)

    def _listen(self) -> None:
        with self._pool.connection() as conn:
            conn.execute(LISTEN)
            self._wakeups.signal()  # for notices that were sent while nobody listened
            while True:
                readable, _, _ = select.select([conn.fileno(), self._end], [], [])
                if self._end in readable:
                    conn.execute(UNLISTEN)
                    return
                if list(conn.notifies(timeout=0)):
                    self._wakeups.signal()
