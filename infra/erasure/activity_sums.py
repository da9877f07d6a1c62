"""Appends sums of the activity of a partition, before retention makes the activity unreadable.

Each stream gets its counts by name and day (`ActivitySummed`). A partition can be summed again: a
party whose sums are in the log gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg_pool import ConnectionPool

from domain.definitions.retention import RetentionBounds
from domain.events.event import Event
from domain.events.payloads import ActivitySummed, SummedDay, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.schema import MONTH_KEYS_VERSION
from domain.events.topics import ACTIVITY_OF_TOPIC, SUMMED_TOPICS
from domain.identity import SubjectId, SubjectKind
from domain.workspace.workspace import Workspace
from infra.keys.key_ring import KeyRing
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.log.fetch import COLUMNS, fetched
from projections.kernel.batch import Day, DayCount
from projections.kernel.gaps import Gap, note, parted

READER = "retention"
"""The reader name of runs in the list of parked events."""

ROWS_AT_A_TIME = 5_000
EVENTS_AT_A_TIME = 1_000
DAYS_AN_EVENT = 500

ACTIVITY_TOPICS = list(ACTIVITY_OF_TOPIC)

SELECT_ACTIVITY = f"""
SELECT {COLUMNS} FROM log.events
WHERE log_partition = %(partition)b AND position > %(after)b AND position <= %(line)b
  AND topic = ANY(%(topics)b) AND occurred_at >= %(since)b AND occurred_at < %(taken_since)b
ORDER BY position LIMIT %(limit)b"""

# Runs follow one another: behind the line stand the sums of this run alone.
SELECT_SUMMED = """
SELECT DISTINCT stream, account FROM log.events
WHERE log_partition = %(partition)b AND position > %(line)b AND topic = ANY(%(topics)b)
  AND occurred_at = %(ends)b"""


class Party(NamedTuple):
    """A stream, its kind, and the account that its events name."""

    kind: str
    stream: SubjectId
    account: SubjectId | None


class PartitionSums(NamedTuple):
    """
    Attributes:
        events: how much activity the partition holds.
        unsealed: how much of it has no key of its month.
        sums: how many events of sums were appended.
    """

    events: int
    unsealed: int
    sums: int


DayCounts = dict[Day, DayCount]
PartySums = tuple[Party, list[tuple[SummedDay, ...]]]


class ActivitySums:
    """Safe for use from many threads.

    Args:
        log_pool: of the log. views: of the read models.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        sealer: Sealer,
        keys: KeyRing,
        log_pool: ConnectionPool,
        views: ConnectionPool,
        workspace: Callable[[], Workspace],
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._keys = keys
        self._log_pool = log_pool
        self._views = views
        self._workspace = workspace

    def append(
        self, partition: int, *, line: int, ends: datetime, keeps_counts: bool
    ) -> PartitionSums:
        """Appends the sums of the activity of a partition.

        Args:
            line: the position up to which activity is summed.
            ends: the end of the run's last month.
            keeps_counts: whether sums are appended; else activity is only counted.
        """
        self._keys.refresh()
        sums: dict[Party, DayCounts] = {}
        events = unsealed = 0
        for rows in self._activity(partition, line, self._sealer.kept()):
            events += len(rows)
            unsealed += sum(row.schema_version < MONTH_KEYS_VERSION for row in rows)
            if keeps_counts:
                decrypted, gaps = parted(self._sealer.open_each(rows))
                self._note(gaps)
                workspace = self._workspace()
                for event in decrypted:
                    _add(sums, event, workspace)
        summed = self._summed(partition, line, ends) if sums else set()
        missing = [party for party in sums if (party.stream, party.account) not in summed]
        appended = 0
        parts = [(party, list(_days(sums[party]))) for party in sorted(missing, key=str)]
        for piece in _pieces(parts):
            summed_events = [
                Event(
                    SubjectKind(party.kind),
                    party.stream,
                    None,
                    ends,
                    ActivitySummed(days),
                    party.account,
                )
                for party, events_of_party in piece
                for days in events_of_party
            ]
            self._keys.refresh()
            self._log.append(self._sealer.sealing(summed_events))
            appended += len(summed_events)
        return PartitionSums(events, unsealed, appended)

    def _note(self, gaps: Sequence[Gap]) -> None:
        """Lists the events that the sums lack: they do not open."""
        if gaps:
            with self._views.connection() as conn:
                note(conn, READER, gaps)

    def _summed(
        self, partition: int, line: int, ends: datetime
    ) -> set[tuple[SubjectId, SubjectId | None]]:
        """The streams, each with its account, whose sums are in the log already."""
        params = {
            "partition": partition,
            "line": line,
            "topics": list(SUMMED_TOPICS),
            "ends": ends,
        }
        with self._log_pool.connection() as conn:
            return set(conn.execute(SELECT_SUMMED, params, binary=True).fetchall())

    def _activity(
        self, partition: int, line: int, bounds: RetentionBounds
    ) -> Iterator[list[RecordedEvent]]:
        """The activity of a partition that a run ends, in its order, by pieces."""
        params: dict[str, object] = {
            "partition": partition,
            "after": 0,
            "line": line,
            "topics": ACTIVITY_TOPICS,
            "since": bounds.since,
            "taken_since": bounds.taken_since,
            "limit": ROWS_AT_A_TIME,
        }
        while True:
            rows = fetched(
                self._log_pool, lambda _, cursor: cursor.execute(SELECT_ACTIVITY, params)
            )
            if rows:
                yield rows
            if len(rows) < ROWS_AT_A_TIME:
                return
            params["after"] = rows[-1].position


def _add(sums: dict[Party, DayCounts], event: OpenedEvent, workspace: Workspace) -> None:
    """Counts an event as a projector does."""
    row = event.row
    if isinstance(event.payload, Tracked):
        name = event.payload.activity.name
    elif event.account_part is not None:
        name = event.account_part.name
    else:
        return
    zones, at = workspace.zones, row.occurred_at
    zone = zones.at(row.recorded_at) if zones.chosen else workspace.zone
    activity = ACTIVITY_OF_TOPIC[row.topic]
    day = Day(activity, name, at.astimezone(zone).date(), row.account is not None)
    days = sums.setdefault(Party(row.topic.partition(".")[0], row.stream, row.account), {})
    count = days.get(day)
    if count is None:
        days[day] = DayCount(at)
    else:
        count.add(at)


def _days(counts: Mapping[Day, DayCount]) -> Iterator[tuple[SummedDay, ...]]:
    """The days of one party, in its order, by events."""
    ordered = [
        SummedDay(day.activity, day.name, day.day, count.count, count.first_at, count.last_at)
        for day, count in sorted(counts.items())
    ]
    for first in range(0, len(ordered), DAYS_AN_EVENT):
        yield tuple(ordered[first : first + DAYS_AN_EVENT])


def _pieces(parties: Sequence[PartySums]) -> Iterator[list[PartySums]]:
    """About `EVENTS_AT_A_TIME` each. All sums of a party are in one piece, so that the log has all
    or none of them."""
    piece: list[PartySums] = []
    size = 0
    for party in parties:
        piece.append(party)
        size += len(party[1])
        if size >= EVENTS_AT_A_TIME:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
