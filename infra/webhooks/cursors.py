"""The delivery to each destination, stored beside the log: cursors, leases, failures, pauses.

A destination has a cursor for each partition of the log. Events past it are still to be sent, and
nothing of them is stored elsewhere. A backup holds the cursors with the log, in one snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from domain.identity import LOG_PARTITIONS
from projections.kernel import pg_arrays

LEASE_SECONDS = 60
"""More than a message takes at most: `infra.webhooks.http_client`."""

GONE = "gone"
"""The failure of a destination that answered 410."""

ALL_PARTITIONS = pg_arrays.smallints(range(LOG_PARTITIONS))

SET_BEGUN = """
UPDATE log.destinations SET begun_at = now() WHERE id = %(id)s AND begun_at IS NULL"""

ADD_CURSORS = """
INSERT INTO log.destination_cursors (log_partition, destination, first, position)
SELECT p, %(id)b, position, position
FROM unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS v(p, position)
ON CONFLICT DO NOTHING"""

SELECT_UNBEGUN = "SELECT id FROM log.destinations WHERE id = ANY(%(ids)s) AND begun_at IS NULL"

SELECT_DUE = """
SELECT d.id FROM log.destinations d
WHERE d.id = ANY(%(ids)b) AND d.paused_at IS NULL AND d.leased_until < now()
  AND d.retry_at <= now() AND EXISTS (
    SELECT FROM log.destination_cursors c
    JOIN unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS v(p, position)
      ON c.log_partition = v.p AND c.position < v.position
    WHERE c.destination = d.id AND c.log_partition = ANY(%(all_partitions)b))"""

TAKE_LEASE = """
UPDATE log.destinations
SET worker = %(worker)s, fencing_token = fencing_token + 1,
    leased_until = now() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND leased_until < now() AND paused_at IS NULL AND retry_at <= now()
RETURNING fencing_token"""

EXTEND_LEASE = """
UPDATE log.destinations SET leased_until = now() + make_interval(secs => %(seconds)s)
WHERE id = %(destination)s AND worker = %(worker)s AND fencing_token = %(token)s
  AND paused_at IS NULL"""

RELEASE_LEASE = """
UPDATE log.destinations SET worker = NULL, leased_until = '-infinity'
WHERE id = %(destination)s AND worker = %(worker)s AND fencing_token = %(token)s"""

SELECT_CURSORS = """
SELECT log_partition, position FROM log.destination_cursors
WHERE destination = %(id)s AND log_partition = ANY(%(partitions)s)"""

SET_CONFIRMED = """
UPDATE log.destinations
SET leased_until = now() + make_interval(secs => %(seconds)s),
    sent_at = CASE WHEN %(sent)s THEN now() ELSE sent_at END,
    failures = CASE WHEN %(sent)s THEN 0 ELSE failures END
WHERE id = %(destination)s AND worker = %(worker)s AND fencing_token = %(token)s"""

MOVE_CURSORS = """
UPDATE log.destination_cursors c SET position = v.position
FROM unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS v(p, position)
WHERE c.destination = %(id)b AND c.log_partition = v.p AND c.log_partition = ANY(%(partitions)b)
  AND c.position < v.position"""

SET_FAILED = """
UPDATE log.destinations
SET failures = failures + 1, failed_at = now(), failure = %(failure)s,
    retry_at = now() + make_interval(secs => %(pause)s), worker = NULL, leased_until = '-infinity',
    paused_at = CASE WHEN %(is_gone)s THEN now() ELSE paused_at END
WHERE id = %(destination)s AND worker = %(worker)s AND fencing_token = %(token)s"""

PAUSE = """
UPDATE log.destinations SET paused_at = now(), paused_by = %(by)s
WHERE id = %(id)s AND paused_at IS NULL"""

RESUME = """
UPDATE log.destinations
SET paused_at = NULL, paused_by = NULL, failures = 0, retry_at = '-infinity'
WHERE id = %(id)s"""

SELECT_STATES = """
SELECT d.id, d.renewed_at, d.begun_at, d.sent_at, d.failures, d.failed_at, d.failure,
       CASE WHEN d.retry_at > now() THEN d.retry_at END AS retry_at, d.paused_at, d.paused_by,
       coalesce(c.behind, 0)::bigint AS behind
FROM log.destinations d
LEFT JOIN (
    SELECT c.destination, sum(h.head - c.position) AS behind
    FROM log.destination_cursors c JOIN log.heads h ON h.log_partition = c.log_partition
    WHERE c.destination = ANY(%(ids)s) AND c.log_partition = ANY(%(partitions)s)
      AND h.log_partition = ANY(%(partitions)s) AND c.position < h.head
    GROUP BY 1) c ON c.destination = d.id
WHERE d.id = ANY(%(ids)s)"""

# Only of destinations that had begun before each of these positions.
SELECT_REACHED = """
SELECT c.destination, bool_and(c.position >= v.position)
FROM log.destination_cursors c
JOIN unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS v(p, position)
  ON c.log_partition = v.p
WHERE c.log_partition = ANY(%(partitions)b) AND c.first < v.position GROUP BY 1"""


class Lease(NamedTuple):
    """A worker's right to send to a destination, alone; the fencing token proves it."""

    destination: UUID
    worker: UUID
    token: int


class LeaseLost(Exception):
    """Another worker sends to the destination now, or it was paused."""


class State(msgspec.Struct, frozen=True):
    """How the delivery to a destination is doing.

    Attributes:
        renewed_at: when its secret was renewed last.
        begun_at: when it was activated; earlier events are not sent.
        sent_at: when it last took a message.
        failures: the number of failed attempts since it last took a message.
        failure: why the last failed attempt failed: a status code, or a word for the kind of error.
        retry_at: the earliest time of the next attempt; None: at once.
        paused_by: the API key; None while paused: the destination answered `gone`.
        behind: the number of log events past its cursors.
    """

    id: UUID
    renewed_at: datetime | None
    begun_at: datetime | None
    sent_at: datetime | None
    failures: int
    failed_at: datetime | None
    failure: str | None
    retry_at: datetime | None
    paused_at: datetime | None
    paused_by: UUID | None
    behind: int


class DeliveryCursors:
    """Thread-safe; one instance per process.

    Args:
        pool: of the log.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def begin(self, id: UUID, heads: Mapping[int, int]) -> None:
        """Begins a destination after a position of each partition, unless it has begun."""
        with self._pool.connection() as conn, conn.transaction():
            if conn.execute(SET_BEGUN, {"id": id}).rowcount:
                conn.execute(ADD_CURSORS, {"id": id} | _columns(heads))

    def unbegun(self, ids: Sequence[UUID]) -> list[UUID]:
        """Returns the destinations that have no cursors yet."""
        with self._pool.connection() as conn:
            return [id for (id,) in conn.execute(SELECT_UNBEGUN, {"ids": list(ids)})]

    def due(self, ids: Sequence[UUID], shown: Mapping[int, int]) -> list[UUID]:
        """Returns the destinations that may have something to send now, and that no other worker
        holds.

        Args:
            shown: the position of the read models in each partition.
        """
        params = {"ids": list(ids), "all_partitions": ALL_PARTITIONS} | _columns(shown)
        with self._pool.connection() as conn:
            return [id for (id,) in conn.execute(SELECT_DUE, params)]

    def take(self, id: UUID, worker: UUID) -> Lease | None:
        """The lease of a destination, where it is free."""
        params = {"worker": worker, "seconds": LEASE_SECONDS, "id": id}
        with self._pool.connection() as conn:
            row = conn.execute(TAKE_LEASE, params).fetchone()
        return None if row is None else Lease(id, worker, row[0])

    def extend(self, lease: Lease) -> None:
        """Raises: LeaseLost."""
        params = lease._asdict() | {"seconds": LEASE_SECONDS}
        with self._pool.connection() as conn:
            extended = conn.execute(EXTEND_LEASE, params)
        if not extended.rowcount:
            raise LeaseLost

    def release(self, lease: Lease) -> None:
        with self._pool.connection() as conn:
            conn.execute(RELEASE_LEASE, lease._asdict())

    def cursors(self, id: UUID) -> dict[int, int]:
        """The position up to which a destination was told, by partition."""
        params = {"id": id, "partitions": ALL_PARTITIONS}
        with self._pool.connection() as conn:
            return dict(conn.execute(SELECT_CURSORS, params).fetchall())

    def confirm(self, lease: Lease, reached: Mapping[int, int], *, sent: bool) -> None:
        """Moves the cursors on.

        Args:
            reached: the new position in each of some partitions.
            sent: whether the destination took a message; else there was nothing to send.

        Raises:
            LeaseLost: the cursors stay.
        """
        params = lease._asdict() | {"seconds": LEASE_SECONDS, "sent": sent}
        with self._pool.connection() as conn, conn.transaction():
            if not conn.execute(SET_CONFIRMED, params).rowcount:
                raise LeaseLost
            conn.execute(MOVE_CURSORS, {"id": lease.destination} | _columns(reached))

    def fail(self, lease: Lease, failure: str, pause: float) -> None:
        """Stores that an attempt failed, and releases the lease.

        Args:
            failure: a status code or a word; no content of message or answer.
            pause: before the next attempt, in seconds.
        """
        failed = {"failure": failure, "pause": pause, "is_gone": failure == GONE}
        with self._pool.connection() as conn:
            conn.execute(SET_FAILED, lease._asdict() | failed)

    def pause(self, id: UUID, by: UUID) -> None:
        """Stops sending until `resume`; events meanwhile are sent then."""
        with self._pool.connection() as conn:
            conn.execute(PAUSE, {"by": by, "id": id})

    def resume(self, id: UUID) -> None:
        """Sends again, at once, from where it was."""
        with self._pool.connection() as conn:
            conn.execute(RESUME, {"id": id})

    def states(self, ids: Sequence[UUID]) -> dict[UUID, State]:
        """How the deliveries to some destinations are doing."""
        params = {"ids": list(ids), "partitions": ALL_PARTITIONS}
        with self._pool.connection() as conn:
            cursor = conn.cursor(row_factory=class_row(State))
            return {state.id: state for state in cursor.execute(SELECT_STATES, params)}

    def reached(self, positions: Mapping[int, int]) -> dict[UUID, bool]:
        """Returns, for each destination that had begun before some positions, whether it was told
        up to them.

        Args:
            positions: one in each of some partitions.
        """
        with self._pool.connection() as conn:
            return dict(conn.execute(SELECT_REACHED, _columns(positions)).fetchall())


def _columns(positions: Mapping[int, int]) -> dict[str, list[int]]:
    return {"partitions": list(positions), "positions": list(positions.values())}
