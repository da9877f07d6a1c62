"""Jobs that wait for one another are done together; each caller hears of its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.log.group_commit import GroupCommit


class Work:
    """Doubles numbers; the first group waits until it may go on. Odd ones are refused, a zero
    loses the connection."""

    def __init__(self, limit: int, patience: float = 0.0) -> None:
        self.groups: list[list[int]] = []
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        self.together: GroupCommit[int, int] = GroupCommit(
            self._double, size=abs, limit=limit, patience=patience
        )

    def _double(self, numbers: list[int]) -> list[int]:
        self.groups.append(numbers)
        if not self.has_begun.is_set():
            self.has_begun.set()
            assert self.may_go_on.wait(10)
        if 0 in numbers:
            raise psycopg.OperationalError("gone")
        if any(one % 2 for one in numbers):
            raise ValueError(numbers)
        return [2 * one for one in numbers]

    def gathered(self, numbers: list[int], again: int | None = None) -> list[Future[int]]:
        """Jobs that gather, in this order, while another is under way, whose caller may come
        again."""
        pool = ThreadPoolExecutor(len(numbers) + 1)
        first = pool.submit(self.together, 2)
        if again is not None:
            first.add_done_callback(lambda _: sleep(0.05) or self.together(again))
        assert self.has_begun.wait(10)
        asked = []
        for n, number in enumerate(numbers, 1):
            asked.append(pool.submit(self.together, number))
            while len(self.together._waiting) < n:
                pass
        self.may_go_on.set()
        pool.shutdown(wait=False)
        return asked


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 30))
def test_all_are_done_in_their_order_in_groups_as_large_as_may_be(
    halves: list[int], limit: int
) -> None:
    numbers = [2 * one for one in halves]
    work = Work(limit)
    assert [one.result() for one in work.gathered(numbers)] == [2 * one for one in numbers]
    assert [one for group in work.groups for one in group] == [2, *numbers]
    for group, following in zip(work.groups[1:], work.groups[2:], strict=False):
        assert sum(group) <= limit or len(group) == 1
        assert sum(group) + following[0] > limit


def test_one_that_fails_does_not_touch_the_others() -> None:
    good, bad, better = Work(100).gathered([4, 3, 6])
    assert (good.result(), better.result()) == (8, 12)
    with pytest.raises(ValueError, match="3"):
        bad.result()


def test_a_lost_connection_is_told_to_all_that_were_under_way_and_nothing_is_done_twice() -> None:
    work = Work(100)
    for one in work.gathered([4, 0]):
        with pytest.raises(psycopg.OperationalError):
            one.result()
    assert work.groups == [[2], [4, 0]]


AS_LONG_AS_IT_TAKES = 60.0


class TestPatience:
    def test_those_who_come_again_are_done_in_one_group(self) -> None:
        work = Work(100, AS_LONG_AS_IT_TAKES)
        waiting = work.gathered([4, 6], again=2)
        assert [one.result(10) for one in waiting] == [8, 12]
        assert work.groups == [[2], [4, 6, 2]]

    def test_a_full_group_waits_for_nobody(self) -> None:
        work = Work(10, AS_LONG_AS_IT_TAKES)
        assert [one.result(10) for one in work.gathered([4, 6])] == [8, 12]
        assert work.groups == [[2], [4, 6]]

    def test_who_comes_alone_waits_for_nobody(self) -> None:
        together: GroupCommit[int, int] = GroupCommit(
            list, size=abs, limit=10, patience=AS_LONG_AS_IT_TAKES
        )
        assert [together(n) for n in range(1, 4)] == [1, 2, 3]

    def test_who_does_not_come_again_keeps_nobody(self) -> None:
        work = Work(100, 0.01)
        assert [one.result(10) for one in work.gathered([4, 6])] == [8, 12]
        assert work.groups == [[2], [4, 6]]


def test_who_leads_and_is_interrupted_stops_nobody() -> None:
    asked: list[int] = []

    def do(numbers: list[int]) -> list[int]:
        asked.extend(numbers)
        if numbers[0] == 1:
            raise KeyboardInterrupt
        return numbers

    together: GroupCommit[int, int] = GroupCommit(do, size=abs, limit=10)
    with pytest.raises(KeyboardInterrupt):
        together(1)
    assert together(2) == 2
    assert asked == [1, 2]
