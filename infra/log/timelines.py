"""Reading the log by subject, in order of occurrence: what timelines are made of.

Each statement reads a bounded number of rows of each stream by an index that has them in order,
whatever the length of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, log_partition
from infra.log.fetch import COLUMNS, Cursor, fetched
from infra.log.log_as_of import Bounds
from projections.kernel.pipeline import pipeline
from projections.kernel.time_range import Stretch, TimelineKey, Windows

# What is sorted is read in order from an index, a page at a time. With statistics of other streams
# in mind the server would at times rather read a stream of a million events whole, and sort it.
BY_INDEX = "SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)"

# An index has it in order, to the position: a page begins at once where it should, among however
# many events of one instant. All of a stream is in one partition.
_IN_STREAM = """
          AND e.occurred_at BETWEEN {first} AND {last}
          AND (e.occurred_at, e.position) > ({first}, {low})
          AND (e.occurred_at, e.position) < ({last}, {high}) {bound}
        ORDER BY e.occurred_at {order}, e.position {order}
        LIMIT %(limit)b"""

_IN_ACCOUNT = """
          AND e.occurred_at BETWEEN {first} AND {last}
          AND (e.occurred_at, e.log_partition, e.position)
              > ({first}, {low_partition}, {low_position})
          AND (e.occurred_at, e.log_partition, e.position)
              < ({last}, {high_partition}, {high_position}) {bound}
        ORDER BY e.occurred_at {order}, e.log_partition {order}, e.position {order}
        LIMIT %(limit)b"""

_STREAMS = """
unnest(%(partitions)b::smallint[], %(streams)b::uuid[], %(lows)b::bigint[], %(highs)b::bigint[])
    AS w(p, s, low, high)"""

OF_ALL_TOPICS = """
SELECT {columns} FROM {of_streams}
CROSS JOIN LATERAL (
    SELECT * FROM log.events e WHERE e.log_partition = w.p AND e.stream = w.s {in_stream}) e
UNION ALL
SELECT {columns} FROM unnest(%(streams)b::uuid[]) AS w(s)
CROSS JOIN LATERAL (SELECT * FROM log.events e WHERE e.account = w.s {in_account}) e"""

# But for tracked events, which are most of a log, all is indexed by topic too.
OF_TOPICS = """
SELECT {columns} FROM {of_streams}
CROSS JOIN unnest(%(topics)b::text[]) AS t(wanted)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e
    WHERE e.log_partition = w.p AND e.stream = w.s AND e.topic = t.wanted
      AND e.topic NOT IN ('user.event_tracked', 'account.event_tracked') {in_stream}) e
UNION ALL
SELECT {columns} FROM unnest(%(streams)b::uuid[]) AS w(s)
CROSS JOIN unnest(%(topics)b::text[]) AS t(wanted)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e
    WHERE e.account = w.s AND e.topic = t.wanted
      AND e.topic NOT IN ('user.event_tracked', 'account.event_tracked') {in_account}) e"""

# The windows come in order, apart, and inside of the stretch: one after another is read until there
# is enough. Nothing else says where to begin: of two places the server may take the farther, and
# read all that lies between.
IN_WINDOWS = """
SELECT {columns} FROM {of_streams}
CROSS JOIN LATERAL (
    SELECT e.* FROM unnest(%(firsts)b::timestamptz[], %(lasts)b::timestamptz[]) AS v(first, last)
    CROSS JOIN LATERAL (
        SELECT * FROM log.events e
        WHERE e.log_partition = w.p AND e.stream = w.s AND e.topic = ANY(%(topics)b)
          {in_stream}) e
    LIMIT %(limit)b) e
UNION ALL
SELECT {columns} FROM unnest(%(streams)b::uuid[]) AS w(s)
CROSS JOIN LATERAL (
    SELECT e.* FROM unnest(%(firsts)b::timestamptz[], %(lasts)b::timestamptz[]) AS v(first, last)
    CROSS JOIN LATERAL (
        SELECT * FROM log.events e
        WHERE e.account = w.s AND e.topic = ANY(%(topics)b) {in_account}) e
    LIMIT %(limit)b) e"""

LENGTH = """
SELECT (SELECT count(*) FROM log.events e
        WHERE e.log_partition = ANY(%(partitions)b) AND e.stream = ANY(%(streams)b)
          AND (%(topics)b::text[] IS NULL OR e.topic = ANY(%(topics)b))
          AND e.occurred_at >= %(since)b AND e.occurred_at < %(until)b {bound})
     + (SELECT count(*) FROM log.events e
        WHERE e.account = ANY(%(streams)b)
          AND (%(topics)b::text[] IS NULL OR e.topic = ANY(%(topics)b))
          AND e.occurred_at >= %(since)b AND e.occurred_at < %(until)b {bound})"""

OCCURRED_AT = """
SELECT e.log_partition, e.position, e.occurred_at
FROM unnest(%b::smallint[], %b::bigint[]) AS w(p, at)
JOIN log.events e ON e.log_partition = w.p AND e.position = w.at
 AND e.occurred_at BETWEEN '0001-01-01' AND '9999-12-31'"""


_BEFORE_ALL, _AFTER_ALL = -1, 2**63 - 1

# Between which places a statement reads.
_STRETCH = {"first": "%(low_at)b", "low": "w.low", "last": "%(high_at)b", "high": "w.high"} | {
    name: f"%({name})b"
    for name in ("low_partition", "low_position", "high_partition", "high_position")
}

# A window that begins or ends with the stretch does so at its places.
_WINDOW = {"first": "v.first", "last": "v.last"} | {
    name: f"CASE WHEN v.first = %(low_at)b THEN {place} ELSE {_BEFORE_ALL} END"
    if name.startswith("low")
    else f"CASE WHEN v.last = %(high_at)b THEN {place} ELSE {_AFTER_ALL} END"
    for name, place in _STRETCH.items()
    if name not in ("first", "last")
}

# In the present nothing is asked of positions: a plan needs no more than it did.
_BOUND = "AND e.position <= (%(bounds)b::bigint[])[e.log_partition + 1]"
_BOUNDS = {False: "", True: _BOUND}


class _Ways(NamedTuple):
    """How a statement reads."""

    newest_first: bool
    is_bounded: bool


def _all_ways(statement: str, places: Mapping[str, str]) -> dict[_Ways, str]:
    """A statement that reads newest first and one that reads oldest first, up to the end of the
    log and up to bounds."""
    return {
        _Ways(newest_first, is_bounded): statement.format(
            columns=COLUMNS,
            of_streams=_STREAMS,
            in_stream=_IN_STREAM.format(order=order, bound=bound, **places),
            in_account=_IN_ACCOUNT.format(order=order, bound=bound, **places),
        )
        for newest_first, order in ((True, "DESC"), (False, "ASC"))
        for is_bounded, bound in _BOUNDS.items()
    }


_ALL, _TOPICS = _all_ways(OF_ALL_TOPICS, _STRETCH), _all_ways(OF_TOPICS, _STRETCH)
_WINDOWS = _all_ways(IN_WINDOWS, _WINDOW)
_LENGTH = {is_bounded: LENGTH.format(bound=bound) for is_bounded, bound in _BOUNDS.items()}


def _position_at(spot: TimelineKey, partition: int) -> int:
    """Where a place lies among those of a partition that occurred at its instant."""
    if partition == spot.log_partition:
        return spot.position
    return _AFTER_ALL if partition < spot.log_partition else _BEFORE_ALL


class Timelines:
    """Safe for use from many threads.

    Args:
        bounds: what of the log is read; None: all of it.
    """

    def __init__(self, pool: ConnectionPool, bounds: Bounds | None = None) -> None:
        self._pool = pool
        self._bounds = bounds

    def until(self, bounds: Bounds) -> Timelines:
        """The same of the log up to some bounds."""
        return Timelines(self._pool, bounds)

    def read(self, stretch: Stretch, limit: int) -> list[RecordedEvent]:
        """The first rows of a stretch, at most `limit` of each stream, and in no order."""
        return self._rows(_ALL, stretch, self._asked(stretch, limit))

    def read_topics(
        self, stretch: Stretch, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]:
        """The same of some topics, at most `limit` of each topic of each stream. Tracked events
        are none of them."""
        asked = self._asked(stretch, limit) | {"topics": list(topics)}
        return self._rows(_TOPICS, stretch, asked)

    def read_windows(
        self, stretch: Stretch, windows: Windows, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]:
        """The same of some topics inside of windows, which must be in the stretch's order and not
        overlap."""
        asked = self._asked_of_windows(stretch, windows, topics, limit)
        return self._rows(_WINDOWS, stretch, asked)

    def length(
        self,
        streams: Sequence[SubjectId],
        topics: Sequence[str] | None,
        since: datetime,
        until: datetime,
    ) -> int:
        """How many events concern some subjects, from an instant and before another. Takes time
        in proportion."""
        asked = {
            "partitions": sorted({log_partition(one) for one in streams}),
            "streams": list(streams),
            "topics": None if topics is None else list(topics),
            "since": since,
            "until": until,
        } | self._asked_bounds
        with self._pool.connection() as conn:
            row = conn.execute(_LENGTH[self._bounds is not None], asked).fetchone()
        return int(row[0]) if row else 0

    def occurred_at(self, places: Sequence[Position]) -> dict[Position, datetime]:
        """When the events at some places occurred."""
        if not places:
            return {}
        asked = (
            [place.log_partition for place in places],
            [place.position for place in places],
        )
        with self._pool.connection() as conn:
            rows = conn.execute(OCCURRED_AT, asked, binary=True).fetchall()
        return {Position(partition, position): at for partition, position, at in rows}

    @property
    def _asked_bounds(self) -> dict[str, object]:
        return {} if self._bounds is None else {"bounds": list(self._bounds)}

    def _rows(
        self, ways: Mapping[_Ways, str], stretch: Stretch, asked: Mapping[str, object]
    ) -> list[RecordedEvent]:
        query = ways[_Ways(stretch.newest_first, self._bounds is not None)]

        def ask(conn: psycopg.Connection, cursor: Cursor) -> None:
            with pipeline(conn):
                conn.execute("BEGIN")
                conn.execute(BY_INDEX)
                cursor.execute(query, asked)
                conn.execute("COMMIT")

        return fetched(self._pool, ask)

    def _asked_of_windows(
        self, stretch: Stretch, windows: Windows, topics: Sequence[str], limit: int
    ) -> dict[str, object]:
        low, high = stretch.low.at, stretch.high.at
        inside = [
            (max(first, low), min(last, high))
            for first, last in windows
            if first <= high and last >= low
        ]
        return self._asked(stretch, limit) | {
            "topics": list(topics),
            "firsts": [first for first, _ in inside],
            "lasts": [last for _, last in inside],
        }

    def _asked(self, stretch: Stretch, limit: int) -> dict[str, object]:
        low, high = stretch.low, stretch.high
        partitions = [log_partition(one) for one in stretch.streams]
        return {
            "partitions": partitions,
            "streams": list(stretch.streams),
            "lows": [_position_at(low, one) for one in partitions],
            "highs": [_position_at(high, one) for one in partitions],
            "low_at": low.at,
            "low_partition": low.log_partition,
            "low_position": low.position,
            "high_at": high.at,
            "high_partition": high.log_partition,
            "high_position": high.position,
            "limit": limit,
        } | self._asked_bounds
