"""Back-tests as jobs: two at a time, the others in turn; each can be cancelled and is forgotten."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any, cast

import pytest

from domain.errors import InvalidInput, NotFound, TooManyAtOnce
from infra import backtest_jobs
from infra.backtest_jobs import AT_ONCE, BY_KEY, MAX_KEPT, MAX_WAITING, BacktestJobs, Job, State
from projections.queries import backtest
from projections.queries.backtest_reading import Progress

BY = uuid.uuid4()
RESULT = cast(backtest.Tested, object())


@pytest.fixture
def jobs() -> Iterator[BacktestJobs]:
    jobs = BacktestJobs()
    yield jobs
    jobs.close()


class Work:
    """Goes on until it is told to end, and says when it has begun."""

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()

    def __call__(self, progress: Progress) -> backtest.Tested:
        self.begun.set()
        while not self.end.wait(0.005):
            progress("reading", 1, 2)
        return RESULT


def over(job: Job) -> State:
    """How it ended. Waits for that."""
    tick = threading.Event()
    for _ in range(6_000):
        if job.is_over:
            break
        tick.wait(0.01)
    return job.state


def test_two_run_at_once_and_a_third_waits_for_its_turn(jobs: BacktestJobs) -> None:
    works = [Work() for _ in range(AT_ONCE + 1)]
    started = [jobs.start(job, BY) for job in works]
    for job in works[:AT_ONCE]:
        assert job.begun.wait(60)
    assert started[-1].state is State.WAITING
    works[0].end.set()
    assert works[-1].begun.wait(60)
    for job in works:
        job.end.set()
    assert [over(job) for job in started] == [State.DONE] * len(works)
    assert all(job.tested is RESULT for job in started)


def test_one_that_runs_or_waits_ends_when_it_is_cancelled(jobs: BacktestJobs) -> None:
    works = [Work() for _ in range(AT_ONCE + 1)]
    started = [jobs.start(job, BY) for job in works]
    assert works[0].begun.wait(60)
    for job in (started[0], started[-1]):
        jobs.cancel(job.id)
        with pytest.raises(NotFound):
            jobs.find(job.id)
    assert over(started[0]) is State.CANCELLED
    assert over(started[-1]) is State.CANCELLED
    assert not works[-1].begun.is_set()


def test_so_many_may_wait_and_no_more(jobs: BacktestJobs) -> None:
    for n in range(AT_ONCE + MAX_WAITING):
        jobs.start(Work(), uuid.UUID(int=n // BY_KEY))
    with pytest.raises(TooManyAtOnce):
        jobs.start(Work(), BY)


def test_so_many_of_one_key_may_wait_while_others_begin(jobs: BacktestJobs) -> None:
    for _ in range(BY_KEY):
        jobs.start(Work(), BY)
    with pytest.raises(TooManyAtOnce):
        jobs.start(Work(), BY)
    jobs.start(Work(), uuid.uuid4())


def test_what_fails_says_why_and_nothing_of_what_it_saw(jobs: BacktestJobs) -> None:
    def refused(_: Progress) -> Any:
        raise InvalidInput("it would rest on itself")

    def broken(_: Progress) -> Any:
        raise RuntimeError("ada@example.com")

    first, second = jobs.start(refused, BY), jobs.start(broken, BY)
    assert (over(first), over(second)) == (State.FAILED, State.FAILED)
    assert first.error == "it would rest on itself"
    assert "ada" not in str(second.error)


def test_who_runs_many_drives_out_nobody_else_s(jobs: BacktestJobs) -> None:
    other = uuid.uuid4()
    first = jobs.start(lambda _: RESULT, other)
    assert over(first) is State.DONE
    for _ in range(MAX_KEPT + 5):
        assert over(jobs.start(lambda _: RESULT, BY)) is State.DONE
    assert len(jobs.all()) == MAX_KEPT
    assert jobs.find(first.id) is first


def test_the_newest_are_kept_for_an_hour(
    jobs: BacktestJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    for _ in range(MAX_KEPT + 2):
        job = jobs.start(lambda _: RESULT, BY)
        assert over(job) is State.DONE
        started.append(job)
    assert {job.id for job in jobs.all()} == {job.id for job in started[2:]}
    monkeypatch.setattr(backtest_jobs, "KEPT_FOR", -backtest_jobs.KEPT_FOR)
    assert jobs.all() == []
