"""Reading the log whole, by subject: all that was ever recorded of some, in the log's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg_pool import ConnectionPool

from domain.identity import SubjectId, log_partition
from infra.log import COLUMNS, recorded_row
from infra.rows import RecordedRow

ROWS_A_FETCH = 5_000

OF_STREAMS = """
SELECT {columns} FROM unnest(%(partitions)s::smallint[], %(streams)s::uuid[]) AS w(p, s)
JOIN log.events e ON e.log_partition = w.p AND e.stream = w.s
WHERE e.topic = ANY(%(topics)s)
ORDER BY e.log_partition, e.position"""

OF_ACCOUNTS = """
SELECT {columns} FROM log.events e
WHERE e.account = ANY(%(accounts)s) AND e.topic = ANY(%(topics)s)
ORDER BY e.log_partition, e.position"""


class Pasts:
    """One for each process; safe for use from many threads."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def of_streams(
        self, streams: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[list[RecordedRow]]:
        """The events of some streams, in pieces, those of each stream in their order."""
        partitions = [log_partition(one) for one in streams]
        asked = {"partitions": partitions, "streams": list(streams), "topics": list(topics)}
        return self._pieces(OF_STREAMS, asked)

    def of_accounts(
        self, accounts: Sequence[SubjectId], topics: Sequence[str]
    ) -> Iterator[list[RecordedRow]]:
        """Of users' events, those that concern some accounts."""
        return self._pieces(OF_ACCOUNTS, {"accounts": list(accounts), "topics": list(topics)})

    def _pieces(self, query: str, asked: dict[str, object]) -> Iterator[list[RecordedRow]]:
        """From a cursor on the server: what it finds need not fit in memory."""
        with (
            self._pool.connection() as conn,
            conn.transaction(),
            conn.cursor("past", row_factory=recorded_row, withhold=False) as cursor,
        ):
            cursor.execute(query.format(columns=COLUMNS), asked, binary=True)
            while piece := cursor.fetchmany(ROWS_A_FETCH):
                yield piece
