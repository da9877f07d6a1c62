"""Retention of tracked activity: the choice, the bounds of what is kept, and the runs.

Tracked activity is kept by calendar months (UTC) of its occurrence. A month ends for all subjects
at once, and does not come back: a longer retention chosen later begins where the last run ended.
Pure; `infra.erasure.retention` carries it out.
"""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import msgspec

ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
"""Before any activity."""

MAX_MONTHS = 1_200
UPKEEP, OPERATOR = "upkeep", "operator"
"""The initiators of runs: a server by itself, or an operator with the command."""


class Counts(enum.StrEnum):
    """The fate of the counts of activity that is no longer kept.

    keep: the counts by subject, name and day stay.
    drop: they go with the activity.
    """

    KEEP = "keep"
    DROP = "drop"


class Retention(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long tracked activity stays readable, in whole months, and whether its counts stay."""

    months: int
    counts: Counts = Counts.KEEP


def month_of(at: datetime) -> int:
    """The calendar month (UTC) of an instant, as a number: January of the year 0 is 0."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.year * 12 + at.month - 1


def first_of(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)


def kept_since(now: datetime, months: int) -> datetime:
    """The start of kept activity: so many whole months before the current one."""
    first = max(month_of(now) - months, month_of(ALWAYS))
    return datetime.combine(first_of(first), datetime.min.time(), UTC)


class RetentionBounds(msgspec.Struct, frozen=True):
    """Bounds of the tracked activity that is kept, by occurrence.

    Attributes:
        since: activity from here on is kept; earlier activity ends with the run.
        taken_since: new activity from here on is accepted; later than `since` during a run.
        lines: during a run, by partition, the last positions of activity kept between the two;
            activity in flight at the start of the run is not kept.
        counted_since: the first day that is counted; earlier counts were dropped.
    """

    since: datetime = ALWAYS
    taken_since: datetime = ALWAYS
    lines: tuple[int, ...] = ()
    counted_since: date = date.min

    def has(self, at: datetime, partition: int, position: int) -> bool:
        """Whether activity of an instant, at a position of the log, is still kept."""
        if at >= self.taken_since:
            return True
        return at >= self.since and position <= self.lines[partition]

    @property
    def metadata_counted_since(self) -> date:
        """The first day whose metadata is counted. A day that overlaps an ended month in any time
        zone is incomplete."""
        return first_whole_day(self.since)


def first_whole_day(since: datetime) -> date:
    """The first day that lies after an instant in every time zone."""
    return date.min if since == ALWAYS else since.date() + timedelta(1)


class RetentionRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of retention: ends the tracked activity that has become too old.

    Attributes:
        ends: the run ends activity that occurred before this.
        requested_by: `upkeep`, or `operator` for the command.
        partitions: how many of the log's 256 are read.
        events: how many the run ends.
        unsealed: how many of these are older than the keys of months: they are no longer shown, and
            unreadable once their subjects are erased.
        sums: events that keep their counts.
        destroyed_at: the time since which none of the activity opens.
        waits_for: the obstacle, in words.
    """

    id: UUID
    ends: datetime
    counts: Counts
    requested_by: str
    requested_at: datetime
    partitions: int
    events: int
    unsealed: int
    sums: int
    destroyed_at: datetime | None
    completed_at: datetime | None
    waits_for: str | None
