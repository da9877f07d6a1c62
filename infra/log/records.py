"""Reads the log by subject: all events of some topics, or the newest of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, log_partition
from infra.log.fetch import COLUMNS, fetched, recorded_row, take_any_instant
from infra.log.log_as_of import Bounds, is_within

ROWS_A_FETCH = 5_000
ROWS_A_PAGE = 100

SELECT_OF_STREAMS = f"""
SELECT {COLUMNS} FROM unnest(%(partitions)s::smallint[], %(streams)s::uuid[]) AS w(p, s)
JOIN log.events e ON e.log_partition = w.p AND e.stream = w.s
WHERE e.topic = ANY(%(topics)s)
ORDER BY e.log_partition, e.position"""

SELECT_OF_ACCOUNTS = f"""
SELECT {COLUMNS} FROM log.events e
WHERE e.account = ANY(%(accounts)s) AND e.topic = ANY(%(topics)s)
ORDER BY e.log_partition, e.position"""


SELECT_AT = f"""
SELECT {COLUMNS} FROM log.events e
WHERE e.log_partition = %(partition)s AND e.position = %(position)s"""

# PostgreSQL reads the index by topic in order, from the newest event on.
SELECT_NEWEST = f"""
SELECT {COLUMNS} FROM log.events e
WHERE e.stream = %(stream)s AND e.topic = %(topic)s AND e.log_partition = %(partition)s
  AND e.topic NOT IN ('user.event_tracked', 'account.event_tracked')
  AND (e.occurred_at, e.position) < (%(at)s, %(position)s)
ORDER BY e.occurred_at DESC, e.position DESC LIMIT %(limit)s"""

_END = datetime(9999, 12, 31, tzinfo=UTC)


class Records:
    """Safe for use from many threads.

    Args:
        bounds: of what is read; None: the whole log.
    """

    def __init__(self, pool: ConnectionPool, bounds: Bounds | None = None) -> None:
        self._pool = pool
        self._bounds = bounds

    def until(self, bounds: Bounds) -> Records:
        """The same, up to some bounds of the log."""
        return Records(self._pool, bounds)

    def of_streams(
        self, streams: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[list[RecordedEvent]]:
        """The events of some streams, in pieces, those of each stream in their order."""
        partitions = [log_partition(stream) for stream in streams]
        params = {"partitions": partitions, "streams": list(streams), "topics": list(topics)}
        return self._pieces(SELECT_OF_STREAMS, params)

    def of_accounts(
        self, accounts: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[list[RecordedEvent]]:
        """The events of users that concern some accounts, in pieces."""
        return self._pieces(
            SELECT_OF_ACCOUNTS, {"accounts": list(accounts), "topics": list(topics)}
        )

    def at(self, position: Position) -> RecordedEvent | None:
        """The event at a position; None: the position has none."""
        params = {"partition": position.log_partition, "position": position.position}
        rows = self._within(self._rows(SELECT_AT, params))
        return rows[0] if rows else None

    def newest(self, stream: SubjectId, topic: str) -> Iterator[list[RecordedEvent]]:
        """The events of a topic in a stream, in pieces, the newest first. Tracked events are not
        supported: no index has them by topic."""
        at, position = _END, 0
        while True:
            params = {
                "stream": stream,
                "topic": topic,
                "partition": log_partition(stream),
                "at": at,
                "position": position,
                "limit": ROWS_A_PAGE,
            }
            rows = self._rows(SELECT_NEWEST, params)
            yield self._within(rows)
            if len(rows) < ROWS_A_PAGE:
                return
            at, position = rows[-1].occurred_at, rows[-1].position

    def _rows(self, query: str, params: Mapping[str, object]) -> list[RecordedEvent]:
        return fetched(self._pool, lambda _, cursor: cursor.execute(query, params))

    def _pieces(self, query: str, params: dict[str, object]) -> Iterator[list[RecordedEvent]]:
        """From a cursor on the server: the rows need not fit in memory."""
        with (
            self._pool.connection() as conn,
            conn.transaction(),
            conn.cursor("past", row_factory=recorded_row, withhold=False) as cursor,
        ):
            take_any_instant(cursor)
            cursor.execute(query, params, binary=True)
            while piece := cursor.fetchmany(ROWS_A_FETCH):
                yield self._within(piece)

    def _within(self, rows: list[RecordedEvent]) -> list[RecordedEvent]:
        bounds = self._bounds
        return rows if bounds is None else [row for row in rows if is_within(bounds, row)]
