"""Leases: the partitions that a worker holds, each guarded by a fencing token.

A worker renews its leases while it works and takes a fair share of the partitions that no worker
holds. Each lease that is taken raises the partition's fencing token. A worker whose lease expired
holds an old token, and its batch is refused.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import psycopg

from domain.definitions.retention import ALWAYS, RetentionBounds
from domain.events.recorded import RecordedEvent
from domain.identity import LOG_PARTITIONS
from projections.kernel import fences, pg_arrays
from projections.projector import checkpoints
from projections.projector.checkpoints import PROJECTOR

LEASE_SECONDS = 10

RECORD_HEARTBEAT = """
INSERT INTO views.workers (projector, worker, seen_at) VALUES (%s, %s, now())
ON CONFLICT (projector, worker) DO UPDATE SET seen_at = excluded.seen_at"""

COUNT_LIVE_WORKERS = """
SELECT count(*) FROM views.workers
WHERE projector = %s AND seen_at > now() - make_interval(secs => %s)"""

LOCK_FREE_PARTITIONS = """
SELECT log_partition FROM views.checkpoints
WHERE projector = %s AND leased_until < now() ORDER BY log_partition LIMIT %s
FOR UPDATE SKIP LOCKED"""

TAKE_LEASES = """
UPDATE views.checkpoints
SET worker = %(worker)s, fencing_token = fencing_token + 1,
    leased_until = now() + make_interval(secs => %(seconds)s)
WHERE projector = %(projector)s AND log_partition = ANY(%(partitions)s)
RETURNING log_partition, position, fencing_token, summed_before"""

RENEW_LEASES = """
UPDATE views.checkpoints SET leased_until = now() + make_interval(secs => %(seconds)s)
WHERE projector = %(projector)s AND worker = %(worker)s AND log_partition = ANY(%(partitions)s)"""

RELEASE_LEASES = """
UPDATE views.checkpoints SET worker = NULL, leased_until = '-infinity'
WHERE projector = %(projector)s AND worker = %(worker)s AND log_partition = ANY(%(partitions)s)"""

# The lock lasts until the transaction ends: a batch may take longer than a lease, and no other
# worker may begin the same one meanwhile.
LOCK_CHECKPOINTS = """
SELECT 1 FROM views.checkpoints c
JOIN unnest(%(partitions)b::smallint[], %(tokens)b::bigint[]) AS v(p, token)
  ON c.log_partition = v.p AND c.fencing_token = v.token
WHERE c.projector = %(projector)b AND c.log_partition = ANY(%(partitions)b)
  AND c.worker = %(worker)b
ORDER BY c.log_partition FOR UPDATE OF c"""

MOVE_CHECKPOINTS = """
UPDATE views.checkpoints c
SET position = v.position, summed_before = v.summed_before,
    leased_until = now() + make_interval(secs => %(seconds)b)
FROM unnest(%(partitions)b::smallint[], %(tokens)b::bigint[], %(positions)b::bigint[],
            %(summed_before)b::timestamptz[])
     AS v(log_partition, token, position, summed_before)
WHERE c.projector = %(projector)b AND c.log_partition = v.log_partition
  AND c.log_partition = ANY(%(partitions)b)
  AND c.worker = %(worker)b AND c.fencing_token = v.token"""

DELETE_WORKER = "DELETE FROM views.workers WHERE projector = %s AND worker = %s"


class LeaseLost(Exception):
    """Another worker holds a partition of the batch."""


class Lease:
    """A partition that this worker holds.

    Attributes:
        position: of the last event that is in the read models.
        token: fencing token.
        summed_before: before this instant the read models count sums instead of activity.
    """

    __slots__ = ("position", "summed_before", "token")

    def __init__(self, position: int, token: int, summed_before: datetime | None) -> None:
        self.position = position
        self.token = token
        self.summed_before = summed_before


class Leases:
    """The leases of one worker."""

    def __init__(self) -> None:
        self._worker = uuid.uuid4()
        self._leases: dict[int, Lease] = {}
        self._renewed_at = -math.inf

    @property
    def positions(self) -> dict[int, int]:
        """The position reached in each leased partition."""
        return {partition: lease.position for partition, lease in self._leases.items()}

    @property
    def summed_before(self) -> dict[int, datetime]:
        return {
            partition: lease.summed_before
            for partition, lease in self._leases.items()
            if lease.summed_before is not None
        }

    @property
    def is_due(self) -> bool:
        """Whether a third of a lease has passed since the last renewal."""
        return time.monotonic() - self._renewed_at >= LEASE_SECONDS / 3

    def forget(self) -> None:
        """Makes the next renewal take all leases anew: memory and database may differ."""
        self._leases.clear()
        self._renewed_at = -math.inf

    def renew(self, conn: psycopg.Connection) -> None:
        """Renews the leases of this worker, takes or releases partitions up to its fair share."""
        now = time.monotonic()
        checkpoints.ensure(conn)
        fences.ensure(conn, PROJECTOR)
        conn.execute(RECORD_HEARTBEAT, (PROJECTOR, self._worker))
        leased = list(self._leases)
        renewed = conn.execute(RENEW_LEASES, self._params(leased) | {"seconds": LEASE_SECONDS})
        # Leases that this worker forgot stay its own in the database until they expire.
        if not leased or renewed.rowcount != len(leased):
            self._leases.clear()
            conn.execute(RELEASE_LEASES, self._params(range(LOG_PARTITIONS)))
        row = conn.execute(COUNT_LIVE_WORKERS, (PROJECTOR, LEASE_SECONDS)).fetchone()
        share = math.ceil(LOG_PARTITIONS / (row[0] if row and row[0] else 1))
        surplus = list(self._leases)[share:]
        if surplus:
            conn.execute(RELEASE_LEASES, self._params(surplus))
            for partition in surplus:
                del self._leases[partition]
        self._take(conn, share - len(self._leases))
        self._renewed_at = now

    def _take(self, conn: psycopg.Connection, count: int) -> None:
        if count <= 0:
            return
        with conn.transaction():
            rows = conn.execute(LOCK_FREE_PARTITIONS, (PROJECTOR, count)).fetchall()
            free = self._params([partition for (partition,) in rows])
            taken = conn.execute(TAKE_LEASES, free | {"seconds": LEASE_SECONDS}).fetchall()
        self._leases |= {partition: Lease(*columns) for partition, *columns in taken}

    def release(self, conn: psycopg.Connection) -> None:
        """Gives all partitions back, so that another worker takes them at once."""
        conn.execute(RELEASE_LEASES, self._params(self._leases))
        conn.execute(DELETE_WORKER, (PROJECTOR, self._worker))

    def lock(self, conn: psycopg.Connection, rows: Sequence[RecordedEvent]) -> None:
        """Locks the checkpoints of a batch until the transaction ends.

        Raises:
            LeaseLost: another worker holds one of the partitions.
        """
        partitions = sorted({row.log_partition for row in rows})
        params = {
            "projector": PROJECTOR,
            "worker": self._worker,
            "partitions": pg_arrays.smallints(partitions),
            "tokens": pg_arrays.bigints(
                [self._leases[partition].token for partition in partitions]
            ),
        }
        if conn.execute(LOCK_CHECKPOINTS, params).rowcount != len(partitions):
            raise LeaseLost

    def begin(self, rows: Sequence[RecordedEvent], bounds: RetentionBounds) -> None:
        """Sets from when on a partition counts activity, where a batch holds its first events.

        Activity that retention ended before the first event has only sums left. Activity that ends
        later was counted already, and its sums are not counted again."""
        for partition in {row.log_partition for row in rows}:
            lease = self._leases[partition]
            if not lease.position:
                lease.summed_before = None if bounds.since == ALWAYS else bounds.since

    def move_checkpoints(
        self, conn: psycopg.Connection, rows: Sequence[RecordedEvent]
    ) -> dict[int, int]:
        """Moves the checkpoints past a batch.

        Returns:
            The new position of each partition, to be passed to `moved` after the commit.

        Raises:
            LeaseLost: another worker holds one of the partitions.
        """
        positions = {row.log_partition: row.position for row in rows}
        leases = [self._leases[partition] for partition in positions]
        params = {
            "projector": PROJECTOR,
            "worker": self._worker,
            "seconds": LEASE_SECONDS,
            "partitions": pg_arrays.smallints(list(positions)),
            "tokens": pg_arrays.bigints([lease.token for lease in leases]),
            "positions": pg_arrays.bigints(list(positions.values())),
            "summed_before": pg_arrays.instants([lease.summed_before for lease in leases]),
        }
        if conn.execute(MOVE_CHECKPOINTS, params).rowcount != len(positions):
            raise LeaseLost
        return positions

    def moved(self, positions: Mapping[int, int]) -> None:
        """Remembers the positions of a batch that is committed."""
        for partition, position in positions.items():
            self._leases[partition].position = position

    def _params(self, partitions: Collection[int]) -> dict[str, object]:
        return {
            "projector": PROJECTOR,
            "worker": self._worker,
            "partitions": pg_arrays.smallints(list(partitions)),
        }
