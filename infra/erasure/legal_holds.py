"""Legal holds: each forbids the erasure of a subject until it is released. Both stay on record."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from domain.erasure.legal_hold import LegalHold
from domain.errors import NotFound
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.keys.month_keys import HOLD_GENERATION
from infra.keys.tombstones import lock_keys
from infra.write.subjects import Subjects

SELECT_REASONS = """
SELECT h.subject, h.reason FROM keys.holds h
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON h.log_partition = w.p AND h.subject = w.s
WHERE h.released_at IS NULL ORDER BY h.placed_at DESC, h.id"""

IS_ERASED = """
SELECT 1 FROM keys.erasures WHERE log_partition = %(partition)s AND subject = %(subject)s"""

PLACE_HOLD = """
INSERT INTO keys.holds (log_partition, subject, id, kind, reason, placed_by)
VALUES (%(partition)s, %(subject)s, %(id)s, %(kind)s, %(reason)s, %(by)s)"""

RELEASE_HOLD = """
UPDATE keys.holds SET released_at = now(), released_by = %(by)s, release_reason = %(reason)s
WHERE id = %(id)s AND released_at IS NULL"""

SELECT_OLDEST_REASON = """
SELECT reason FROM keys.holds WHERE released_at IS NULL ORDER BY placed_at, id LIMIT 1"""

SELECT_HOLD = """
SELECT id, subject, kind, reason, placed_by, placed_at, release_reason, released_by, released_at
FROM keys.holds WHERE id = %(id)s"""

SELECT_HOLDS = """
SELECT id, subject, kind, reason, placed_by, placed_at, release_reason, released_by, released_at
FROM keys.holds WHERE %(released)s OR released_at IS NULL ORDER BY placed_at DESC, id"""


def holds_on(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> dict[SubjectId, str]:
    """Returns the subjects on hold, each with the reason of its oldest hold."""
    params = {
        "partitions": [log_partition(subject) for subject in subjects],
        "subjects": list(subjects),
    }
    rows = conn.execute(SELECT_REASONS, params, binary=True)
    return {SubjectId(subject): reason for subject, reason in rows}


def any_held(conn: psycopg.Connection) -> str | None:
    """The reason of the oldest hold, on any subject; None: there is no hold."""
    row = conn.execute(SELECT_OLDEST_REASON).fetchone()
    return None if row is None else str(row[0])


class LegalHolds:
    """Thread-safe; one instance per process."""

    def __init__(self, pool: ConnectionPool, subjects: Subjects) -> None:
        self._pool = pool
        self._subjects = subjects

    def on(self, subjects: Collection[SubjectId]) -> AbstractSet[SubjectId]:
        """Returns the subjects on hold."""
        with self._pool.connection() as conn:
            return holds_on(conn, list(subjects)).keys()

    def place(self, kind: SubjectKind, subject: SubjectId, *, reason: str, by: str) -> LegalHold:
        """Forbids the erasure of a subject until the hold is released.

        Raises:
            NotFound: there is no such subject, or it is erased.
        """
        if self._subjects.kinds([subject]).get(subject) is not kind:
            raise NotFound(f"there is no such {kind}")
        state = self._subjects.load({subject: kind})[subject]
        if state.merged_into is not None:
            return self.place(kind, state.merged_into, reason=reason, by=by)
        if not state.version:
            raise NotFound(f"there is no such {kind}")
        id = uuid.uuid4()
        at = {"partition": log_partition(subject), "subject": subject}
        with self._pool.connection() as conn, conn.transaction():
            # A running erasure or end of months either comes first, or sees the hold.
            lock_keys(conn, [subject])
            conn.execute(HOLD_GENERATION)
            if conn.execute(IS_ERASED, at).fetchone() is not None:
                raise NotFound(f"there is no such {kind}")
            hold = at | {"id": id, "kind": kind.value, "reason": reason, "by": by}
            conn.execute(PLACE_HOLD, hold)
        return self.get(id)

    def release(self, id: uuid.UUID, *, reason: str, by: str) -> LegalHold:
        """Releases a hold. A hold that is released already stays as it is.

        Raises:
            NotFound: there is no such hold.
        """
        with self._pool.connection() as conn:
            conn.execute(RELEASE_HOLD, {"by": by, "reason": reason, "id": id})
        return self.get(id)

    def get(self, id: uuid.UUID) -> LegalHold:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            row = conn.cursor(row_factory=dict_row).execute(SELECT_HOLD, {"id": id}).fetchone()
        if row is None:
            raise NotFound("there is no such legal hold")
        return _hold(row)

    def all(self, *, released: bool) -> list[LegalHold]:
        """Newest first.

        Args:
            released: whether holds that were released are among them.
        """
        with self._pool.connection() as conn:
            cursor = conn.cursor(row_factory=dict_row)
            rows = cursor.execute(SELECT_HOLDS, {"released": released}).fetchall()
        return [_hold(row) for row in rows]


def _hold(row: dict[str, Any]) -> LegalHold:
    return LegalHold(**row | {"kind": SubjectKind(row["kind"])})
