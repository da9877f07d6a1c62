"""Where a timeline is read: between two places, in one direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId

Windows = Sequence[tuple[datetime, datetime]]
"""First and last instant of each."""

BEGINNING, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class TimelineKey(NamedTuple):
    """A place in a timeline: of an event, or (with -1) just before all that occurred at `at`."""

    at: datetime
    log_partition: int = -1
    position: int = -1


def timeline_key(row: RecordedEvent) -> TimelineKey:
    return TimelineKey(row.occurred_at, row.log_partition, row.position)


class Stretch(msgspec.Struct, frozen=True):
    """What lies between two places, without them.

    Attributes:
        streams: the subject that is there today, then those that were merged into it.
    """

    streams: Sequence[SubjectId]
    low: TimelineKey = TimelineKey(BEGINNING)
    high: TimelineKey = TimelineKey(END)
    newest_first: bool = True

    def after(self, spot: TimelineKey) -> Stretch:
        """What comes after a place, in the direction of reading."""
        if self.newest_first:
            return msgspec.structs.replace(self, high=min(spot, self.high))
        return msgspec.structs.replace(self, low=max(spot, self.low))

    def in_order(self, spots: Iterable[TimelineKey]) -> list[TimelineKey]:
        return sorted(spots, reverse=self.newest_first)

    def reaches(self, spot: TimelineKey, horizon: TimelineKey) -> bool:
        """Whether a place is met no later than another."""
        return spot >= horizon if self.newest_first else spot <= horizon

    def nearer(self, spots: Iterable[TimelineKey]) -> TimelineKey | None:
        """The one of some places that is met first; None: there are none."""
        return (max if self.newest_first else min)(spots, default=None)

    def farther(self, spots: Iterable[TimelineKey]) -> TimelineKey:
        """The one of some places that is met last."""
        return (min if self.newest_first else max)(spots)
