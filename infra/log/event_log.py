"""The event log: partitions with a head each, gapless positions, a hash chain by partition.

Positions become visible in order within a partition, so a reader never skips an event. There is no
order over all partitions. The stored format and the chain are specified in docs/log-format.md;
`infra.log.appending` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.events.recorded import RecordedEvent, SealedEvent
from domain.identity import LOG_PARTITIONS, SubjectId
from infra.log.appending import LOCK_HEADS, Appender, RowSource
from infra.log.fetch import COLUMNS, fetched
from infra.postgres.wakeups import Wakeups
from projections.kernel import pg_arrays
from projections.kernel.pg_arrays import Column
from projections.kernel.pipeline import pipeline

MESSAGE_KEY_BYTES = 16

# Looked up one by one: given two arrays to compare with, the server would try each partition with
# each key.
SELECT_KNOWN_MESSAGES = """
SELECT w.key FROM unnest(%(partitions)b::smallint[], %(keys)b::bytea[]) AS w(p, key)
CROSS JOIN LATERAL (
    SELECT FROM log.message_ids m
    WHERE m.log_partition = w.p AND m.message_key = w.key LIMIT 1) m"""

DELETE_MESSAGES = """
DELETE FROM log.message_ids
WHERE log_partition = ANY(%(partitions)b) AND recorded_at < %(before)b"""

SELECT_STREAMS = f"""
SELECT {COLUMNS} FROM log.events e
JOIN unnest(%(partitions)b::smallint[], %(streams)b::uuid[], %(after)b::bigint[])
     AS w(p, s, after)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version > w.after
ORDER BY e.stream, e.version"""

SELECT_FIRST_EVENTS = f"""
SELECT {COLUMNS} FROM log.events e
JOIN unnest(%(partitions)b::smallint[], %(streams)b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version = 1"""

SELECT_EXISTING = """
SELECT w.s FROM unnest(%(partitions)b::smallint[], %(streams)b::uuid[]) AS w(p, s)
WHERE EXISTS (SELECT FROM log.events e WHERE e.log_partition = w.p AND e.stream = w.s)"""

SELECT_BEGUN = """
SELECT stream FROM log.events e
JOIN unnest(%(partitions)b::smallint[], %(streams)b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version = 1"""

SELECT_FIRST_POSITIONS = """
SELECT DISTINCT ON (e.stream) e.stream, e.log_partition, e.position FROM log.events e
JOIN unnest(%(partitions)b::smallint[], %(streams)b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.stream = w.s
WHERE e.topic = %(topic)b ORDER BY e.stream, e.position"""

SELECT_ERASED_STREAMS = """
SELECT DISTINCT stream FROM log.events WHERE topic IN ('user.erased', 'account.erased')"""

SELECT_AT = f"""
SELECT {COLUMNS} FROM log.events e
JOIN unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS w(p, at)
  ON e.log_partition = w.p AND e.position = w.at
ORDER BY e.log_partition, e.position"""

SELECT_HASHES = """
SELECT e.log_partition, e.position, e.hash FROM log.events e
JOIN unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS w(p, position)
  ON e.log_partition = w.p AND e.position = w.position"""

SELECT_AFTER = f"""
SELECT {COLUMNS}
FROM unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS w(p, after)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e WHERE e.log_partition = w.p AND e.position > w.after
    ORDER BY e.position LIMIT %(limit)b) e"""

HEADS = "SELECT log_partition, head FROM log.heads WHERE log_partition = ANY(%b)"


class EventLog:
    """The log in one database. Safe for use from many threads and many processes.

    Args:
        wakeups: signalled by each append; None: nothing is.
    """

    def __init__(self, pool: ConnectionPool, wakeups: Wakeups | None = None) -> None:
        self._pool = pool
        self._appender = Appender(pool, wakeups)

    def append(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes] = ()
    ) -> list[Position]:
        """Appends rows and stores message ids, all or none, durably before it returns.

        Args:
            rows: those of a stream in ascending version.
            message_keys: keyed digests, `MESSAGE_KEY_BYTES` each.

        Returns:
            The position of each row, in the order given.

        Raises:
            VersionConflict: another writer has stored one of these versions.
            BeyondHead: rows stand past the head of a partition.
            DuplicateMessage: one of the message ids is stored already.
            psycopg.OperationalError: the database went away. Only sending the same message ids
                again tells whether the rows were stored.
        """
        return self._appender.append(rows, message_keys)

    @contextmanager
    def held(self) -> Iterator[dict[int, int]]:
        """Locks all heads while in use: nothing is appended.

        Yields:
            The newest position of each partition.
        """
        params = {"partitions": pg_arrays.smallints(range(LOG_PARTITIONS))}
        with self._pool.connection() as conn, conn.transaction():
            locked = conn.execute(LOCK_HEADS, params, binary=True)
            yield {partition: head for partition, head, _ in locked}

    def known_messages(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns the message keys that are stored."""
        with self.looking_up(keys) as known:
            pass
        return known

    @contextmanager
    def looking_up(self, keys: Sequence[bytes]) -> Iterator[set[bytes]]:
        """As `known_messages`, while the caller does something else.

        Yields:
            The set, which is filled when the block ends.
        """
        known: set[bytes] = set()
        if not keys:
            yield known
            return
        params = {
            "partitions": pg_arrays.smallints([key[0] for key in keys]),
            "keys": pg_arrays.byteas(keys),
        }
        with self._pool.connection() as conn:
            with pipeline(conn):
                rows = conn.execute(SELECT_KNOWN_MESSAGES, params, binary=True)
                yield known
            known.update(key for (key,) in rows)

    def forget_messages(self, before: datetime) -> int:
        """Deletes message ids stored before an instant; returns their number."""
        params = {"partitions": list(range(LOG_PARTITIONS)), "before": before}
        with self._pool.connection() as conn:
            return conn.execute(DELETE_MESSAGES, params).rowcount

    def read_streams(self, after: Mapping[SubjectId, int]) -> dict[SubjectId, list[RecordedEvent]]:
        """The aggregate events of streams, in one query.

        Args:
            after: the version of each stream that its events come after.
        """
        streams = list(after)
        histories: dict[SubjectId, list[RecordedEvent]] = {stream: [] for stream in streams}
        if streams:
            params = {**_placed(streams), "after": pg_arrays.bigints(list(after.values()))}
            for row in self._rows(SELECT_STREAMS, params):
                histories[row.stream].append(row)
        return histories

    def read_first(self, streams: Sequence[SubjectId]) -> list[RecordedEvent]:
        """The first aggregate event of each stream that has it."""
        return self._rows(SELECT_FIRST_EVENTS, _placed(streams)) if streams else []

    def existing(self, streams: Sequence[SubjectId]) -> list[SubjectId]:
        """Returns the streams that have any event."""
        if not streams:
            return []
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_EXISTING, _placed(streams), binary=True)
            return [SubjectId(stream) for (stream,) in rows]

    def begun(self, streams: Iterable[SubjectId]) -> set[SubjectId]:
        """Returns the streams that have their first aggregate event."""
        wanted = list(streams)
        if not wanted:
            return set()
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_BEGUN, _placed(wanted), binary=True)
            return {SubjectId(stream) for (stream,) in rows}

    def erased_streams(self) -> list[SubjectId]:
        """The subjects with an `erased` event. Reads the whole log."""
        with self._pool.connection() as conn:
            return [SubjectId(stream) for (stream,) in conn.execute(SELECT_ERASED_STREAMS)]

    def hashes_at(self, positions: Sequence[Position]) -> dict[Position, bytes]:
        """The hashes of the rows at some positions; those without a row are absent."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_HASHES, _numbers(positions), binary=True)
            return {Position(partition, number): hash for partition, number, hash in rows}

    def first_position_of(
        self, streams: Sequence[SubjectId], topic: str
    ) -> dict[SubjectId, Position]:
        """The position of the first event of a topic in each stream that has one. Reads the whole
        streams."""
        if not streams:
            return {}
        with self._pool.connection() as conn:
            params = {**_placed(streams), "topic": topic}
            rows = conn.execute(SELECT_FIRST_POSITIONS, params, binary=True)
            return {SubjectId(stream): Position(part, number) for stream, part, number in rows}

    def heads(self, partitions: Sequence[int]) -> dict[int, int]:
        """The newest position of each partition; 0: it has no events."""
        with self._pool.connection() as conn:
            return dict(
                conn.execute(HEADS, (pg_arrays.smallints(partitions),), binary=True).fetchall()
            )

    def read_after(self, after: Mapping[int, int], limit: int) -> list[RecordedEvent]:
        """The events after a position in each of some partitions, in order within each.

        Args:
            after: the positions, by partition.
            limit: most events of a partition.
        """
        params = {
            "partitions": pg_arrays.smallints(list(after)),
            "positions": pg_arrays.bigints(list(after.values())),
            "limit": limit,
        }
        return self._rows(SELECT_AFTER, params)

    def read_at(self, positions: Sequence[Position]) -> list[RecordedEvent]:
        """The events at some positions, in order within each partition."""
        return self._rows(SELECT_AT, _numbers(positions))

    def _rows(self, query: str, params: Mapping[str, object]) -> list[RecordedEvent]:
        return fetched(self._pool, lambda _, cursor: cursor.execute(query, params))


def _placed(streams: Sequence[SubjectId]) -> dict[str, Column]:
    partitions, ids = pg_arrays.placed(streams)
    return {"partitions": partitions, "streams": ids}


def _numbers(positions: Sequence[Position]) -> dict[str, object]:
    return {
        "partitions": pg_arrays.smallints([position.log_partition for position in positions]),
        "positions": pg_arrays.bigints([position.position for position in positions]),
    }
