"""Back-tests: each runs in a thread and reports its progress; its result is kept for an hour.

They live in the memory of the process that runs them: results are personal data, and go with it.
"""

from __future__ import annotations

import enum
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from domain.errors import NotFound, Refusal, TooManyAtOnce
from projections.kernel.database_errors import is_cancelled
from projections.queries.backtest import Tested
from projections.queries.backtest_reading import Progress

AT_ONCE = 2
MAX_WAITING = 8
BY_KEY = 4
"""Back-tests of one API key that run or wait, at most."""

MAX_KEPT = 20
KEPT_FOR = timedelta(hours=1)

log = structlog.get_logger()


class State(enum.StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Cancelled(Exception):
    """The back-test is not wanted any more."""


class Job:
    """A back-test.

    Attributes:
        by: the API key that began it, by id.
        phase, done, of: the present phase, with the amount done and the whole amount.
        error: why it failed.
    """

    def __init__(self, by: UUID) -> None:
        self.id = uuid.uuid4()
        self.by = by
        self.state = State.WAITING
        self.phase, self.done, self.of = "waiting", 0, 0
        self.error: str | None = None
        self.tested: Tested | None = None
        self.begun_at = datetime.now(UTC)
        self.ended_at: datetime | None = None
        self.stop = threading.Event()

    @property
    def is_over(self) -> bool:
        return self.state not in (State.WAITING, State.RUNNING)

    def progress(self, phase: str, done: int, of: int) -> None:
        self.phase, self.done, self.of = phase, done, of
        if self.stop.is_set():
            raise Cancelled

    def run(self, work: Callable[[Progress], Tested]) -> None:
        try:
            self.progress("waiting", 0, 0)
            self.state = State.RUNNING
            self.tested = work(self.progress)
            self.state = State.DONE
        except Cancelled:
            self.state = State.CANCELLED
        except Refusal as error:
            self.error, self.state = error.detail, State.FAILED
        except Exception as error:
            if is_cancelled(error):
                self.error = "it takes longer than a question may: take a smaller sample"
            else:
                log.error("backtest.failed", error=type(error).__name__)
                self.error = "Annals failed at this; the operator's log says where"
            self.state = State.FAILED
        self.ended_at = datetime.now(UTC)


class BacktestJobs:
    """Thread-safe; one instance per process."""

    def __init__(self) -> None:
        self._jobs: dict[UUID, Job] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="backtest")

    def start(self, work: Callable[[Progress], Tested], by: UUID) -> Job:
        """Begins a back-test, or queues it.

        Raises:
            TooManyAtOnce: too many run or wait already, or too many of this API key.
        """
        with self._lock:
            self._forget_old()
            keys = [job.by for job in self._jobs.values() if not job.is_over]
            if len(keys) >= AT_ONCE + MAX_WAITING or keys.count(by) >= BY_KEY:
                raise TooManyAtOnce(
                    f"a process takes {AT_ONCE + MAX_WAITING} back-tests on at once, {BY_KEY} of"
                    " one API key: wait until others are done",
                    retry_after=10,
                )
            job = Job(by)
            self._jobs[job.id] = job
        self._threads.submit(job.run, work)
        return job

    def find(self, id: UUID) -> Job:
        """Raises: NotFound: there is none in this process, or none any more."""
        with self._lock:
            self._forget_old()
            job = self._jobs.get(id)
        if job is None:
            raise NotFound("there is no such back-test here (any more); run it again")
        return job

    def all(self) -> list[Job]:
        """Newest first."""
        with self._lock:
            self._forget_old()
            return sorted(self._jobs.values(), key=lambda job: job.begun_at, reverse=True)

    def cancel(self, id: UUID) -> None:
        """Ends a back-test, and forgets it. Raises: NotFound: as `find`."""
        job = self.find(id)
        job.stop.set()
        with self._lock:
            self._jobs.pop(id, None)

    def close(self) -> None:
        """Ends all back-tests."""
        with self._lock:
            for job in self._jobs.values():
                job.stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _forget_old(self) -> None:
        """Forgets old results. If too many are left, forgets the oldest of the API key that has the
        most, so that no key drives out the results of others."""
        limit = datetime.now(UTC) - KEPT_FOR
        ended = {job.id: job.ended_at for job in self._jobs.values() if job.ended_at is not None}
        over = sorted(
            (job for job in self._jobs.values() if job.id in ended), key=lambda job: ended[job.id]
        )
        for job in [job for job in over if ended[job.id] < limit]:
            over.remove(job)
            del self._jobs[job.id]
        while len(over) > MAX_KEPT:
            [(most, _)] = Counter(job.by for job in reversed(over)).most_common(1)
            oldest = next(job for job in over if job.by == most)
            over.remove(oldest)
            del self._jobs[oldest.id]
