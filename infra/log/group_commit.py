"""Callers that wait for one another are served together, by one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import psycopg

from projections.kernel.database_errors import is_of_connection

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Turn(Generic[Job, Result]):
    """What one caller wants done, and what came of it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.result: Result | None = None
        self.error: Exception | None = None
        self.is_over = False
        self.lock = threading.Lock()
        """Held until the job is done, or it is its caller's turn to do what waits."""
        self.lock.acquire()


class GroupCommit(Generic[Job, Result]):
    """Does jobs one group after the other: while one is under way, the next gathers. Safe for use
    from many threads.

    Args:
        do: does a group, all or nothing, in its order; returns the result of each.
        size: of a job.
        limit: of a group, in sizes; a single job may be larger.
        patience: seconds that a group waits, at most, for as many callers as there were last.
            Those who were answered together come again together, if not at once; else the first
            of them is served alone, and the others while it is answered.
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
        """Callers that were served or waited when the last group ended."""
        self._gathered = threading.Event()
        self._waiting: list[_Turn[Job, Result]] = []
        self._is_busy = False
        self._lock = threading.Lock()

    def __call__(self, job: Job) -> Result:
        """Returns when the job is done. Raises what it fails with."""
        mine: _Turn[Job, Result] = _Turn(job)
        with self._lock:
            self._waiting.append(mine)
            leads, self._is_busy = not self._is_busy, True
            if self._are_all_here():
                self._gathered.set()
        if not leads:
            mine.lock.acquire()
            leads = not mine.is_over
        if leads:
            self._lead()
        if mine.error is not None:
            raise mine.error
        if mine.result is None:
            raise psycopg.OperationalError("the thread that did this was interrupted")
        return mine.result

    def _lead(self) -> None:
        """Does what waits, and hands over to the first of those that came meanwhile."""
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
            for one in group:
                one.is_over = True
            for one in group + following:
                one.lock.release()

    def _gather(self) -> None:
        with self._lock:
            if self._are_all_here():
                return
            self._gathered.clear()
        self._gathered.wait(self._patience)

    def _are_all_here(self) -> bool:
        return (
            len(self._waiting) >= self._expected
            or sum(self._size(one.job) for one in self._waiting) >= self._limit
        )

    def _take(self) -> list[_Turn[Job, Result]]:
        count = size = 0
        for one in self._waiting:
            size += self._size(one.job)
            if count and size > self._limit:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _do_all(self, group: list[_Turn[Job, Result]]) -> None:
        try:
            results = self._do([one.job for one in group])
            for one, result in zip(group, results, strict=True):
                one.result = result
        except Exception as error:
            if is_of_connection(error):  # whether anything was done is not known
                for one in group:
                    one.error = error
            elif len(group) == 1:  # what is wrong with one of them must not touch the others
                group[0].error = error
            else:
                for one in group:
                    self._do_all([one])
