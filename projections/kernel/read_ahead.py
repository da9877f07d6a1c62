"""Reading the log for a projector: the next batch is read and opened while the last one is applied.

While a batch is applied, its worker mostly waits for the database; without reading ahead, the
database would then wait for the worker.
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
    """What was read.

    Attributes:
        places: the position in each partition that it begins after.
        rows: in order within each partition.
        opened: the same, opened; None where one of them is unreadable.
        generation: of the keys, when they were opened.
    """

    places: dict[int, int]
    rows: list[RecordedEvent]
    opened: Sequence[OpenedEvent] | None
    generation: int

    @property
    def following(self) -> dict[int, int]:
        return self.places | {row.log_partition: row.position for row in self.rows}


class Reader:
    """Gives one worker its batches, each with about as many events as it should have."""

    def __init__(self, log: Log, opener: Opener) -> None:
        self._log = log
        self._opener = opener
        self._ahead: Future[Read] | None = None
        self._executor: ThreadPoolExecutor | None = None

    def next(self, places: dict[int, int], events: int) -> Read:
        """The batch after some positions; begins to read the one after it, if there is more.

        Args:
            events: that it should hold, about.
        """
        ahead, self._ahead = self._ahead, None
        read = None if ahead is None else ahead.result()
        # Where nothing was there when it was read ahead, there may be something now.
        if read is None or read.places != places or not read.rows:
            read = self._read(places, events)
        if len(read.rows) >= max(events // 2, 1):
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="reading-ahead")
            self._ahead = self._executor.submit(self._read, read.following, events)
        return read

    def close(self) -> None:
        """Lets go of what was read ahead."""
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
