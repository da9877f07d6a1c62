"""Query: the timeline of a subject, in order of occurrence, from the log.

No plaintext copy exists: the query reads rows by subject and opens them on the way out. Topics are
in clear and give the types. Names are not: `projections.models.activity_days` counts the days of
each name, and the query reads and opens those days alone.

An account's timeline has the events about it, those of its users that name it, and their
memberships of it. Other events of its users are in the users' timelines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind, log_partition
from projections.kernel.gaps import Gap
from projections.kernel.paging import Page, decoded, encoded
from projections.kernel.ports import Opener
from projections.kernel.time_range import (
    BEGINNING,
    END,
    Stretch,
    TimelineKey,
    Windows,
    timeline_key,
)
from projections.queries.contact_view import names_of
from projections.queries.timeline_items import (
    DEFINITIONS_NAMED,
    HIDDEN_TOPICS,
    PROPERTIES_NAMED,
    TRACKED_EVENTS,
    TYPES,
    TimelineItem,
    has_name,
    items,
    named_topics,
    topics_of,
)

MAX_READ = 500
"""Rows of one stream that a filtered page reads. It then ends with what it found, and the next
page goes on from there; a page without items reads on."""

MAX_READ_ON = 5_000
"""Rows of one stream that a filtered page reads at a time."""

OPENED_AT_ONCE = 200
"""Rows that are opened at a time, until a page is full: opening costs more than reading."""

_DAY = timedelta(1)
_DAYS_MORE = 4
"""Days read beyond the items of a page: some lie before the cursor, or are cut off."""
_EARLIEST, _LATEST = time(10, tzinfo=UTC), time(12, tzinfo=UTC)
"""A day begins nowhere before the first, on the day before it; it ends nowhere after the second, on
the day after it. Days of one subject are of several zones, where the workspace changed its own."""

WINDOWS = """
SELECT n.id, d.day, d.first_at, d.last_at, d.count
FROM views.names n CROSS JOIN LATERAL (
    SELECT d.day, min(d.first_at) AS first_at, max(d.last_at) AS last_at, sum(d.count)::int AS count
    FROM views.activity_days d
    WHERE d.log_partition = :partition AND d.subject = :subject AND d.name_id = n.id
      AND d.day BETWEEN :first_day AND :last_day AND d.first_at <= :high AND d.last_at >= :low
    GROUP BY d.day ORDER BY d.day {order} LIMIT :limit) d
WHERE n.kind = ANY(:kinds) AND views.digest_of(n.name) = ANY(views.digests_of(:names))
  AND n.name = ANY(:names)"""

_WINDOWS = {
    newest: sa.text(WINDOWS.format(order=order)) for newest, order in ((True, "DESC"), (False, ""))
}


class TimelineLog(Protocol):
    """Reads the log for a timeline."""

    def read(self, stretch: Stretch, limit: int) -> list[RecordedEvent]: ...
    def read_topics(
        self, stretch: Stretch, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]: ...
    def read_windows(
        self, stretch: Stretch, windows: Windows, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]: ...
    def length(
        self,
        streams: Sequence[SubjectId],
        topics: Sequence[str] | None,
        since: datetime,
        until: datetime,
    ) -> int: ...


class Wanted(msgspec.Struct, frozen=True):
    """The filter of a timeline.

    Attributes:
        types: of `TYPES`; none: all.
        names: of activity, stages, health, scores, signals, segments, or properties that changed;
            none: any name.
        since: from this instant on. until: before this one.
        total: whether to count all items, which takes proportional time; not by name.
    """

    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    since: datetime = BEGINNING
    until: datetime = END
    newest_first: bool = True
    total: bool = False


ALL = Wanted()


def timeline(
    conn: sa.Connection,
    log: TimelineLog,
    opener: Opener,
    kind: SubjectKind,
    streams: Sequence[SubjectId],
    wanted: Wanted = ALL,
    *,
    cursor: str | None,
    limit: int,
) -> Page[TimelineItem]:
    """A page of a timeline. A filtered page may hold less than `limit` items and still have a
    next one (`MAX_READ`), but is then never empty.

    Args:
        streams: the subject and the subjects merged into it.

    Raises:
        InvalidInput: an unknown cursor.
    """
    name = f"timeline:{'newest' if wanted.newest_first else 'oldest'}"
    stretch = Stretch(
        streams, TimelineKey(wanted.since), TimelineKey(wanted.until), wanted.newest_first
    )
    if cursor is not None:
        stretch = stretch.after(TimelineKey(*decoded(name, cursor, datetime, int, int)))
    search = _Search(conn, log, opener, kind, wanted)
    opener.refresh()
    events, following = search.page(stretch, limit)
    parties = {row.stream for row in (event.row for event in events)}
    parties.update(event.row.account for event in events if event.row.account is not None)
    total = None
    if wanted.total and not wanted.names:
        total = log.length(streams, search.topics, wanted.since, wanted.until)
        if search.topics is None:
            hidden = sorted(HIDDEN_TOPICS)
            total -= log.length(streams, hidden, wanted.since, wanted.until)
    return Page(
        items(conn, events, names_of(conn, list(parties)) if parties else {}),
        None if following is None else encoded(name, *following),
        total,
    )


class _Search:
    """Reads until a page is full, the timeline ends, or `MAX_READ` rows are read."""

    def __init__(
        self,
        conn: sa.Connection,
        log: TimelineLog,
        opener: Opener,
        kind: SubjectKind,
        wanted: Wanted,
    ) -> None:
        self._conn = conn
        self._log = log
        self._opener = opener
        self._names = frozenset(wanted.names)
        self.topics: list[str] | None = None
        if wanted.types or wanted.names:
            self.topics = topics_of(kind, wanted.types or TYPES)
        self._definitions: Collection[UUID] = ()
        self._named: Sequence[str] = ()
        if wanted.names:
            names = {"names": list(wanted.names)}
            self._definitions = frozenset(conn.scalars(DEFINITIONS_NAMED, names))
            is_property = bool(conn.scalar(PROPERTIES_NAMED, names))
            self._named = named_topics(self.topics or (), properties=is_property)
        self._is_sifted = bool(wanted.names) or not TRACKED_EVENTS.isdisjoint(self.topics or ())

    def page(
        self, stretch: Stretch, limit: int
    ) -> tuple[list[OpenedEvent | Gap], TimelineKey | None]:
        """The matching events, and the key after which to go on; None: the timeline ends."""
        matching: list[OpenedEvent | Gap] = []
        read, many = 0, limit + 1
        if self._names:
            many = max(many, MAX_READ)
        elif self._is_sifted:
            many = max(many, min(2 * many, MAX_READ))
        while True:
            rows, horizon = self._read(stretch, many, limit, reads_on=read >= MAX_READ)
            for start in range(0, len(rows), OPENED_AT_ONCE):
                matching += self._sifted(rows[start : start + OPENED_AT_ONCE])
                if len(matching) > limit:
                    return matching[:limit], timeline_key(matching[limit - 1].row)
            read += len(rows)
            if horizon is None or (matching and read >= MAX_READ):
                return matching, horizon
            stretch = stretch.after(horizon)
            left = MAX_READ - read if read < MAX_READ else MAX_READ_ON
            many = max(limit + 1, min(4 * many, left))

    def _sifted(self, rows: Sequence[RecordedEvent]) -> Sequence[OpenedEvent | Gap]:
        """The rows that match. A gap has a topic, but no name."""
        topics = self.topics
        if topics is None:
            rows = [row for row in rows if row.topic not in HIDDEN_TOPICS]
        else:
            rows = [row for row in rows if row.topic in topics]
        events = self._opener.open_each(rows)
        if not self._names:
            return events
        return [
            event
            for event in events
            if not isinstance(event, Gap) and has_name(event, self._names, self._definitions)
        ]

    def _read(
        self, stretch: Stretch, many: int, limit: int, *, reads_on: bool
    ) -> tuple[list[RecordedEvent], TimelineKey | None]:
        """Rows in order, complete up to the horizon; None: the end.

        Args:
            reads_on: matches are rare, and the log filters row by row.
        """
        topics, cuts = self.topics, list[TimelineKey]()
        if self._names:
            assert topics is not None
            some = many if reads_on else min(many, OPENED_AT_ONCE)
            rows = self._log.read_topics(stretch, self._named, some) if self._named else []
            cuts += _cuts(stretch, rows, some, by_topic=True)
            activities = [topic for topic in topics if topic in ACTIVITY_OF_TOPIC]
            windows, cut = self._windows(stretch, activities, limit + _DAYS_MORE)
            done = self._log.read_windows(stretch, windows, activities, many) if windows else []
            cuts += _cuts(stretch, done, many, by_topic=False)
            cuts += [] if cut is None else [cut]
            rows = [*rows, *done]
        elif topics is not None and TRACKED_EVENTS.isdisjoint(topics):
            rows = self._log.read_topics(stretch, topics, many) if topics else []
            cuts += _cuts(stretch, rows, many, by_topic=True)
        else:
            if topics is not None and reads_on:
                whole = [(stretch.low.at, stretch.high.at)]
                rows = self._log.read_windows(stretch, whole, topics, many)
            else:
                rows = self._log.read(stretch, many)
            cuts += _cuts(stretch, rows, many, by_topic=False)
        horizon = stretch.nearer(cuts)
        if horizon is not None:
            rows = [row for row in rows if stretch.reaches(timeline_key(row), horizon)]
        return sorted(rows, key=timeline_key, reverse=stretch.newest_first), horizon

    def _windows(
        self, stretch: Stretch, activities: Sequence[str], limit: int
    ) -> tuple[Windows, TimelineKey | None]:
        """The windows of time in which these names occurred, in order and without overlap, and
        how far they reach; None: the end."""
        low, high, newest = stretch.low.at, stretch.high.at, stretch.newest_first
        subject = stretch.streams[0]
        days: dict[int, list[date]] = defaultdict(list)
        windows: list[tuple[datetime, datetime]] = []
        for id, day, first, last, count in self._conn.execute(
            _WINDOWS[newest],
            {
                "partition": log_partition(subject),
                "subject": subject,
                "kinds": sorted({ACTIVITY_OF_TOPIC[topic] for topic in activities}),
                "names": list(self._names),
                "first_day": low.date() - _DAY if low > BEGINNING else low.date(),
                "last_day": high.date() + _DAY if high < END else high.date(),
                "low": low,
                "high": high,
                "limit": limit,
            },
        ):
            days[id].append(day)
            # Of a day with two occurrences, first and last are all.
            windows += [(first, first), (last, last)] if count <= 2 else [(first, last)]
        cut = min if newest else max
        cuts = [
            TimelineKey(datetime.combine(cut(some), _LATEST if newest else _EARLIEST))
            for some in days.values()
            if len(some) == limit
        ]
        return _apart(windows, newest_first=newest), stretch.nearer(cuts)


def _cuts(
    stretch: Stretch, rows: Sequence[RecordedEvent], many: int, *, by_topic: bool
) -> Iterator[TimelineKey]:
    """The key reached in each stream (and topic) that may have more rows."""
    read: dict[tuple[SubjectId | None, bool, str], list[TimelineKey]] = defaultdict(list)
    for row in rows:
        is_own = row.stream in stretch.streams
        stream = row.stream if is_own else row.account
        read[stream, is_own, row.topic if by_topic else ""].append(timeline_key(row))
    return (stretch.farther(some) for some in read.values() if len(some) >= many)


def _apart(
    windows: Sequence[tuple[datetime, datetime]], *, newest_first: bool
) -> list[tuple[datetime, datetime]]:
    """The same instants in windows without overlap, in order."""
    merged: list[tuple[datetime, datetime]] = []
    for first, last in sorted(windows):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged[::-1] if newest_first else merged
