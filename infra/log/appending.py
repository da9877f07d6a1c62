"""Appends rows to the log: takes positions, chains the rows, copies them in, moves the heads.

An append locks the heads of the partitions that it touches, in ascending order, so that positions
are gapless and become visible in order. Callers that arrive at the same time are written in one
transaction; each returns once its own rows are durable.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, islice
from typing import Protocol

import psycopg
from psycopg import errors as pg
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import BeyondHead, DuplicateMessage, VersionConflict
from domain.events.recorded import SealedEvent
from domain.identity import SubjectId, log_partition
from infra.log.group_commit import GroupCommit
from infra.log.record_format import envelope_of, instant, stored
from infra.postgres.copy_stream import PieceByPiece
from infra.postgres.wakeups import NOTIFY, Wakeups
from projections.kernel import pg_arrays
from projections.kernel.pipeline import pipeline

ROWS_A_TRANSACTION = 10_000
"""Most rows of one transaction, where several appends are written together."""

ROWS_A_PIECE = 200
_FIELD_COUNT = struct.pack(">h", 13)
_HASH_LENGTH = struct.pack(">i", 32)

COPY_EVENTS = """
COPY log.events (log_partition, position, stream, version, event_id, account, topic,
                 schema_version, occurred_at, recorded_at, state, account_state, hash)
FROM STDIN (FORMAT binary)"""

LOCK_HEADS = """
SELECT log_partition, head, hash FROM log.heads
WHERE log_partition = ANY(%(partitions)b) ORDER BY log_partition FOR UPDATE"""

MOVE_HEADS = """
UPDATE log.heads h SET head = v.head, hash = v.hash
FROM unnest(%(partitions)b::smallint[], %(heads)b::bigint[], %(hashes)b::bytea[])
     AS v(log_partition, head, hash)
WHERE h.log_partition = v.log_partition AND h.log_partition = ANY(%(partitions)b)"""

INSERT_MESSAGES = """
INSERT INTO log.message_ids (log_partition, message_key, recorded_at)
SELECT v.log_partition, v.message_key, %(recorded_at)b
FROM unnest(%(partitions)b::smallint[], %(keys)b::bytea[]) AS v(log_partition, message_key)
ON CONFLICT DO NOTHING"""

# The last row of each partition, by its key.
ROWS_PAST_HEADS = """
SELECT h.log_partition, e.position, h.head FROM log.heads h
CROSS JOIN LATERAL (
    SELECT position FROM log.events e WHERE e.log_partition = h.log_partition
    ORDER BY position DESC LIMIT 1) e
WHERE h.log_partition = ANY(%s) AND e.position > h.head ORDER BY h.log_partition"""

Encoded = tuple[bytes, bytes, bytes | None]
"""The envelope and the two sealed parts of a row, as they are stored."""

Heads = dict[int, tuple[int, bytes]]
"""Position and hash of the newest row, by partition."""


class RowSource(Protocol):
    """Rows that are sealed while they are written, so that this overlaps the server's work."""

    @property
    def streams(self) -> Sequence[SubjectId]: ...
    def encoded(self, order: Sequence[int]) -> Iterator[Encoded]:
        """The rows with these indexes, in this order, each sealed when it is asked for."""


class _Append:
    """The rows and message keys of one caller.

    Attributes:
        partitions: of each row.
        order: the order in which the rows are written: neighbours in the indexes follow one
            another, and those of a stream keep their order.
    """

    def __init__(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes]
    ) -> None:
        streams = [row.stream for row in rows] if isinstance(rows, Sequence) else rows.streams
        self.partitions = [log_partition(stream) for stream in streams]
        self.order = sorted(range(len(streams)), key=self.partitions.__getitem__)
        self.message_keys = message_keys
        self._rows = rows

    def encoded(self) -> Iterator[Encoded]:
        source = self._rows
        if not isinstance(source, Sequence):
            return source.encoded(self.order)
        rows = map(source.__getitem__, self.order)
        return ((envelope_of(row), row.state, row.account_state) for row in rows)

    def in_callers_order(self, positions: Sequence[int]) -> list[Position]:
        """The positions of the rows, from those in the order of writing."""
        by_row = dict(zip(self.order, positions, strict=True))
        return [Position(partition, by_row[n]) for n, partition in enumerate(self.partitions)]


class Appender:
    """Thread-safe; one instance per log."""

    def __init__(self, pool: ConnectionPool, wakeups: Wakeups | None) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._group_commit: GroupCommit[_Append, list[Position]] = GroupCommit(
            self._write, size=lambda append: len(append.order), limit=ROWS_A_TRANSACTION
        )

    def append(
        self, rows: Sequence[SealedEvent] | RowSource, message_keys: Sequence[bytes]
    ) -> list[Position]:
        """See `EventLog.append`."""
        return self._group_commit(_Append(rows, message_keys))

    def _write(self, group: list[_Append]) -> list[list[Position]]:
        recorded_at = datetime.now(UTC)
        rows = chain.from_iterable(append.encoded() for append in group)
        with self._pool.connection() as conn:
            try:
                heads, first = self._begin(conn, group, recorded_at, rows)
                rows = chain(first, rows)
                positions, moves = self._copy(conn, group, rows, heads, instant(recorded_at))
                with pipeline(conn):
                    conn.execute(MOVE_HEADS, moves)
                    if self._wakeups is not None and self._wakeups.owes_notice():
                        conn.execute(NOTIFY)
                    conn.execute("COMMIT")
            except pg.UniqueViolation:
                conn.rollback()
                touched = {partition for append in group for partition in append.partitions}
                stopped = [row[0] for row in conn.execute(ROWS_PAST_HEADS, (sorted(touched),))]
                if stopped:
                    raise BeyondHead(stopped) from None
                raise VersionConflict("another writer appended to the stream first") from None
            except BaseException:
                conn.rollback()
                raise
        if self._wakeups is not None:
            self._wakeups.signal()
        return positions

    @staticmethod
    def _begin(
        conn: psycopg.Connection,
        group: list[_Append],
        recorded_at: datetime,
        rows: Iterator[Encoded],
    ) -> tuple[Heads, list[Encoded]]:
        """Begins a transaction, stores the message ids and locks the heads of the partitions that
        are touched, in one round trip; seals the first rows meanwhile.

        Returns:
            The heads, and the first rows.

        Raises:
            DuplicateMessage: one of the message ids is stored already.
        """
        touched = sorted({partition for append in group for partition in append.partitions})
        # Sorted: two writers with the same ids wait for each other in one order.
        keys = sorted(key for append in group for key in append.message_keys)
        with pipeline(conn):
            conn.execute("BEGIN")
            if keys:
                inserted = conn.execute(
                    INSERT_MESSAGES,
                    {
                        "recorded_at": recorded_at,
                        "partitions": pg_arrays.smallints([key[0] for key in keys]),
                        "keys": pg_arrays.byteas(keys),
                    },
                )
            params = {"partitions": pg_arrays.smallints(touched)}
            locked = conn.execute(LOCK_HEADS, params, binary=True)
            first = list(islice(rows, ROWS_A_PIECE))
        heads = {partition: (head, hash) for partition, head, hash in locked}
        if keys and inserted.rowcount != len(keys):
            raise DuplicateMessage("a message id of the batch is already stored")
        return heads, first

    @staticmethod
    def _copy(
        conn: psycopg.Connection,
        group: list[_Append],
        rows: Iterator[Encoded],
        heads: Heads,
        recorded: bytes,
    ) -> tuple[list[list[Position]], dict[str, pg_arrays.Column]]:
        """Copies the rows of all appends in, each chained to the one before it.

        Args:
            recorded: the stored bytes of `recorded_at`.

        Returns:
            The positions of the rows of each append, and the parameters of `MOVE_HEADS`.
        """
        positions_in_order: list[list[int]] = []
        buffer: list[bytes] = []
        with conn.cursor() as cursor, PieceByPiece(cursor, COPY_EVENTS) as copy:
            for append in group:
                positions: list[int] = []
                for n in append.order:
                    envelope, state, account_state = next(rows)
                    partition = append.partitions[n]
                    head, link = heads[partition]
                    position = head + 1
                    row = stored(partition, position, envelope, recorded, state, account_state)
                    link = sha256(link + row).digest()
                    heads[partition] = (position, link)
                    buffer += (_FIELD_COUNT, row, _HASH_LENGTH, link)
                    positions.append(position)
                    if len(buffer) >= 4 * ROWS_A_PIECE:
                        copy.write(b"".join(buffer))
                        buffer.clear()
                positions_in_order.append(positions)
            if buffer:
                copy.write(b"".join(buffer))
            # Built while the server writes the last piece.
            moves = {
                "partitions": pg_arrays.smallints(list(heads)),
                "heads": pg_arrays.bigints([position for position, _ in heads.values()]),
                "hashes": pg_arrays.byteas([link for _, link in heads.values()]),
            }
            written = [
                append.in_callers_order(positions)
                for append, positions in zip(group, positions_in_order, strict=True)
            ]
        return written, moves
