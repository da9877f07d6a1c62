"""Erasure as a process: carries out the next steps of every request that is not completed.

Each step runs in a transaction that holds the request's row, so one worker at a time carries it
out. A process that dies leaves the request to the next worker that looks.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.erasure.steps import ErasureStep, SentBack, Taken, Unfinished
from domain.errors import Refusal
from infra.erasure import open_requests
from infra.erasure.ledger import Ledger
from infra.erasure.record import ErasureRecord
from infra.erasure.steps import ErasureSteps
from infra.postgres.wakeups import SLEEP_SECONDS

POLL_SECONDS = 0.5

UNTIL_RECORDED = frozenset({ErasureStep.UNREADABLE, ErasureStep.RECORDED})
UNTIL_FORGOTTEN = UNTIL_RECORDED | {ErasureStep.FORGOTTEN}
CERTIFYING = frozenset({ErasureStep.COMPLETED})

log = structlog.get_logger()


class ErasureProcess:
    """Thread-safe; one instance per process.

    Args:
        pool: of the keys.
    """

    def __init__(
        self,
        *,
        steps: ErasureSteps,
        record: ErasureRecord,
        ledger: Ledger,
        pool: ConnectionPool,
    ) -> None:
        self.record = record
        self._steps = steps
        self._ledger = ledger
        self._pool = pool
        self._wake = threading.Event()
        self._stepping = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Carries out steps of open requests, until told to stop."""
        while not stop.is_set():
            self._wake.clear()
            pause = POLL_SECONDS
            try:
                if not self.step():
                    pause = SLEEP_SECONDS
            except (psycopg.Error, Refusal, TimeoutError) as error:
                log.warning("erasures.failed", error=type(error).__name__)
            self._wake.wait(pause)

    def wake(self) -> None:
        """Makes `run` look at once."""
        self._wake.set()

    def step(self) -> int:
        """Carries out every step of open requests that can be done now; returns how many requests
        there were."""
        with self._pool.connection() as conn:
            ids = open_requests.open_ids(conn)
        for id in ids:
            self.advance(id, UNTIL_FORGOTTEN)
        self._ledger.keep()
        if ids:
            self._clean()
        for id in ids:
            self.advance(id, CERTIFYING)
        return len(ids)

    def advance(self, id: uuid.UUID, steps: AbstractSet[ErasureStep]) -> None:
        """Carries out the next steps of a request while they are among these."""
        while self._advance_once(id, steps):
            pass

    def _advance_once(self, id: uuid.UUID, steps: AbstractSet[ErasureStep]) -> bool:
        """Carries out the next step; says whether another piece or step can follow at once."""
        # Step by step: each holds a connection of the pool and takes others.
        with self._stepping, self._pool.connection() as conn, conn.transaction():
            request = open_requests.lock(conn, id)
            if request is None:
                return False
            step = request.progress.next_step
            if step is None or step not in steps:
                return False
            result = self._steps.carry_out(conn, request, step)
            open_requests.save(conn, request, request.progress.after(step, result, request.at))
        if isinstance(result, SentBack):
            self._wake.set()
        return isinstance(result, Taken | Unfinished)

    def _clean(self) -> None:
        """Cleans the database's files once for all requests that have come so far."""
        group = self._clean_once(None)
        while group:
            group = self._clean_once(group)

    def _clean_once(self, group: Sequence[uuid.UUID] | None) -> list[uuid.UUID]:
        """Takes the next piece of the cleaning, for a group of requests or, with None, for all;
        returns those whose next piece can follow at once."""
        with self._pool.connection() as conn, conn.transaction():
            requests = open_requests.lock_to_clean(conn, group)
            if not requests:
                return []
            result = self._steps.clean(conn, requests)
            for request in requests:
                progress = request.progress.after(ErasureStep.CLEANED, result, request.at)
                open_requests.save(conn, request, progress)
        return [each.id for each in requests] if isinstance(result, Unfinished) else []
