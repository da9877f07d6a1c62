"""Legal holds: what forbids the erasure of a subject until it is released. Both stay on record."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from domain.erasure.erasure import LegalHold
from domain.errors import NotFound
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.keys.month_keys import HOLD_GENERATION
from infra.keys.tombstones import lock_keys
from infra.write.subjects import Subjects

HELD = """
SELECT h.subject, h.reason FROM keys.holds h
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON h.log_partition = w.p AND h.subject = w.s
WHERE h.released_at IS NULL ORDER BY h.placed_at DESC, h.id"""

ERASED = "SELECT 1 FROM keys.erasures WHERE log_partition = %s AND subject = %s"

PLACE_HOLD = """
INSERT INTO keys.holds (log_partition, subject, id, kind, reason, placed_by)
VALUES (%s, %s, %s, %s, %s, %s)"""

RELEASE_HOLD = """
UPDATE keys.holds SET released_at = now(), released_by = %s, release_reason = %s
WHERE id = %s AND released_at IS NULL"""

OLDEST_HOLD = """
SELECT reason FROM keys.holds WHERE released_at IS NULL ORDER BY placed_at, id LIMIT 1"""

SELECT_HOLD = """
SELECT id, subject, kind, reason, placed_by, placed_at, release_reason, released_by, released_at
FROM keys.holds WHERE id = %s"""

SELECT_HOLDS = """
SELECT id, subject, kind, reason, placed_by, placed_at, release_reason, released_by, released_at
FROM keys.holds WHERE %s OR released_at IS NULL ORDER BY placed_at DESC, id"""


def held(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> dict[SubjectId, str]:
    """Those of the subjects that a hold is on, each with the reason of the oldest."""
    asked = ([log_partition(one) for one in subjects], list(subjects))
    return {SubjectId(row[0]): row[1] for row in conn.execute(HELD, asked, binary=True)}


def any_held(conn: psycopg.Connection) -> str | None:
    """The reason of the oldest hold that is on, on whomever; None: there is none."""
    row = conn.execute(OLDEST_HOLD).fetchone()
    return None if row is None else str(row[0])


class LegalHolds:
    """One for each process; safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, subjects: Subjects) -> None:
        self._pool = pool
        self._subjects = subjects

    def on(self, subjects: Collection[SubjectId]) -> AbstractSet[SubjectId]:
        """Those of the subjects that a hold is on."""
        with self._pool.connection() as conn:
            return held(conn, list(subjects)).keys()

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
        with self._pool.connection() as conn, conn.transaction():
            # An erasure, or an end of periods, that is under way comes first, or sees the hold.
            lock_keys(conn, [subject])
            conn.execute(HOLD_GENERATION)
            if conn.execute(ERASED, (log_partition(subject), subject)).fetchone() is not None:
                raise NotFound(f"there is no such {kind}")
            conn.execute(PLACE_HOLD, (log_partition(subject), subject, id, kind.value, reason, by))
        return self.get(id)

    def release(self, id: uuid.UUID, *, reason: str, by: str) -> LegalHold:
        """Releases a hold. What was released before stays as it is.

        Raises:
            NotFound: there is no such hold.
        """
        with self._pool.connection() as conn:
            conn.execute(RELEASE_HOLD, (by, reason, id))
        return self.get(id)

    def get(self, id: uuid.UUID) -> LegalHold:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            row = conn.cursor(row_factory=dict_row).execute(SELECT_HOLD, (id,)).fetchone()
        if row is None:
            raise NotFound("there is no such legal hold")
        return _hold(row)

    def all(self, *, released: bool) -> list[LegalHold]:
        """Newest first; those that were released too, if asked for."""
        with self._pool.connection() as conn:
            rows = conn.cursor(row_factory=dict_row).execute(SELECT_HOLDS, (released,)).fetchall()
        return [_hold(row) for row in rows]


def _hold(row: dict[str, Any]) -> LegalHold:
    return LegalHold(**row | {"kind": SubjectKind(row["kind"])})
