"""Reads the log ahead for a worker: opens the next batch while the worker applies the last one.

A worker that applies a batch mostly waits for PostgreSQL. Without reading ahead, PostgreSQL would
then wait for the worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from operator import attrgetter

import msgspec

from domain.errors import UnreadableEvent
from domain.events.recorded import OpenedEvent, RecordedEvent
from projections.kernel.ports import Log, Opener

_PLACE = attrgetter("log_partition", "position")


class Read(msgspec.Struct, frozen=True):
    """A batch that was read.

    Attributes:
        places: the position in each partition after which it begins.
        rows: in order within each partition.
        opened: the rows, opened; None where a row is unreadable.
        generation: of the keys, when the rows were opened.
    """

    places: dict[int, int]
    rows: list[RecordedEvent]
    opened: Sequence[OpenedEvent] | None
    generation: int

    @property
    def following(self) -> dict[int, int]:
        return self.places | {row.log_partition: row.position for row in self.rows}


class Reader:
    """Reads the batches of one worker."""

    def __init__(self, log: Log, opener: Opener) -> None:
        self._log = log
        self._opener = opener
        self._ahead: Future[Read] | None = None
        self._executor: ThreadPoolExecutor | None = None

    def next(self, places: dict[int, int], events: int) -> Read:
        """Returns the batch after these positions, and begins to read the one after it where
        there is more.

        Args:
            events: approximate size of the batch.
        """
        ahead, self._ahead = self._ahead, None
        read = None if ahead is None else ahead.result()
        # An empty read-ahead may be outdated.
        if read is None or read.places != places or not read.rows:
            read = self._read(places, events)
        if len(read.rows) >= max(events // 2, 1):
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="reading-ahead")
            self._ahead = self._executor.submit(self._read, read.following, events)
        return read

    def close(self) -> None:
        """Discards the batch that was read ahead."""
        self._ahead = None
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def _read(self, places: dict[int, int], events: int) -> Read:
        heads = self._log.heads(list(places))
        some = islice((p for p, position in places.items() if heads[p] > position), events)
        behind = {partition: places[partition] for partition in some}
        if not behind:
            return Read(places, [], [], 0)
        limit = math.ceil(events / len(behind))
        rows = sorted(self._log.read_after(behind, limit), key=_PLACE)
        generation = self._opener.refresh()
        try:
            return Read(places, rows, self._opener.open_rows(rows), generation)
        except UnreadableEvent:
            return Read(places, rows, None, generation)
