"""Bounds the requests that a process answers at once: places by sort of request, in all and for
each API key, so that no key's requests starve those of another."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from domain.errors import TooManyAtOnce

MAX_WAITING = 64
"""Requests of one sort by one key that wait for a place; more are refused at once."""


class Demand(enum.StrEnum):
    """The sort of place that a request holds while it is answered."""

    QUESTION = "question"
    """Lists, bars, views, timelines and other short reads."""
    PREVIEW = "preview"
    EXPORT = "export"
    REVIEW = "review"
    """Reviews and their archives."""
    SCAN = "scan"
    LIVE = "stream of changes"


class Bound(NamedTuple):
    """
    Attributes:
        in_all: most requests at once.
        by_key: most of them by one API key.
        patience: seconds that a request waits for a place before it is refused.
    """

    in_all: int
    by_key: int
    patience: float = 0.0


BOUNDS: Mapping[Demand, Bound] = {
    Demand.QUESTION: Bound(12, 8, 5.0),
    Demand.PREVIEW: Bound(4, 2, 2.0),
    Demand.EXPORT: Bound(4, 2),
    Demand.REVIEW: Bound(4, 2, 2.0),
    Demand.SCAN: Bound(1, 1),
    Demand.LIVE: Bound(1_000, 250),
}

RETRY_SECONDS = {Demand.EXPORT: 10, Demand.SCAN: 30}
"""The value of `Retry-After`; for other sorts 1."""


@dataclass(eq=False)
class _Waiter:
    key: UUID
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]
    is_granted: bool = field(default=False)

    def grant(self) -> None:
        self.is_granted = True
        self.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Admission:
    """Safe for many threads and event loops; one instance per process."""

    def __init__(self, bounds: Mapping[Demand, Bound] = BOUNDS) -> None:
        self._bounds = bounds
        self._lock = threading.Lock()
        self._taken: Counter[tuple[Demand, UUID]] = Counter()
        self._in_all: Counter[Demand] = Counter()
        self._waiting: dict[Demand, list[_Waiter]] = {sort: [] for sort in bounds}

    def taken(self, sort: Demand) -> int:
        """The number of places of a sort that are taken."""
        with self._lock:
            return self._in_all[sort]

    async def take(self, sort: Demand, key: UUID) -> None:
        """Takes a place, which `give_back` frees. Requests get places in the order of arrival,
        except that those whose key is at its bound are passed over.

        Raises:
            TooManyAtOnce: no place was free in time.
        """
        with self._lock:
            if self._has_room(sort, key):
                self._count(sort, key, 1)
                return
            waiting = self._waiting[sort]
            patience = self._bounds[sort].patience
            if not patience or sum(waiter.key == key for waiter in waiting) >= MAX_WAITING:
                raise self._too_many(sort)
            loop = asyncio.get_running_loop()
            waiter = _Waiter(key, loop, loop.create_future())
            waiting.append(waiter)
        try:
            async with asyncio.timeout(patience):
                await waiter.future
        except TimeoutError:
            if not self._withdraw(sort, waiter):
                raise self._too_many(sort) from None
        except asyncio.CancelledError:
            if self._withdraw(sort, waiter):
                self.give_back(sort, key)
            raise

    def give_back(self, sort: Demand, key: UUID) -> None:
        """Frees a place and grants it to the next request that waits."""
        with self._lock:
            self._count(sort, key, -1)
            waiting = self._waiting[sort]
            waiter = next((each for each in waiting if self._has_room(sort, each.key)), None)
            if waiter is not None:
                waiting.remove(waiter)
                self._count(sort, waiter.key, 1)
                waiter.grant()

    def _withdraw(self, sort: Demand, waiter: _Waiter) -> bool:
        """Removes a waiter; returns whether it was granted a place meanwhile."""
        with self._lock:
            if not waiter.is_granted:
                self._waiting[sort].remove(waiter)
            return waiter.is_granted

    def _has_room(self, sort: Demand, key: UUID) -> bool:
        bound = self._bounds[sort]
        return self._in_all[sort] < bound.in_all and self._taken[sort, key] < bound.by_key

    def _count(self, sort: Demand, key: UUID, change: int) -> None:
        self._in_all[sort] += change
        self._taken[sort, key] += change
        if not self._taken[sort, key]:
            del self._taken[sort, key]

    def _too_many(self, sort: Demand) -> TooManyAtOnce:
        bound = self._bounds[sort]
        return TooManyAtOnce(
            f"a process answers {bound.in_all:,} requests of this sort ({sort}) at once, and"
            f" {bound.by_key:,} of one API key: wait until others are answered",
            retry_after=RETRY_SECONDS.get(sort, 1),
        )
