"""Places: never more than there are, none lost, and the first who asked is the first to get one."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import TooManyAtOnce
from infra.postgres.admission import Admission, Bound, Demand

QUESTION = Demand.QUESTION
KEYS = [UUID(int=n) for n in range(3)]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3)), max_size=30))
def test_never_more_are_taken_than_there_are_and_none_is_lost(
    asked: list[tuple[UUID, int]],
) -> None:
    places = Admission({QUESTION: Bound(3, 2, 0.002)})
    held: list[UUID] = []

    async def ask(key: UUID, turns: int) -> None:
        try:
            await places.take(QUESTION, key)
        except TooManyAtOnce:
            return
        held.append(key)
        assert len(held) <= 3
        assert held.count(key) <= 2
        for _ in range(turns):
            await asyncio.sleep(0.001)
        held.remove(key)
        places.give_back(QUESTION, key)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(ask(*request)) for request in asked]
        for task in tasks[::5]:
            await asyncio.sleep(0)
            if not task.done() and asked[tasks.index(task)][0] not in held:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    if not held:
        assert places.taken(QUESTION) == 0
        asyncio.run(places.take(QUESTION, KEYS[0]))


def test_whoever_waits_for_its_key_keeps_no_other_key_waiting() -> None:
    async def story() -> None:
        places = Admission({QUESTION: Bound(3, 2, 5.0)})
        order: list[str] = []

        async def ask(name: str, key: UUID) -> None:
            await places.take(QUESTION, key)
            order.append(name)

        heavy, light = KEYS[:2]
        await ask("heavy 1", heavy)
        await ask("heavy 2", heavy)
        waiting = [asyncio.create_task(ask(f"heavy {n}", heavy)) for n in (3, 4)]
        await asyncio.sleep(0)
        await ask("light", light)
        places.give_back(QUESTION, heavy)
        await waiting[0]
        assert order == ["heavy 1", "heavy 2", "light", "heavy 3"]
        places.give_back(QUESTION, heavy)
        await waiting[1]

    asyncio.run(story())


def test_a_sort_without_patience_is_refused_at_once_and_says_when_to_come_back() -> None:
    async def story() -> None:
        places = Admission({Demand.EXPORT: Bound(1, 1)})
        await places.take(Demand.EXPORT, KEYS[0])
        with pytest.raises(TooManyAtOnce) as refused:
            await places.take(Demand.EXPORT, KEYS[1])
        assert refused.value.retry_after > 0

    asyncio.run(story())
