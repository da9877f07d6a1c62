"""Query: all that happened to a subject, in order of occurrence, straight from the log.

No plaintext copy is kept: rows are read by subject and opened on the way out. Types are told by
topics, which are in clear. Names are not: which days somebody did something of a name on is counted
(`projections.models.activity_days`), and of the log only those days are read and opened.

An account's timeline has what is about it, what its users did in it (their events that name it),
and their memberships of it. What they did elsewhere, or under no account, is in their own.
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
"""Rows of one stream that a page reads in search of what a filter asks for. Then it ends with what
it found, and the next goes on from there; one that found nothing reads on."""

MAX_READ_ON = 5_000
"""Rows of one stream that such a page reads at a time."""

OPENED_AT_ONCE = 200
"""Of what was read, until a page is full: to open them is dearer than to read them."""

_DAY = timedelta(1)
_DAYS_MORE = 4
"""Than a page has items: so many can have nothing left where the page begins, or be cut off."""
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
    """What a timeline asks of the log."""

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
    """What of a timeline is asked for.

    Attributes:
        types: of `TYPES`; none: all.
        names: of activity, stages, health, scores, signals, segments, or properties that changed;
            none: whatever it is called.
        since: from this instant on. until: before this one.
        total: whether to count them all, which takes time in proportion. Not done by name.
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
    """A page of a timeline. With a filter it may hold less than `limit` though there is a next one,
    as `MAX_READ` says, but then never nothing.

    Args:
        streams: the subject and those that were merged into it.

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
    return Page(
        items(conn, events, names_of(conn, list(parties)) if parties else {}),
        None if following is None else encoded(name, *following),
        total,
    )


class _Search:
    """Reads on until a page is full, the timeline is over, or enough was read."""

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
        """What was found, and after which place to go on; None: that was all."""
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
        """What is wanted of some rows. A gap has a topic, but no name to be found by."""
        topics = self.topics
        if topics is not None:
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
        """Rows in order, with none left out before the horizon; None: there are no more.

        Args:
            reads_on: what is wanted is seldom: the log is to sift it, row by row.
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
        """Between which instants something of these names was done, in order and apart, and how
        far these windows go; None: there are no more."""
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
            # Of two that are counted the first and the last are known to be all.
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
    """How far each of those streams (and topics) was read that may go on."""
    read: dict[tuple[SubjectId | None, bool, str], list[TimelineKey]] = defaultdict(list)
    for row in rows:
        is_own = row.stream in stretch.streams
        stream = row.stream if is_own else row.account
        read[stream, is_own, row.topic if by_topic else ""].append(timeline_key(row))
    return (stretch.farther(some) for some in read.values() if len(some) >= many)


def _apart(
    windows: Sequence[tuple[datetime, datetime]], *, newest_first: bool
) -> list[tuple[datetime, datetime]]:
    """The same instants in windows that do not overlap, in order."""
    merged: list[tuple[datetime, datetime]] = []
    for first, last in sorted(windows):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged[::-1] if newest_first else merged
