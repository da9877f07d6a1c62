"""Records of erasures: one for each subject whose key is destroyed, without personal data."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

import psycopg
from psycopg_pool import ConnectionPool

from domain.identity import SubjectId
from projections.kernel import pg_arrays

INSERT_RECORDS = """
INSERT INTO keys.erasures (log_partition, subject, kind, requested_by, reason, request)
SELECT p, s, %(kind)b, %(requested_by)b, %(reason)b, %(request)b
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

SELECT_REQUESTS = """
SELECT e.subject, e.request FROM keys.erasures e
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.subject = w.s"""

SELECT_UNFINISHED = """
SELECT subject, kind FROM keys.erasures WHERE completed_at IS NULL ORDER BY requested_at"""

COMPLETE_RECORDS = """
UPDATE keys.erasures e SET completed_at = now(), position = w.position
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(positions)b::bigint[])
     AS w(p, s, position)
WHERE e.log_partition = w.p AND e.subject = w.s AND e.log_partition = ANY(%(partitions)b)
  AND e.completed_at IS NULL"""


class ErasureRecords:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def unfinished(self) -> list[tuple[SubjectId, str]]:
        """The subjects, each with its kind, whose key is destroyed while the log has no `erased`
        event of them; the oldest request first."""
        with self._pool.connection() as conn:
            return list(conn.execute(SELECT_UNFINISHED).fetchall())

    def complete(self, positions: Mapping[SubjectId, int]) -> None:
        """Completes records with the positions of the `erased` events, each in the partition of
        its subject."""
        partitions, ids = pg_arrays.placed(list(positions))
        params = {
            "partitions": partitions,
            "subjects": ids,
            "positions": pg_arrays.bigints(list(positions.values())),
        }
        with self._pool.connection() as conn:
            conn.execute(COMPLETE_RECORDS, params)


def erased_by(
    conn: psycopg.Connection, subjects: Iterable[SubjectId]
) -> dict[SubjectId, uuid.UUID | None]:
    """Returns the erased subjects, each with the request that demanded the erasure; None: no
    request did."""
    partitions, ids = pg_arrays.placed(list(subjects))
    params = {"partitions": partitions, "subjects": ids}
    rows = conn.execute(SELECT_REQUESTS, params, binary=True)
    return {SubjectId(subject): request for subject, request in rows}


def insert_records(
    conn: psycopg.Connection,
    subjects: Sequence[SubjectId],
    *,
    kind: str,
    requested_by: str,
    reason: str,
    request: uuid.UUID | None,
) -> None:
    """Records erasures in the caller's transaction; a subject that has a record keeps it."""
    partitions, ids = pg_arrays.placed(subjects)
    params = {
        "partitions": partitions,
        "subjects": ids,
        "kind": kind,
        "requested_by": requested_by,
        "reason": reason,
        "request": request,
    }
    conn.execute(INSERT_RECORDS, params)
