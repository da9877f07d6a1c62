"""Reading the log by subject: all that was ever recorded of some, or the newest of a kind."""

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

OF_STREAMS = """
SELECT {columns} FROM unnest(%(partitions)s::smallint[], %(streams)s::uuid[]) AS w(p, s)
JOIN log.events e ON e.log_partition = w.p AND e.stream = w.s
WHERE e.topic = ANY(%(topics)s)
ORDER BY e.log_partition, e.position"""

OF_ACCOUNTS = """
SELECT {columns} FROM log.events e
WHERE e.account = ANY(%(accounts)s) AND e.topic = ANY(%(topics)s)
ORDER BY e.log_partition, e.position"""


AT = """
SELECT {columns} FROM log.events e
WHERE e.log_partition = %(partition)s AND e.position = %(position)s"""

# Read in order from the index by topic, from the newest on.
NEWEST = """
SELECT {columns} FROM log.events e
WHERE e.stream = %(stream)s AND e.topic = %(topic)s AND e.log_partition = %(partition)s
  AND e.topic NOT IN ('user.event_tracked', 'account.event_tracked')
  AND (e.occurred_at, e.position) < (%(at)s, %(position)s)
ORDER BY e.occurred_at DESC, e.position DESC LIMIT %(limit)s"""

_END = datetime(9999, 12, 31, tzinfo=UTC)


class Records:
    """Safe for use from many threads.

    Args:
        bounds: what of the log is read; None: all of it.
    """

    def __init__(self, pool: ConnectionPool, bounds: Bounds | None = None) -> None:
        self._pool = pool
        self._bounds = bounds

    def until(self, bounds: Bounds) -> Records:
        """The same of the log up to some bounds."""
        return Records(self._pool, bounds)

    def of_streams(
        self, streams: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[list[RecordedEvent]]:
        """The events of some streams, in pieces, those of each stream in their order."""
        partitions = [log_partition(one) for one in streams]
        asked = {"partitions": partitions, "streams": list(streams), "topics": list(topics)}
        return self._pieces(OF_STREAMS, asked)

    def of_accounts(
        self, accounts: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[list[RecordedEvent]]:
        """Of users' events, those that concern some accounts."""
        return self._pieces(OF_ACCOUNTS, {"accounts": list(accounts), "topics": list(topics)})

    def at(self, place: Position) -> RecordedEvent | None:
        """The event at a position, if there is one."""
        asked = {"partition": place.log_partition, "position": place.position}
        rows = self._within(self._rows(AT, asked))
        return rows[0] if rows else None

    def newest(self, stream: SubjectId, topic: str) -> Iterator[list[RecordedEvent]]:
        """The events of a topic in a stream, in pieces, the newest first. Not of tracked events,
        which no index has by topic."""
        at, position = _END, 0
        while True:
            asked = {
                "stream": stream,
                "topic": topic,
                "partition": log_partition(stream),
                "at": at,
                "position": position,
                "limit": ROWS_A_PAGE,
            }
            rows = self._rows(NEWEST, asked)
            yield self._within(rows)
            if len(rows) < ROWS_A_PAGE:
                return
            at, position = rows[-1].occurred_at, rows[-1].position

    def _rows(self, query: str, asked: Mapping[str, object]) -> list[RecordedEvent]:
        text = query.format(columns=COLUMNS)
        return fetched(self._pool, lambda _, cursor: cursor.execute(text, asked))

    def _pieces(self, query: str, asked: dict[str, object]) -> Iterator[list[RecordedEvent]]:
        """From a cursor on the server: what it finds need not fit in memory."""
        with (
            self._pool.connection() as conn,
            conn.transaction(),
            conn.cursor("past", row_factory=recorded_row, withhold=False) as cursor,
        ):
            take_any_instant(cursor)
            cursor.execute(query.format(columns=COLUMNS), asked, binary=True)
            while piece := cursor.fetchmany(ROWS_A_FETCH):
                yield self._within(piece)

    def _within(self, rows: list[RecordedEvent]) -> list[RecordedEvent]:
        bounds = self._bounds
        return rows if bounds is None else [row for row in rows if is_within(bounds, row)]
