"""How far each destination was told, beside the log: cursors, leases, failures, pauses.

A destination has a cursor for each partition of the log; what is past it is still to be told, and
nothing of that is kept anywhere else. The cursors are backed up with the log, in one snapshot.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from domain.errors import NotFound
from domain.identity import LOG_PARTITIONS

SALT_BYTES = 16
EARLIER_SECRET = timedelta(hours=24)
"""How long messages are signed with the secret before the last one, too."""

LEASE_SECONDS = 60
"""More than a message takes at most: `infra.webhooks.http_client`."""

GONE = "gone"
"""The failure of one that answered 410."""

ALL_PARTITIONS = list(range(LOG_PARTITIONS))

ADD = "INSERT INTO log.destinations (id, salt) VALUES (%s, %b)"

RENEW = """
UPDATE log.destinations SET earlier_salt = salt, salt = %b, renewed_at = now() WHERE id = %s"""

SALTS = """
SELECT salt, CASE WHEN renewed_at > now() - %s THEN earlier_salt END
FROM log.destinations WHERE id = %s"""

BEGIN = """
UPDATE log.destinations SET begun_at = now() WHERE id = %s AND begun_at IS NULL"""

SET_OUT = """
INSERT INTO log.destination_cursors (log_partition, destination, first, position)
SELECT p, %b, position, position FROM unnest(%b::smallint[], %b::bigint[]) AS v(p, position)
ON CONFLICT DO NOTHING"""

UNBEGUN = "SELECT id FROM log.destinations WHERE id = ANY(%s) AND begun_at IS NULL"

DUE = """
SELECT d.id FROM log.destinations d
WHERE d.id = ANY(%b) AND d.paused_at IS NULL AND d.leased_until < now() AND d.retry_at <= now()
  AND EXISTS (
    SELECT FROM log.destination_cursors c
    JOIN unnest(%b::smallint[], %b::bigint[]) AS v(p, position)
      ON c.log_partition = v.p AND c.position < v.position
    WHERE c.destination = d.id AND c.log_partition = ANY(%b))"""

TAKE_LEASE = """
UPDATE log.destinations
SET worker = %s, fencing_token = fencing_token + 1,
    leased_until = now() + make_interval(secs => %s)
WHERE id = %s AND leased_until < now() AND paused_at IS NULL AND retry_at <= now()
RETURNING fencing_token"""

RENEW_LEASE = """
UPDATE log.destinations SET leased_until = now() + make_interval(secs => %s)
WHERE id = %s AND worker = %s AND fencing_token = %s AND paused_at IS NULL"""

RELEASE = """
UPDATE log.destinations SET worker = NULL, leased_until = '-infinity'
WHERE id = %s AND worker = %s AND fencing_token = %s"""

SELECT_CURSORS = """
SELECT log_partition, position FROM log.destination_cursors
WHERE destination = %s AND log_partition = ANY(%s)"""

CONFIRM = """
UPDATE log.destinations
SET leased_until = now() + make_interval(secs => %s),
    sent_at = CASE WHEN %s THEN now() ELSE sent_at END,
    failures = CASE WHEN %s THEN 0 ELSE failures END
WHERE id = %s AND worker = %s AND fencing_token = %s"""

MOVE_CURSORS = """
UPDATE log.destination_cursors c SET position = v.position
FROM unnest(%b::smallint[], %b::bigint[]) AS v(p, position)
WHERE c.destination = %b AND c.log_partition = v.p AND c.log_partition = ANY(%b)
  AND c.position < v.position"""

FAIL = """
UPDATE log.destinations
SET failures = failures + 1, failed_at = now(), failure = %s,
    retry_at = now() + make_interval(secs => %s), worker = NULL, leased_until = '-infinity',
    paused_at = CASE WHEN %s THEN now() ELSE paused_at END
WHERE id = %s AND worker = %s AND fencing_token = %s"""

PAUSE = """
UPDATE log.destinations SET paused_at = now(), paused_by = %s WHERE id = %s AND paused_at IS NULL"""

RESUME = """
UPDATE log.destinations
SET paused_at = NULL, paused_by = NULL, failures = 0, retry_at = '-infinity' WHERE id = %s"""

STATES = """
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

# Of those that could have heard of all these places at all: whether they are past each.
REACHED = """
SELECT c.destination, bool_and(c.position >= v.position)
FROM log.destination_cursors c
JOIN unnest(%b::smallint[], %b::bigint[]) AS v(p, position) ON c.log_partition = v.p
WHERE c.log_partition = ANY(%b) AND c.first < v.position GROUP BY 1"""


class Lease(NamedTuple):
    """That this worker, and no other, tells a destination; the token proves it."""

    destination: UUID
    token: int


class LeaseLost(Exception):
    """Another worker tells the destination now, or it was paused."""


class State(msgspec.Struct, frozen=True):
    """How a destination is doing.

    Attributes:
        renewed_at: when its secret was renewed last.
        begun_at: when it was activated; what came before is not sent.
        sent_at: when it last took a message.
        failures: attempts that failed, since it last took one.
        failure: of the last attempt that failed: a status code, or a word for the kind of error.
        retry_at: not before this is it tried again; None: at once.
        paused_by: the API key; None while paused: it answered that it is gone.
        behind: how many events of the log it has not been told of, or found to need not be.
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
    """One for each process; safe for use from many threads.

    Args:
        secret: of the deployment; with a salt it makes what messages are signed with.
    """

    def __init__(self, pool: ConnectionPool, secret: bytes) -> None:
        self._pool = pool
        self._secret = secret

    def add(self, id: UUID) -> bytes:
        """Makes room for a destination; returns its secret."""
        salt = os.urandom(SALT_BYTES)
        with self._pool.connection() as conn:
            conn.execute(ADD, (id, salt))
        return self._of(id, salt)

    def renew(self, id: UUID) -> bytes:
        """Gives a destination another secret, and returns it. For `EARLIER_SECRET` messages are
        signed with the one before as well."""
        salt = os.urandom(SALT_BYTES)
        with self._pool.connection() as conn:
            conn.execute(RENEW, (salt, id))
        return self._of(id, salt)

    def secrets(self, id: UUID) -> list[bytes]:
        """What messages to a destination are signed with now, the newest first.

        Raises:
            NotFound: there is no such destination.
        """
        with self._pool.connection() as conn:
            row = conn.execute(SALTS, (EARLIER_SECRET, id)).fetchone()
        if row is None:
            raise NotFound("there is no such destination")
        return [self._of(id, bytes(salt)) for salt in row if salt is not None]

    def begin(self, id: UUID, heads: Mapping[int, int]) -> None:
        """Has a destination begin after some positions, unless it has begun."""
        with self._pool.connection() as conn, conn.transaction():
            if conn.execute(BEGIN, (id,)).rowcount:
                conn.execute(SET_OUT, (id, list(heads), list(heads.values())))

    def unbegun(self, ids: Sequence[UUID]) -> list[UUID]:
        """Those that have no cursors yet."""
        with self._pool.connection() as conn:
            return [row[0] for row in conn.execute(UNBEGUN, (list(ids),))]

    def due(self, ids: Sequence[UUID], shown: Mapping[int, int]) -> list[UUID]:
        """Those of some destinations that may be told something now, by nobody else.

        Args:
            shown: how far the read models are.
        """
        asked = (list(ids), list(shown), list(shown.values()), ALL_PARTITIONS)
        with self._pool.connection() as conn:
            return [row[0] for row in conn.execute(DUE, asked)]

    def take(self, id: UUID, worker: UUID) -> Lease | None:
        """The lease of a destination, where it is free."""
        with self._pool.connection() as conn:
            row = conn.execute(TAKE_LEASE, (worker, LEASE_SECONDS, id)).fetchone()
        return None if row is None else Lease(id, row[0])

    def keep(self, lease: Lease, worker: UUID) -> None:
        """Holds on to a lease. Raises: LeaseLost."""
        with self._pool.connection() as conn:
            renewed = conn.execute(RENEW_LEASE, (LEASE_SECONDS, lease[0], worker, lease[1]))
        if not renewed.rowcount:
            raise LeaseLost

    def release(self, lease: Lease, worker: UUID) -> None:
        with self._pool.connection() as conn:
            conn.execute(RELEASE, (lease.destination, worker, lease.token))

    def cursors(self, id: UUID) -> dict[int, int]:
        """Up to where a destination was told, by partition."""
        with self._pool.connection() as conn:
            return dict(conn.execute(SELECT_CURSORS, (id, ALL_PARTITIONS)).fetchall())

    def confirm(
        self, lease: Lease, worker: UUID, reached: Mapping[int, int], *, sent: bool
    ) -> None:
        """Moves the cursors on.

        Args:
            sent: whether a message was taken; else there was nothing to be told.

        Raises:
            LeaseLost: then they stay.
        """
        with self._pool.connection() as conn, conn.transaction():
            held = conn.execute(
                CONFIRM, (LEASE_SECONDS, sent, sent, lease.destination, worker, lease.token)
            )
            if not held.rowcount:
                raise LeaseLost
            places = (list(reached), list(reached.values()), lease.destination, list(reached))
            conn.execute(MOVE_CURSORS, places)

    def fail(self, lease: Lease, worker: UUID, failure: str, pause: float) -> None:
        """Notes that an attempt failed, and lets the lease go.

        Args:
            failure: a status code or a word; nothing of what was sent or answered.
            pause: before the next attempt, in seconds.
        """
        values = (failure, pause, failure == GONE, lease.destination, worker, lease.token)
        with self._pool.connection() as conn:
            conn.execute(FAIL, values)

    def pause(self, id: UUID, by: UUID) -> None:
        """Has nothing sent until it is resumed; what happens meanwhile is sent then."""
        with self._pool.connection() as conn:
            conn.execute(PAUSE, (by, id))

    def resume(self, id: UUID) -> None:
        """Goes on at once, from where it was."""
        with self._pool.connection() as conn:
            conn.execute(RESUME, (id,))

    def states(self, ids: Sequence[UUID]) -> dict[UUID, State]:
        """How some destinations are doing."""
        asked = {"ids": list(ids), "partitions": ALL_PARTITIONS}
        with self._pool.connection() as conn:
            found = conn.cursor(row_factory=class_row(State)).execute(STATES, asked).fetchall()
        return {one.id: one for one in found}

    def reached(self, places: Mapping[int, int]) -> dict[UUID, bool]:
        """Whether each destination that had begun before some positions was told up to them.

        Args:
            places: a position in each of some partitions.
        """
        asked = (list(places), list(places.values()), list(places))
        with self._pool.connection() as conn:
            return dict(conn.execute(REACHED, asked).fetchall())

    def _of(self, id: UUID, salt: bytes) -> bytes:
        return hmac.digest(self._secret, b"destination\0" + id.bytes + salt, "sha256")
