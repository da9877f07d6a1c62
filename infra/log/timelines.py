"""Reads the log by subject in order of occurrence, for timelines.

Each statement reads a bounded number of rows of each stream, from an index that has them in order,
however long the stream is.
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

# A page at a time, in order from an index. By the statistics of other streams PostgreSQL would at
# times rather read a stream of a million events whole, and sort it.
READ_BY_INDEX = "SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)"

SELECT_OCCURRED_AT = """
SELECT e.log_partition, e.position, e.occurred_at
FROM unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS w(p, at)
JOIN log.events e ON e.log_partition = w.p AND e.position = w.at
 AND e.occurred_at BETWEEN '0001-01-01' AND '9999-12-31'"""

_STREAMS = """
unnest(%(partitions)b::smallint[], %(streams)b::uuid[], %(lows)b::bigint[], %(highs)b::bigint[])
    AS w(p, s, low, high)"""

_BEFORE_ALL, _AFTER_ALL = -1, 2**63 - 1


class _Keys(NamedTuple):
    """SQL of the keys between which a statement reads."""

    first: str
    low: str
    low_partition: str
    low_position: str
    last: str
    high: str
    high_partition: str
    high_position: str


_OF_STRETCH = _Keys(
    "%(low_at)b",
    "w.low",
    "%(low_partition)b",
    "%(low_position)b",
    "%(high_at)b",
    "w.high",
    "%(high_partition)b",
    "%(high_position)b",
)


def _within_window(keys: _Keys) -> _Keys:
    """The keys of a window. One that begins or ends with the stretch does so at its keys."""

    def low(key: str) -> str:
        return f"CASE WHEN v.first = %(low_at)b THEN {key} ELSE {_BEFORE_ALL} END"

    def high(key: str) -> str:
        return f"CASE WHEN v.last = %(high_at)b THEN {key} ELSE {_AFTER_ALL} END"

    return _Keys(
        "v.first",
        low(keys.low),
        low(keys.low_partition),
        low(keys.low_position),
        "v.last",
        high(keys.high),
        high(keys.high_partition),
        high(keys.high_position),
    )


_OF_WINDOW = _within_window(_OF_STRETCH)


class _Mode(NamedTuple):
    """How a statement reads.

    Attributes:
        is_bounded: whether it reads the log up to bounds.
    """

    newest_first: bool
    is_bounded: bool

    @property
    def order(self) -> str:
        return "DESC" if self.newest_first else "ASC"

    @property
    def bound(self) -> str:
        return _bound(is_bounded=self.is_bounded)


_MODES = [_Mode(newest, bounded) for newest in (True, False) for bounded in (False, True)]


def _bound(*, is_bounded: bool) -> str:
    """The present has no bound at all: its plans stay as simple as they are."""
    if not is_bounded:
        return ""
    return "AND e.position <= (%(bounds)b::bigint[])[e.log_partition + 1]"


# An index has both in this order, down to the position: a page begins at its key at once, among
# however many events of one instant. All of a stream is in one partition.
def _in_stream(keys: _Keys, mode: _Mode) -> str:
    return f"""
          AND e.occurred_at BETWEEN {keys.first} AND {keys.last}
          AND (e.occurred_at, e.position) > ({keys.first}, {keys.low})
          AND (e.occurred_at, e.position) < ({keys.last}, {keys.high}) {mode.bound}
        ORDER BY e.occurred_at {mode.order}, e.position {mode.order}
        LIMIT %(limit)b"""


def _in_account(keys: _Keys, mode: _Mode) -> str:
    return f"""
          AND e.occurred_at BETWEEN {keys.first} AND {keys.last}
          AND (e.occurred_at, e.log_partition, e.position)
              > ({keys.first}, {keys.low_partition}, {keys.low_position})
          AND (e.occurred_at, e.log_partition, e.position)
              < ({keys.last}, {keys.high_partition}, {keys.high_position}) {mode.bound}
        ORDER BY e.occurred_at {mode.order}, e.log_partition {mode.order}, e.position {mode.order}
        LIMIT %(limit)b"""


def _select_all(mode: _Mode) -> str:
    return f"""
SELECT {COLUMNS} FROM {_STREAMS}
CROSS JOIN LATERAL (
    SELECT * FROM log.events e
    WHERE e.log_partition = w.p AND e.stream = w.s {_in_stream(_OF_STRETCH, mode)}) e
UNION ALL
SELECT {COLUMNS} FROM unnest(%(streams)b::uuid[]) AS w(s)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e WHERE e.account = w.s {_in_account(_OF_STRETCH, mode)}) e"""


# All but tracked events, which are most of a log, are indexed by topic too.
def _select_topics(mode: _Mode) -> str:
    return f"""
SELECT {COLUMNS} FROM {_STREAMS}
CROSS JOIN unnest(%(topics)b::text[]) AS t(wanted)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e
    WHERE e.log_partition = w.p AND e.stream = w.s AND e.topic = t.wanted
      AND e.topic NOT IN ('user.event_tracked', 'account.event_tracked')
      {_in_stream(_OF_STRETCH, mode)}) e
UNION ALL
SELECT {COLUMNS} FROM unnest(%(streams)b::uuid[]) AS w(s)
CROSS JOIN unnest(%(topics)b::text[]) AS t(wanted)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e
    WHERE e.account = w.s AND e.topic = t.wanted
      AND e.topic NOT IN ('user.event_tracked', 'account.event_tracked')
      {_in_account(_OF_STRETCH, mode)}) e"""


# The windows are in order, apart, and inside of the stretch: PostgreSQL reads one after another
# until it has enough. A window by itself says where to begin: of two keys PostgreSQL may take the
# farther, and read all that lies between.
def _select_windows(mode: _Mode) -> str:
    return f"""
SELECT {COLUMNS} FROM {_STREAMS}
CROSS JOIN LATERAL (
    SELECT e.* FROM unnest(%(firsts)b::timestamptz[], %(lasts)b::timestamptz[]) AS v(first, last)
    CROSS JOIN LATERAL (
        SELECT * FROM log.events e
        WHERE e.log_partition = w.p AND e.stream = w.s AND e.topic = ANY(%(topics)b)
          {_in_stream(_OF_WINDOW, mode)}) e
    LIMIT %(limit)b) e
UNION ALL
SELECT {COLUMNS} FROM unnest(%(streams)b::uuid[]) AS w(s)
CROSS JOIN LATERAL (
    SELECT e.* FROM unnest(%(firsts)b::timestamptz[], %(lasts)b::timestamptz[]) AS v(first, last)
    CROSS JOIN LATERAL (
        SELECT * FROM log.events e
        WHERE e.account = w.s AND e.topic = ANY(%(topics)b) {_in_account(_OF_WINDOW, mode)}) e
    LIMIT %(limit)b) e"""


def _count_events(*, is_bounded: bool) -> str:
    bound = _bound(is_bounded=is_bounded)
    return f"""
SELECT (SELECT count(*) FROM log.events e
        WHERE e.log_partition = ANY(%(partitions)b) AND e.stream = ANY(%(streams)b)
          AND (%(topics)b::text[] IS NULL OR e.topic = ANY(%(topics)b))
          AND e.occurred_at >= %(since)b AND e.occurred_at < %(until)b {bound})
     + (SELECT count(*) FROM log.events e
        WHERE e.account = ANY(%(streams)b)
          AND (%(topics)b::text[] IS NULL OR e.topic = ANY(%(topics)b))
          AND e.occurred_at >= %(since)b AND e.occurred_at < %(until)b {bound})"""


SELECT_ALL = {mode: _select_all(mode) for mode in _MODES}
SELECT_TOPICS = {mode: _select_topics(mode) for mode in _MODES}
SELECT_WINDOWS = {mode: _select_windows(mode) for mode in _MODES}
COUNT_EVENTS = {bounded: _count_events(is_bounded=bounded) for bounded in (False, True)}


def _position_at(key: TimelineKey, partition: int) -> int:
    """The position of a key among the events of a partition that occurred at its instant."""
    if partition == key.log_partition:
        return key.position
    return _AFTER_ALL if partition < key.log_partition else _BEFORE_ALL


class Timelines:
    """Safe for use from many threads.

    Args:
        bounds: of what is read; None: the whole log.
    """

    def __init__(self, pool: ConnectionPool, bounds: Bounds | None = None) -> None:
        self._pool = pool
        self._bounds = bounds

    def until(self, bounds: Bounds) -> Timelines:
        """The same, up to some bounds of the log."""
        return Timelines(self._pool, bounds)

    def read(self, stretch: Stretch, limit: int) -> list[RecordedEvent]:
        """The first rows of a stretch, at most `limit` of each stream, in no order."""
        return self._rows(SELECT_ALL, stretch, self._params(stretch, limit))

    def read_topics(
        self, stretch: Stretch, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]:
        """As `read`, of some topics, at most `limit` of each topic of each stream; never tracked
        events."""
        params = self._params(stretch, limit) | {"topics": list(topics)}
        return self._rows(SELECT_TOPICS, stretch, params)

    def read_windows(
        self, stretch: Stretch, windows: Windows, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]:
        """As `read`, of some topics inside of windows, which are in the order of the stretch and do
        not overlap."""
        params = self._params_of_windows(stretch, windows, topics, limit)
        return self._rows(SELECT_WINDOWS, stretch, params)

    def length(
        self,
        streams: Sequence[SubjectId],
        topics: Sequence[str] | None,
        since: datetime,
        until: datetime,
    ) -> int:
        """The number of events that concern some subjects, from `since` and before `until`. Takes
        time in proportion.

        Args:
            topics: None: all.
        """
        params = {
            "partitions": sorted({log_partition(stream) for stream in streams}),
            "streams": list(streams),
            "topics": None if topics is None else list(topics),
            "since": since,
            "until": until,
        } | self._bounds_params
        with self._pool.connection() as conn:
            row = conn.execute(COUNT_EVENTS[self._bounds is not None], params).fetchone()
        return int(row[0]) if row else 0

    def occurred_at(self, positions: Sequence[Position]) -> dict[Position, datetime]:
        """When the events at some positions occurred."""
        if not positions:
            return {}
        params = {
            "partitions": [position.log_partition for position in positions],
            "positions": [position.position for position in positions],
        }
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_OCCURRED_AT, params, binary=True).fetchall()
        return {Position(partition, position): at for partition, position, at in rows}

    @property
    def _bounds_params(self) -> dict[str, object]:
        return {} if self._bounds is None else {"bounds": list(self._bounds)}

    def _rows(
        self, statements: Mapping[_Mode, str], stretch: Stretch, params: Mapping[str, object]
    ) -> list[RecordedEvent]:
        query = statements[_Mode(stretch.newest_first, self._bounds is not None)]

        def ask(conn: psycopg.Connection, cursor: Cursor) -> None:
            with pipeline(conn):
                conn.execute("BEGIN")
                conn.execute(READ_BY_INDEX)
                cursor.execute(query, params)
                conn.execute("COMMIT")

        return fetched(self._pool, ask)

    def _params_of_windows(
        self, stretch: Stretch, windows: Windows, topics: Sequence[str], limit: int
    ) -> dict[str, object]:
        low, high = stretch.low.at, stretch.high.at
        inside = [
            (max(first, low), min(last, high))
            for first, last in windows
            if first <= high and last >= low
        ]
        return self._params(stretch, limit) | {
            "topics": list(topics),
            "firsts": [first for first, _ in inside],
            "lasts": [last for _, last in inside],
        }

    def _params(self, stretch: Stretch, limit: int) -> dict[str, object]:
        low, high = stretch.low, stretch.high
        partitions = [log_partition(stream) for stream in stretch.streams]
        return {
            "partitions": partitions,
            "streams": list(stretch.streams),
            "lows": [_position_at(low, partition) for partition in partitions],
            "highs": [_position_at(high, partition) for partition in partitions],
            "low_at": low.at,
            "low_partition": low.log_partition,
            "low_position": low.position,
            "high_at": high.at,
            "high_partition": high.log_partition,
            "high_position": high.position,
            "limit": limit,
        } | self._bounds_params
