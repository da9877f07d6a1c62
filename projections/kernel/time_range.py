"""A range of a timeline: between two keys, in one direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId

Windows = Sequence[tuple[datetime, datetime]]
"""First and last instant of each window."""

BEGINNING, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class TimelineKey(NamedTuple):
    """The place of an event in a timeline; with position -1, just before all events at the
    instant."""

    at: datetime
    log_partition: int = -1
    position: int = -1


def timeline_key(row: RecordedEvent) -> TimelineKey:
    return TimelineKey(row.occurred_at, row.log_partition, row.position)


class Stretch(msgspec.Struct, frozen=True):
    """The range between two keys, both excluded.

    Attributes:
        streams: the subject of today, then the subjects that were merged into it.
    """

    streams: Sequence[SubjectId]
    low: TimelineKey = TimelineKey(BEGINNING)
    high: TimelineKey = TimelineKey(END)
    newest_first: bool = True

    def after(self, spot: TimelineKey) -> Stretch:
        """The rest of the range after a key, in the direction of reading."""
        if self.newest_first:
            return msgspec.structs.replace(self, high=min(spot, self.high))
        return msgspec.structs.replace(self, low=max(spot, self.low))

    def in_order(self, spots: Iterable[TimelineKey]) -> list[TimelineKey]:
        return sorted(spots, reverse=self.newest_first)

    def reaches(self, spot: TimelineKey, horizon: TimelineKey) -> bool:
        """Whether reading meets a key no later than another."""
        return spot >= horizon if self.newest_first else spot <= horizon

    def nearer(self, spots: Iterable[TimelineKey]) -> TimelineKey | None:
        """The key that reading meets first; None: no keys."""
        return (max if self.newest_first else min)(spots, default=None)

    def farther(self, spots: Iterable[TimelineKey]) -> TimelineKey:
        """The key that reading meets last."""
        return (min if self.newest_first else max)(spots)
