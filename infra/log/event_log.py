"""The event log: partitions with a head each, gapless positions, a hash chain by partition.

An append locks the heads of the partitions it touches in ascending order, takes the next
positions, chains and copies the rows in, and moves the heads on. So positions are gapless and
become visible in order, and a reader never skips an event. There is no order over all partitions.

Appends that wait for one another are written together, in one transaction; each caller hears of
its own durable result. The stored format and the chain are specified in docs/log-format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, islice
from typing import Protocol

import psycopg
from psycopg import errors as pg
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import BeyondHead, DuplicateMessage, VersionConflict
from domain.events.recorded import RecordedEvent, SealedEvent
from domain.identity import LOG_PARTITIONS, SubjectId, log_partition
from infra.log.fetch import COLUMNS, fetched
from infra.log.group_commit import GroupCommit
from infra.log.record_format import envelope_of, instant, stored
from infra.postgres.copy_stream import PieceByPiece
from infra.postgres.wakeups import NOTIFY, Wakeups
from projections.kernel import pg_arrays
from projections.kernel.pipeline import pipeline

MESSAGE_KEY_BYTES = 16
ROWS_A_TRANSACTION = 10_000
"""At most, where several appends are written together."""
_ROWS_A_PIECE = 200
_FIELD_COUNT = struct.pack(">h", 13)
_HASH_LENGTH = struct.pack(">i", 32)

COPY_EVENTS = """
COPY log.events (log_partition, position, stream, version, event_id, account, topic,
                 schema_version, occurred_at, recorded_at, state, account_state, hash)
FROM STDIN (FORMAT binary)"""

LOCK_HEADS = """
SELECT log_partition, head, hash FROM log.heads
WHERE log_partition = ANY(%b) ORDER BY log_partition FOR UPDATE"""

MOVE_HEADS = """
UPDATE log.heads h SET head = v.head, hash = v.hash
FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[]) AS v(log_partition, head, hash)
WHERE h.log_partition = v.log_partition AND h.log_partition = ANY(%b)"""

REMEMBER_MESSAGES = """
INSERT INTO log.message_ids (log_partition, message_key, recorded_at)
SELECT v.log_partition, v.message_key, %b
FROM unnest(%b::smallint[], %b::bytea[]) AS v(log_partition, message_key)
ON CONFLICT DO NOTHING"""

# Looked up one by one, whatever is known of the size of the table: a server that is told of two
# arrays instead tries each partition with each key.
KNOWN_MESSAGES = """
SELECT w.key FROM unnest(%b::smallint[], %b::bytea[]) AS w(p, key)
CROSS JOIN LATERAL (
    SELECT FROM log.message_ids m
    WHERE m.log_partition = w.p AND m.message_key = w.key LIMIT 1) m"""

FORGET_MESSAGES = """
DELETE FROM log.message_ids WHERE log_partition = ANY(%b) AND recorded_at < %b"""

READ_STREAMS = f"""
SELECT {COLUMNS} FROM log.events e
JOIN unnest(%b::smallint[], %b::uuid[], %b::bigint[]) AS w(p, s, after)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version > w.after
ORDER BY e.stream, e.version"""

READ_FIRST = f"""
SELECT {COLUMNS} FROM log.events e
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version = 1"""

STREAMS_THERE = """
SELECT w.s FROM unnest(%b::smallint[], %b::uuid[]) AS w(p, s)
WHERE EXISTS (SELECT FROM log.events e WHERE e.log_partition = w.p AND e.stream = w.s)"""

BEGUN_STREAMS = """
SELECT stream FROM log.events e
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version = 1"""

SELECT_FIRST_POSITIONS = """
SELECT DISTINCT ON (e.stream) e.stream, e.log_partition, e.position FROM log.events e
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON e.log_partition = w.p AND e.stream = w.s
WHERE e.topic = %b ORDER BY e.stream, e.position"""

ERASED_STREAMS = """
SELECT DISTINCT stream FROM log.events WHERE topic IN ('user.erased', 'account.erased')"""

READ_AT = f"""
SELECT {COLUMNS} FROM log.events e
JOIN unnest(%b::smallint[], %b::bigint[]) AS w(p, at)
  ON e.log_partition = w.p AND e.position = w.at
ORDER BY e.log_partition, e.position"""

HASHES_AT = """
SELECT e.log_partition, e.position, e.hash FROM log.events e
JOIN unnest(%b::smallint[], %b::bigint[]) AS w(p, position)
  ON e.log_partition = w.p AND e.position = w.position"""

READ_AFTER = f"""
SELECT {COLUMNS} FROM unnest(%b::smallint[], %b::bigint[]) AS w(p, after)
CROSS JOIN LATERAL (
    SELECT * FROM log.events e WHERE e.log_partition = w.p AND e.position > w.after
    ORDER BY e.position LIMIT %b) e"""

# The last row of each partition, by its key.
ROWS_PAST_HEADS = """
SELECT h.log_partition, e.position, h.head FROM log.heads h
CROSS JOIN LATERAL (
    SELECT position FROM log.events e WHERE e.log_partition = h.log_partition
    ORDER BY position DESC LIMIT 1) e
WHERE h.log_partition = ANY(%s) AND e.position > h.head ORDER BY h.log_partition"""

HEADS = "SELECT log_partition, head FROM log.heads WHERE log_partition = ANY(%b)"

Encoded = tuple[bytes, bytes, bytes | None]
"""The envelope and the two sealed parts of a row, as they are stored."""


class RowSource(Protocol):
    """Rows that are sealed while they are written, so that this overlaps the server's work."""

    @property
    def streams(self) -> Sequence[SubjectId]: ...
    def encoded(self, order: Sequence[int]) -> Iterator[Encoded]:
        """Those with these indexes, in this order, each sealed when it is asked for."""


class _Append:
    """What one caller wants stored."""

    def __init__(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes]
    ) -> None:
        streams = [row.stream for row in rows] if isinstance(rows, Sequence) else rows.streams
        self.partitions = [log_partition(stream) for stream in streams]
        self.order = sorted(range(len(streams)), key=self.partitions.__getitem__)
        """In which the rows are written: neighbours in the indexes follow one another, and those
        of a stream stay in their order."""
        self.message_keys = message_keys
        self._rows = rows

    def encoded(self) -> Iterator[Encoded]:
        source = self._rows
        if not isinstance(source, Sequence):
            return source.encoded(self.order)
        rows = map(source.__getitem__, self.order)
        return ((envelope_of(row), row.state, row.account_state) for row in rows)


Heads = dict[int, tuple[int, bytes]]
"""Position and hash of the newest row, by partition."""


class EventLog:
    """The log in one database. Safe for use from many threads and many processes.

    Args:
        wakeups: whom an append wakes; None: nobody.
    """

    def __init__(self, pool: ConnectionPool, wakeups: Wakeups | None = None) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._write_together: GroupCommit[_Append, list[Position]] = GroupCommit(
            self._write, size=lambda one: len(one.order), limit=ROWS_A_TRANSACTION
        )

    def append(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes] = ()
    ) -> list[Position]:
        """Stores rows and remembers message ids, all or nothing, durably before it returns.

        Args:
            rows: of one stream in ascending version.
            message_keys: keyed digests, `MESSAGE_KEY_BYTES` each.

        Returns:
            The position of each row, in the order given.

        Raises:
            VersionConflict: another writer has stored one of these versions.
            PastHead: rows stand past the head of a partition.
            DuplicateMessage: one of the message ids is already remembered.
            psycopg.OperationalError: the database went away; whether the rows were stored is
                known only by sending the same message ids again.
        """
        return self._write_together(_Append(rows, message_keys))

    def _write(self, group: list[_Append]) -> list[list[Position]]:
        recorded_at = datetime.now(UTC)
        rows = chain.from_iterable(one.encoded() for one in group)
        with self._pool.connection() as conn:
            try:
                heads, first = self._begin(conn, group, recorded_at, rows)
                rows = chain(first, rows)
                written, moves = self._copy(conn, group, rows, heads, instant(recorded_at))
                with pipeline(conn):
                    conn.execute(MOVE_HEADS, moves)
                    if self._wakeups is not None and self._wakeups.owes_notice():
                        conn.execute(NOTIFY)
                    conn.execute("COMMIT")
            except pg.UniqueViolation:
                conn.rollback()
                touched = {partition for one in group for partition in one.partitions}
                past = [row[0] for row in conn.execute(ROWS_PAST_HEADS, (sorted(touched),))]
                if past:
                    raise BeyondHead(past) from None
                raise VersionConflict("another writer appended to the stream first") from None
            except BaseException:
                conn.rollback()
                raise
        if self._wakeups is not None:
            self._wakeups.signal()
        return written

    @staticmethod
    def _begin(
        conn: psycopg.Connection,
        group: list[_Append],
        recorded_at: datetime,
        rows: Iterator[Encoded],
    ) -> tuple[Heads, list[Encoded]]:
        """Begins a transaction, remembers the message ids and locks the heads of the partitions
        that are touched, in one round trip; meanwhile takes the first of the rows.

        Raises:
            DuplicateMessage: one of the message ids is already remembered.
        """
        touched = sorted({partition for one in group for partition in one.partitions})
        # Sorted, so that two writers that meet the same ids wait for one another in one order.
        keys = sorted(key for one in group for key in one.message_keys)
        with pipeline(conn):
            conn.execute("BEGIN")
            if keys:
                remembered = conn.execute(
                    REMEMBER_MESSAGES,
                    (
                        recorded_at,
                        pg_arrays.smallints([key[0] for key in keys]),
                        pg_arrays.byteas(keys),
                    ),
                )
            locked = conn.execute(LOCK_HEADS, (pg_arrays.smallints(touched),), binary=True)
            first = list(islice(rows, _ROWS_A_PIECE))
        heads = {partition: (head, link) for partition, head, link in locked}
        if keys and remembered.rowcount != len(keys):
            raise DuplicateMessage("a message id of the batch is already stored")
        return heads, first

    @staticmethod
    def _copy(
        conn: psycopg.Connection,
        group: list[_Append],
        rows: Iterator[Encoded],
        heads: Heads,
        recorded: bytes,
    ) -> tuple[list[list[Position]], tuple[pg_arrays.Column, ...]]:
        """Writes the rows of all, each chained to the one before it.

        Returns:
            The positions of each one's rows, and what moves the heads on to them.
        """
        places: list[list[int]] = []
        buffer: list[bytes] = []
        with conn.cursor() as cursor, PieceByPiece(cursor, COPY_EVENTS) as copy:
            for one in group:
                positions: list[int] = []
                for n in one.order:
                    envelope, state, kept = next(rows)
                    partition = one.partitions[n]
                    head, link = heads[partition]
                    position = head + 1
                    row = stored(partition, position, envelope, recorded, state, kept)
                    link = sha256(link + row).digest()
                    heads[partition] = (position, link)
                    buffer += (_FIELD_COUNT, row, _HASH_LENGTH, link)
                    positions.append(position)
                    if len(buffer) >= 4 * _ROWS_A_PIECE:
                        copy.write(b"".join(buffer))
                        buffer.clear()
                places.append(positions)
            if buffer:
                copy.write(b"".join(buffer))
            # Made while the server writes the last piece.
            partitions = pg_arrays.smallints(list(heads))
            moved = pg_arrays.bigints([position for position, _ in heads.values()])
            links = pg_arrays.byteas([link for _, link in heads.values()])
            written = [_written(one, at) for one, at in zip(group, places, strict=True)]
        return written, (partitions, moved, links, partitions)

    @contextmanager
    def held(self) -> Iterator[dict[int, int]]:
        """The newest position of each partition, past which nothing is appended while in use."""
        with self._pool.connection() as conn, conn.transaction():
            locked = conn.execute(LOCK_HEADS, (list(range(LOG_PARTITIONS)),), binary=True)
            yield {partition: head for partition, head, _ in locked}

    def known_messages(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the message keys that are remembered."""
        with self.looking_up(keys) as known:
            pass
        return known

    @contextmanager
    def looking_up(self, keys: Sequence[bytes]) -> Iterator[set[bytes]]:
        """As `known_messages`, while the caller does something else: what is given is filled when
        the block ends."""
        known: set[bytes] = set()
        if not keys:
            yield known
            return
        with self._pool.connection() as conn:
            with pipeline(conn):
                placed = (pg_arrays.smallints([key[0] for key in keys]), pg_arrays.byteas(keys))
                rows = conn.execute(KNOWN_MESSAGES, placed, binary=True)
                yield known
            known.update(key for (key,) in rows)

    def forget_messages(self, before: datetime) -> int:
        """Drops message ids remembered before an instant; says how many."""
        with self._pool.connection() as conn:
            return conn.execute(FORGET_MESSAGES, (list(range(256)), before)).rowcount

    def read_streams(self, after: Mapping[SubjectId, int]) -> dict[SubjectId, list[RecordedEvent]]:
        """The aggregate events of many streams, each past a version, in one query."""
        streams = list(after)
        found: dict[SubjectId, list[RecordedEvent]] = {stream: [] for stream in streams}
        if streams:
            arguments = (*pg_arrays.placed(streams), pg_arrays.bigints(list(after.values())))
            for row in self._rows(READ_STREAMS, arguments):
                found[row.stream].append(row)
        return found

    def read_first(self, streams: Sequence[SubjectId]) -> list[RecordedEvent]:
        """The first aggregate event of each stream that holds it."""
        return list(self._rows(READ_FIRST, pg_arrays.placed(streams))) if streams else []

    def existing(self, streams: Sequence[SubjectId]) -> list[SubjectId]:
        """Those of the streams that hold any event."""
        if not streams:
            return []
        with self._pool.connection() as conn:
            rows = conn.execute(STREAMS_THERE, pg_arrays.placed(streams), binary=True)
            return [SubjectId(row[0]) for row in rows]

    def begun(self, streams: Iterable[SubjectId]) -> set[SubjectId]:
        """Those of the streams that hold their first event."""
        asked = list(streams)
        if not asked:
            return set()
        with self._pool.connection() as conn:
            rows = conn.execute(BEGUN_STREAMS, pg_arrays.placed(asked), binary=True)
            return {SubjectId(row[0]) for row in rows}

    def erased_streams(self) -> list[SubjectId]:
        """The subjects that the log calls erased. Reads all of it."""
        with self._pool.connection() as conn:
            return [SubjectId(row[0]) for row in conn.execute(ERASED_STREAMS)]

    def hashes_at(self, places: Sequence[Position]) -> dict[Position, bytes]:
        """The hashes of the rows at some places; those that are not there are absent."""
        asked = ([one.log_partition for one in places], [one.position for one in places])
        with self._pool.connection() as conn:
            rows = conn.execute(HASHES_AT, asked, binary=True)
            return {Position(partition, at): hash for partition, at, hash in rows}

    def first_position_of(
        self, streams: Sequence[SubjectId], topic: str
    ) -> dict[SubjectId, Position]:
        """Where streams first hold an event with a topic. Reads all of the streams."""
        if not streams:
            return {}
        with self._pool.connection() as conn:
            rows = conn.execute(
                SELECT_FIRST_POSITIONS, (*pg_arrays.placed(streams), topic), binary=True
            )
            return {SubjectId(stream): Position(part, at) for stream, part, at in rows}

    def heads(self, partitions: Sequence[int]) -> dict[int, int]:
        """The newest position of each partition."""
        with self._pool.connection() as conn:
            return dict(conn.execute(HEADS, (list(partitions),), binary=True).fetchall())

    def read_after(self, after: Mapping[int, int], limit: int) -> list[RecordedEvent]:
        """Events past a position in each of some partitions, at most `limit` a partition, in
        order within each."""
        return self._rows(READ_AFTER, (list(after), list(after.values()), limit))

    def read_at(self, places: Sequence[Position]) -> list[RecordedEvent]:
        """The events at some places, in order within each partition."""
        asked = ([one.log_partition for one in places], [one.position for one in places])
        return self._rows(READ_AT, asked)

    def _rows(
        self, query: str, arguments: Sequence[object] | Mapping[str, object]
    ) -> list[RecordedEvent]:
        return fetched(self._pool, lambda _, cursor: cursor.execute(query, arguments))


def _written(append: _Append, positions: Sequence[int]) -> list[Position]:
    """Where rows were written, in the order given."""
    at = dict(zip(append.order, positions, strict=True))
    return [Position(partition, at[n]) for n, partition in enumerate(append.partitions)]
