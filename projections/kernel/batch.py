"""A batch of opened events, sorted once for all read models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from domain.definitions.retention import RetentionBounds
from domain.definitions.types import DefinitionKind
from domain.events.payloads import ActivitySummed, SummedDay, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC, SUMMED_TOPICS, stream_kind
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.workspace.workspace import Workspace

EVERYTHING = RetentionBounds()
NO_SUMS: Mapping[int, datetime] = {}


class DayCount:
    """The number of occurrences on a day, with the first and the last instant."""

    __slots__ = ("count", "first_at", "last_at")

    def __init__(self, at: datetime) -> None:
        self.count = 1
        self.first_at = self.last_at = at

    def add(self, at: datetime) -> None:
        self.count += 1
        if at < self.first_at:
            self.first_at = at
        elif at > self.last_at:
            self.last_at = at

    def add_all(self, count: int, first_at: datetime, last_at: datetime) -> None:
        """Adds a sum of occurrences."""
        self.count += count
        self.first_at = min(self.first_at, first_at)
        self.last_at = max(self.last_at, last_at)


class Day(NamedTuple):
    """The key of a count of a subject."""

    activity: str
    name: str
    day: date
    in_account: bool


class Tally:
    """The activity of a subject in a batch: first and last instant, and counts by day."""

    __slots__ = ("days", "first_at", "kind", "last_at", "subject")

    def __init__(self, subject: SubjectId, kind: str, at: datetime) -> None:
        self.subject = subject
        self.kind = kind
        self.first_at = self.last_at = at
        self.days: dict[Day, DayCount] = {}

    def add(self, day: Day, at: datetime) -> None:
        if at < self.first_at:
            self.first_at = at
        elif at > self.last_at:
            self.last_at = at
        count = self.days.get(day)
        if count is None:
            self.days[day] = DayCount(at)
        else:
            count.add(at)

    def add_all(self, day: Day, count: int, first_at: datetime, last_at: datetime) -> None:
        """Adds a sum of occurrences."""
        self.first_at = min(self.first_at, first_at)
        self.last_at = max(self.last_at, last_at)
        total = self.days.get(day)
        if total is None:
            total = self.days[day] = DayCount(first_at)
            total.count = 0
        total.add_all(count, first_at, last_at)


class Batch:
    """The events of a batch by what read models need, with merged subjects replaced by
    survivors.

    Attributes:
        workspace: as it is now.
        retention_bounds: which tracked activity retention has left.
        summed_before: for each partition the instant before which the log's sums stand for
            activity; sums of later activity repeat what was counted event by event.
        changes: events of the aggregates, in order within each partition, as (kind, verb, subject,
            account, event).
        definitions: events of definitions, in order within each partition, without destinations,
            which no read model shows.
        tallies: tracked activity of each subject; a user's activity in an account counts for both.
        uses: uses of each name of activity, by (activity, name).
    """

    def __init__(
        self,
        opened: Sequence[OpenedEvent],
        survivors: Mapping[SubjectId, SubjectId],
        workspace: Workspace,
        retention_bounds: RetentionBounds = EVERYTHING,
        summed_before: Mapping[int, datetime] = NO_SUMS,
    ) -> None:
        self.opened = opened
        self.survivors = survivors
        self.workspace = workspace
        self.retention_bounds = retention_bounds
        self.summed_before = summed_before
        zones, zone = workspace.zones, workspace.zone
        self.definitions: list[OpenedEvent] = []
        self.changes: list[tuple[SubjectKind, str, SubjectId, SubjectId | None, OpenedEvent]] = []
        self.uses: dict[tuple[str, str], DayCount] = {}
        self._tallies: dict[int, Tally] = {}
        for event in opened:
            row, payload = event.row, event.payload
            stream, account, at = row.stream, row.account, row.occurred_at
            if survivors:
                stream = survivors.get(stream, stream)
                if account is not None:
                    account = survivors.get(account, account)
            activity = ACTIVITY_OF_TOPIC.get(row.topic)
            if activity is None:
                if row.topic in SUMMED_TOPICS:
                    self._add_sums(event, stream, account)
                    continue
                about, verb = stream_kind(row.topic), row.topic.partition(".")[2]
                if about is DefinitionKind.DESTINATION:
                    continue
                if isinstance(about, DefinitionKind):
                    self.definitions.append(event)
                else:
                    self.changes.append((about, verb, stream, account, event))
                continue
            part = event.account_part
            if isinstance(payload, Tracked):
                name = payload.activity.name
            elif part is not None:
                name = part.name
            else:
                continue
            if zones.chosen:
                zone = zones.at(row.recorded_at)
            day = at.astimezone(zone).date()
            if day < retention_bounds.counted_since:
                continue
            if payload is not None:
                kind = row.topic[: row.topic.index(".")]
                self._tally(stream, kind, Day(activity, name, day, account is not None), at)
            if part is not None and account is not None:
                self._tally(account, "account", Day(activity, name, day, True), at)
            use = self.uses.get((activity, name))
            if use is None:
                self.uses[activity, name] = DayCount(at)
            else:
                use.add(at)

    def _add_sums(self, event: OpenedEvent, stream: SubjectId, account: SubjectId | None) -> None:
        """Counts sums of activity that was not counted event by event."""
        row, sums = event.row, event.payload
        before = self.summed_before.get(row.log_partition)
        if before is None or row.occurred_at > before:
            return
        own = sums if isinstance(sums, ActivitySummed) else None
        theirs = event.account_sums
        left = own or theirs
        if left is None:
            return
        for one_day in left.days:
            if one_day.day >= self.retention_bounds.counted_since:
                self._add_sum(one_day, row, stream if own else None, account if theirs else None)

    def _add_sum(
        self,
        sum: SummedDay,
        row: RecordedEvent,
        stream: SubjectId | None,
        account: SubjectId | None,
    ) -> None:
        day = Day(sum.activity, sum.name, sum.day, row.account is not None)
        kind = row.topic.partition(".")[0]
        for subject, of_kind in ((stream, kind), (account, SubjectKind.ACCOUNT.value)):
            if subject is None:
                continue
            tally = self._tallies.get(subject.int)
            if tally is None:
                tally = self._tallies[subject.int] = Tally(subject, of_kind, sum.first_at)
            tally.add_all(day, sum.count, sum.first_at, sum.last_at)
        use = self.uses.get((sum.activity, sum.name))
        if use is None:
            use = self.uses[sum.activity, sum.name] = DayCount(sum.first_at)
            use.count = 0
        use.add_all(sum.count, sum.first_at, sum.last_at)

    def _tally(self, subject: SubjectId, kind: str, day: Day, at: datetime) -> None:
        number = subject.int  # Python hashes and compares a UUID in Python
        tally = self._tallies.get(number)
        if tally is None:
            tally = self._tallies[number] = Tally(subject, kind, at)
        tally.add(day, at)

    @cached_property
    def tallies(self) -> list[tuple[int, Tally]]:
        """By partition and subject, the order of every key: two workers that write the same rows
        wait for each other and never deadlock."""
        tallies = [
            (log_partition(tally.subject), number, tally) for number, tally in self._tallies.items()
        ]
        return [(partition, tally) for partition, _, tally in sorted(tallies, key=itemgetter(0, 1))]
