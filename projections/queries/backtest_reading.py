"""Reads the log for a back-test: the events of the subjects that it replays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from domain.backtest.plan import Plan
from domain.backtest.replay import Replay
from domain.backtest.replay_scope import ReplayEvent
from domain.definitions.retention import RetentionBounds
from domain.events.decisions import DecisionEvent
from domain.events.definitions import ListChange
from domain.events.payloads import Absorbed, Erased, MergedInto
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC, PAYLOAD_OF_TOPIC, SUMMED_TOPICS, stream_kind
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind, log_partition
from projections.kernel.gaps import Gap, log_gaps, parted, place_of
from projections.kernel.ports import Log, Opener

STREAMS_A_READ = 1_000

PARTITIONS_A_READ = 16

EVENTS_A_READ = 8_000

READER = "back-test"
"""The reader's name in the application log."""

SUBJECT_TOPICS = [
    topic
    for topic, payload in PAYLOAD_OF_TOPIC.items()
    if topic.partition(".")[0] in set(SubjectKind)
    and not issubclass(payload, DecisionEvent | Erased)
]

MEMBERSHIP_TOPICS = [topic for topic in SUBJECT_TOPICS if topic.startswith("user.membership_")]

ACCOUNT_TOPICS = [*ACTIVITY_OF_TOPIC, *SUMMED_TOPICS, *MEMBERSHIP_TOPICS]

MERGE_TOPICS = [
    topic
    for topic, payload in PAYLOAD_OF_TOPIC.items()
    if issubclass(payload, Absorbed | MergedInto)
]

LIST_TOPICS = [
    topic for topic, payload in PAYLOAD_OF_TOPIC.items() if issubclass(payload, ListChange)
]


class Records(Protocol):
    """Reads the log by subject."""

    def of_streams(
        self, streams: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[Sequence[RecordedEvent]]: ...
    def of_accounts(
        self, accounts: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[Sequence[RecordedEvent]]: ...


Progress = Callable[[str, int, int], None]
"""Reports progress: phase, amount done, whole amount. An exception of it ends the work."""


class LogReading:
    """Reads the past into a replay.

    Attributes:
        gaps: positions of gaps, in the order of reading.
    """

    def __init__(self, replay: Replay, plan: Plan, opener: Opener, progress: Progress) -> None:
        self._replay = replay
        self._plan = plan
        self._opener = opener
        self._progress = progress
        self._traced: set[SubjectId] = set()
        self.gaps: dict[str, None] = {}
        self._opened_topics = (set(SUBJECT_TOPICS) - set(ACTIVITY_OF_TOPIC)) | plan.scope.topics

    def lists(self, records: Records) -> None:
        """Reads the lists of static segments."""
        for segment in self._plan.lists:
            for piece in records.of_streams([SubjectId(segment)], LIST_TOPICS):
                for event in self._passed(self._opener.open_each(piece)):
                    if isinstance(event.payload, ListChange):
                        row = event.row
                        self._replay.add_list_change(
                            segment, row.position, row.occurred_at, event.payload
                        )

    def _passed(self, events: Sequence[OpenedEvent | Gap]) -> list[OpenedEvent]:
        """Returns the opened events; notes the gaps."""
        opened, gaps = parted(events)
        new = {place_of(gap.row): gap for gap in gaps if place_of(gap.row) not in self.gaps}
        log_gaps(READER, new.values())
        self.gaps |= dict.fromkeys(new)
        return opened

    def all(self, log: Log) -> None:
        """Reads the whole log, some partitions at a time."""
        heads = log.heads(range(LOG_PARTITIONS))
        done, total = 0, sum(heads.values())
        for first in range(0, LOG_PARTITIONS, PARTITIONS_A_READ):
            some = range(first, min(first + PARTITIONS_A_READ, LOG_PARTITIONS))
            places = {partition: 0 for partition in some if heads.get(partition, 0)}
            while places:
                self._progress("reading", done, total)
                limit = math.ceil(EVENTS_A_READ / len(places))
                rows = sorted(
                    log.read_after(places, limit),
                    key=lambda row: (row.log_partition, row.position),
                )
                if not rows:
                    break
                done += len(rows)
                places |= {row.log_partition: row.position for row in rows}
                places = {
                    partition: at for partition, at in places.items() if at < heads[partition]
                }
                self._add(rows)

    def some(self, records: Records, replayed: set[SubjectId]) -> None:
        """Reads the streams of some subjects, and the activity of others in the accounts among
        them."""
        streams = sorted(replayed, key=lambda subject: (log_partition(subject), subject))
        self._traced |= replayed
        for first in range(0, len(streams), STREAMS_A_READ):
            some = streams[first : first + STREAMS_A_READ]
            self._progress("reading", first, len(streams))
            for piece in records.of_streams(some, SUBJECT_TOPICS):
                self._merges(records, {row.account for row in _memberships(piece) if row.account})
                self._add(piece)
            for piece in records.of_accounts(some, ACCOUNT_TOPICS):
                self._progress("reading", first, len(streams))
                strangers = [row for row in piece if row.stream not in replayed]
                self._merges(records, {row.stream for row in _memberships(strangers)})
                self._add(strangers)

    def _merges(self, records: Records, strangers: set[SubjectId]) -> None:
        """Reads the merges of subjects that are not replayed, where memberships matter."""
        if not self._plan.scope.memberships:
            return
        while strangers := strangers - self._traced:
            self._traced |= strangers
            became: set[SubjectId] = set()
            for piece in records.of_streams(sorted(strangers), MERGE_TOPICS):
                payloads = [event.payload for event in self._add(piece)]
                became |= {
                    payload.survivor for payload in payloads if isinstance(payload, MergedInto)
                }
            strangers = became

    def _add(self, rows: Sequence[Any]) -> list[ReplayEvent]:
        self._opener.refresh()
        bounds = self._opener.kept()
        rows = [row for row in rows if row.topic in _TOPICS and _concerns(row, bounds)]
        events = self._opener.open_each([row for row in rows if row.topic in self._opened_topics])
        opened: dict[tuple[int, int], OpenedEvent] = {
            (event.row.log_partition, event.row.position): event for event in self._passed(events)
        }
        if self.gaps:
            rows = [row for row in rows if place_of(row) not in self.gaps]
        replayed = [
            _replay_event(row, opened.get((row.log_partition, row.position))) for row in rows
        ]
        self._replay.add(replayed, bounds)
        return replayed


_TOPICS = frozenset(SUBJECT_TOPICS)


def _memberships(rows: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    return [row for row in rows if row.topic in MEMBERSHIP_TOPICS]


def _concerns(row: RecordedEvent, bounds: RetentionBounds) -> bool:
    """Whether an event counts: of ended activity its sums do."""
    if row.topic in ACTIVITY_OF_TOPIC:
        return bounds.has(row.occurred_at, row.log_partition, row.position)
    return row.topic not in SUMMED_TOPICS or row.occurred_at <= bounds.since


def _replay_event(row: RecordedEvent, event: OpenedEvent | None) -> ReplayEvent:
    kind = stream_kind(row.topic)
    assert isinstance(kind, SubjectKind)
    part = event.account_part if event is not None else None
    return ReplayEvent(
        kind,
        row.stream,
        row.position,
        row.topic.partition(".")[2],
        row.occurred_at,
        None if event is None else event.payload,
        row.account,
        None if part is None else part.name,
        event is not None,
        None if event is None else event.account_sums,
    )
