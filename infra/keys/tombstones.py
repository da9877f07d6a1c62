"""The destruction of subject keys, for good.

A destroyed key leaves a tombstone, which no later request and no merged backup turns into a key
again. With the key go the identities that lead to the subject, so that the same person, seen again,
is a new subject. `infra.erasure` decides whose keys are destroyed; this is the database's side.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.errors import SubjectErased
from domain.identity import SubjectId, log_partition
from infra.keys.erasure_records import insert_records
from infra.keys.identity_index import delete_identities, suppress_identities
from infra.keys.key_ring import KeyRing
from infra.keys.rotation import MOVE_GENERATION, KeyRotation
from projections.kernel import pg_arrays

# A destruction waits for it, or is waited for; many merges hold the same keys at once.
SHARE_KEYS = """
SELECT k.state FROM keys.subject_keys k
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON k.log_partition = w.p AND k.subject = w.s
WHERE k.log_partition = ANY(%(partitions)b)
ORDER BY k.log_partition, k.subject, k.version FOR KEY SHARE OF k"""

# A destruction and a legal hold both lock the rows first: one of the two comes after the other.
LOCK_KEYS = """
SELECT FROM keys.subject_keys k
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON k.log_partition = w.p AND k.subject = w.s
WHERE k.log_partition = ANY(%(partitions)b)
ORDER BY k.log_partition, k.subject, k.version FOR UPDATE OF k"""

# A subject without a key gets its tombstone too: a retried request cannot make one afterwards.
INSERT_TOMBSTONES = """
INSERT INTO keys.subject_keys
       (log_partition, subject, version, state, key_encryption_key, destroyed_at)
SELECT p, s, 1, 'destroyed', %(under)b, now()
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

DESTROY_KEYS = """
UPDATE keys.subject_keys
SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE log_partition = ANY(%(partitions)b) AND subject = ANY(%(subjects)b) AND state = 'active'"""

# A key that is active beside a tombstone or a record of an erasure: a backup of the keys that was
# merged into newer ones brought it back.
SELECT_REVIVED = """
SELECT DISTINCT a.log_partition, a.subject FROM keys.subject_keys a
JOIN (SELECT log_partition, subject FROM keys.subject_keys WHERE state = 'destroyed'
      UNION SELECT log_partition, subject FROM keys.erasures) d
  ON d.log_partition = a.log_partition AND d.subject = a.subject
WHERE a.state = 'active' ORDER BY 1, 2"""

log = structlog.get_logger()


class KeyTombstones:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation, keys: KeyRing) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self._keys = keys

    @contextmanager
    def locked(self, subjects: Iterable[SubjectId]) -> Iterator[None]:
        """Keeps existing keys of subjects from being destroyed while in use.

        Raises:
            SubjectErased: one is destroyed.
        """
        params = _placed(list(subjects))
        with self._pool.connection() as conn, conn.transaction():
            states = conn.execute(SHARE_KEYS, params, binary=True)
            if any(state != "active" for (state,) in states):
                raise SubjectErased("the subject has been erased")
            yield

    def destroy(
        self,
        subjects: Sequence[SubjectId],
        *,
        kind: str,
        requested_by: str,
        reason: str,
        request: uuid.UUID,
    ) -> None:
        """Destroys keys in a transaction of its own: see `destroy_within`."""
        with self._pool.connection() as conn, conn.transaction():
            self.destroy_within(
                conn,
                subjects,
                kind=kind,
                requested_by=requested_by,
                reason=reason,
                request=request,
            )
        self._keys.refresh()

    def destroy_within(
        self,
        conn: psycopg.Connection,
        subjects: Sequence[SubjectId],
        *,
        kind: str,
        requested_by: str,
        reason: str,
        request: uuid.UUID | None = None,
        suppress: bool = False,
    ) -> None:
        """Destroys the keys and identities of subjects in the caller's transaction. After its
        commit, `KeyRing.refresh` drops the keys that this process has cached.

        Args:
            request: the erasure request that demands it.
            suppress: whether the identities are refused from now on; needs a request.
        """
        ordered = sorted(set(subjects), key=lambda subject: (log_partition(subject), subject.bytes))
        lock_keys(conn, ordered)
        insert_records(
            conn, ordered, kind=kind, requested_by=requested_by, reason=reason, request=request
        )
        self._destroy(conn, ordered, suppress_for=request if suppress else None)

    def destroy_revived(self) -> int:
        """Destroys the keys, and the secrets of months, that a backup brought back after their
        destruction. Every start calls this before it serves anything.

        Returns:
            The number of subjects.
        """
        with self._pool.connection() as conn, conn.transaction():
            revived = [
                SubjectId(subject) for _, subject in conn.execute(SELECT_REVIVED, binary=True)
            ]
            if revived:
                self._destroy(conn, revived)
        if revived:
            log.warning("keys.destroyed_again", subjects=len(revived))
        self._keys.months.destroy_revived()
        return len(revived)

    def _destroy(
        self,
        conn: psycopg.Connection,
        subjects: Sequence[SubjectId],
        suppress_for: uuid.UUID | None = None,
    ) -> None:
        params = _placed(subjects)
        # In this order. The tombstones wait for a key that another writer is making. The first
        # destruction waits for a writer that is adding a version; only the second sees it.
        conn.execute(INSERT_TOMBSTONES, {**params, "under": self._wrapping.current.id})
        conn.execute(DESTROY_KEYS, params)
        conn.execute(DESTROY_KEYS, params)
        if suppress_for is not None:
            suppress_identities(conn, subjects, suppress_for)
        delete_identities(conn, subjects)
        conn.execute(MOVE_GENERATION)


def lock_keys(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
    """Keeps the keys of subjects from being destroyed, and legal holds from being placed on them,
    until the caller's transaction ends."""
    conn.execute(LOCK_KEYS, _placed(subjects))


def _placed(subjects: Sequence[SubjectId]) -> dict[str, object]:
    partitions, ids = pg_arrays.placed(subjects)
    return {"partitions": partitions, "subjects": ids}
