"""Group commit: jobs that arrive at the same time are done together, by one of their callers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import psycopg

from projections.kernel.database_errors import is_of_connection

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Turn(Generic[Job, Result]):
    """The job of one caller, and its result."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result: Result | None = None
        self.error: Exception | None = None
        self.is_over = False
        self.lock = threading.Lock()
        """Locked until the job is done, or its caller must lead the next group."""
        self.lock.acquire()


class GroupCommit(Generic[Job, Result]):
    """Does jobs in groups, one group after the other; while one is under way, the next gathers.
    Safe for use from many threads.

    Args:
        do: does a group, all or none, in its order; returns the result of each job.
        size: returns the size of a job.
        limit: most of the sizes of a group; a single job may be larger.
        patience: most seconds that a group waits for as many callers as the last one had. Callers
            that were answered together come again together, but not at the same instant: without
            the wait the first of them would be a group of its own.
    """

    def __init__(
        self,
        do: Callable[[list[Job]], Sequence[Result]],
        *,
        size: Callable[[Job], int],
        limit: int,
        patience: float = 0.0,
    ) -> None:
        self._do = do
        self._size = size
        self._limit = limit
        self._patience = patience
        self._expected = 0
        """How many callers were served or waiting when the last group ended."""
        self._gathered = threading.Event()
        self._waiting: list[_Turn[Job, Result]] = []
        self._is_busy = False
        self._lock = threading.Lock()

    def __call__(self, job: Job) -> Result:
        """Does a job; returns its result or raises its error."""
        turn: _Turn[Job, Result] = _Turn(job)
        with self._lock:
            self._waiting.append(turn)
            leads, self._is_busy = not self._is_busy, True
            if self._is_complete():
                self._gathered.set()
        if not leads:
            turn.lock.acquire()
            leads = not turn.is_over
        if leads:
            self._lead()
        if turn.error is not None:
            raise turn.error
        if turn.result is None:
            raise psycopg.OperationalError("the thread that did this was interrupted")
        return turn.result

    def _lead(self) -> None:
        """Does the waiting jobs, then lets the first caller that arrived meanwhile lead."""
        self._gather()
        with self._lock:
            group = self._take()
        try:
            self._do_all(group)
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._is_busy = bool(following)
                self._expected = len(group) + len(self._waiting)
            for turn in group:
                turn.is_over = True
            for turn in group + following:
                turn.lock.release()

    def _gather(self) -> None:
        with self._lock:
            if self._is_complete():
                return
            self._gathered.clear()
        self._gathered.wait(self._patience)

    def _is_complete(self) -> bool:
        return (
            len(self._waiting) >= self._expected
            or sum(self._size(turn.job) for turn in self._waiting) >= self._limit
        )

    def _take(self) -> list[_Turn[Job, Result]]:
        count = size = 0
        for turn in self._waiting:
            size += self._size(turn.job)
            if count and size > self._limit:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _do_all(self, group: list[_Turn[Job, Result]]) -> None:
        try:
            results = self._do([turn.job for turn in group])
            for turn, result in zip(group, results, strict=True):
                turn.result = result
        except Exception as error:
            if is_of_connection(error):  # the group may be done or not
                for turn in group:
                    turn.error = error
            elif len(group) == 1:
                group[0].error = error
            else:  # apart, so that the fault of one job fails no other
                for turn in group:
                    self._do_all([turn])
