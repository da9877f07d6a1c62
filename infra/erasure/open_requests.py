"""Erasure requests that are not completed: locked for a step, and moved on by its result.

A worker holds the row of `keys.erasure_requests` while it carries out a step. Another worker skips
the row; a worker that dies lets go of it at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg.rows import class_row

from domain.erasure.steps import STEPS, ErasureProgress
from domain.identity import SubjectKind
from infra.erasure.key_destruction import ErasureRequestRef

# The times of the steps are in the order of `domain.erasure.steps.STEPS`.

SELECT_OPEN = """
SELECT id FROM keys.erasure_requests WHERE completed_at IS NULL ORDER BY requested_at, id"""

LOCK_REQUEST = """
SELECT id, kind, requested_by, reason, suppress, waits_for, rewritten, now() AS at,
       ARRAY[requested_at, unreadable_at, recorded_at, forgotten_at, cleaned_at,
             completed_at] AS times
FROM keys.erasure_requests
WHERE id = %(id)s AND completed_at IS NULL FOR UPDATE SKIP LOCKED"""

LOCK_TO_CLEAN = """
SELECT id, kind, requested_by, reason, suppress, waits_for, rewritten, now() AS at,
       ARRAY[requested_at, unreadable_at, recorded_at, forgotten_at, cleaned_at,
             completed_at] AS times
FROM keys.erasure_requests
WHERE completed_at IS NULL AND forgotten_at IS NOT NULL AND cleaned_at IS NULL
  AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[]))
ORDER BY requested_at, id FOR UPDATE SKIP LOCKED"""

SAVE_PROGRESS = """
UPDATE keys.erasure_requests
SET unreadable_at = %(unreadable)s, recorded_at = %(recorded)s, forgotten_at = %(forgotten)s,
    cleaned_at = %(cleaned)s, completed_at = %(completed)s, waits_for = %(waits_for)s
WHERE id = %(id)s"""


class OpenRequest(msgspec.Struct, frozen=True):
    """A request that this worker holds.

    Attributes:
        at: when the transaction that holds it began, by the database's clock.
        rewritten: the tables that were rewritten since it was forgotten.
    """

    ref: ErasureRequestRef
    progress: ErasureProgress
    at: datetime
    rewritten: list[str]

    @property
    def id(self) -> uuid.UUID:
        return self.ref.request

    @property
    def requested_at(self) -> datetime:
        return self.progress.times[0]


class _LockedRow(msgspec.Struct, frozen=True):
    id: uuid.UUID
    kind: str
    requested_by: str
    reason: str
    suppress: bool
    times: list[datetime | None]
    waits_for: str | None
    rewritten: list[str]
    at: datetime


def open_ids(conn: psycopg.Connection) -> list[uuid.UUID]:
    """The oldest first."""
    return [id for (id,) in conn.execute(SELECT_OPEN)]


def lock(conn: psycopg.Connection, id: uuid.UUID) -> OpenRequest | None:
    """Holds a request until the transaction ends; None: it is completed, or another holds it."""
    row = conn.cursor(row_factory=class_row(_LockedRow)).execute(LOCK_REQUEST, {"id": id})
    locked = row.fetchone()
    return None if locked is None else _request(locked)


def lock_to_clean(
    conn: psycopg.Connection, ids: Sequence[uuid.UUID] | None = None
) -> list[OpenRequest]:
    """Holds the requests whose next step is `CLEANED`, of some or of all, the oldest first."""
    params = {"ids": None if ids is None else list(ids)}
    cursor = conn.cursor(row_factory=class_row(_LockedRow)).execute(LOCK_TO_CLEAN, params)
    return [_request(row) for row in cursor]


def save(conn: psycopg.Connection, request: OpenRequest, progress: ErasureProgress) -> None:
    """Stores the progress of a held request."""
    if progress != request.progress:
        times = {step.value: progress.time_of(step) for step in STEPS}
        params = times | {"waits_for": progress.waits_for, "id": request.id}
        conn.execute(SAVE_PROGRESS, params)


def _request(row: _LockedRow) -> OpenRequest:
    ref = ErasureRequestRef(
        row.id, SubjectKind(row.kind), row.requested_by, row.reason, row.suppress
    )
    progress = ErasureProgress.of(row.times, row.waits_for)
    return OpenRequest(ref, progress, row.at, row.rewritten)
