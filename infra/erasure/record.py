"""Erasures as they are on record, for officers and auditors: each request, its targets, and its
certificate.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from domain.erasure.erasure import (
    Erasure,
    ErasureTarget,
    NamedIn,
    TargetOutcome,
    merge_mentions,
)
from domain.erasure.order import ErasureScope
from domain.erasure.steps import ErasureProgress, ErasureStep
from domain.errors import NotFound
from domain.identity import SubjectKind

SELECT_NEWEST_POSITIONS = """
SELECT request, log_partition, max(position) FROM (
    SELECT request, log_partition, position FROM keys.erasures
    UNION ALL SELECT request, log_partition, position FROM keys.erasure_mentions) recorded
WHERE request = ANY(%(requests)s) AND position IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""

SELECT_MENTIONS = """
SELECT request, what, id, versions, places FROM keys.erasure_mentions
WHERE request = ANY(%(requests)s) ORDER BY what, id, content"""

SELECT_REQUEST = """
SELECT r.id, scope, kind, segment, reason, suppress, unknown, requested_by, waits_for,
       ARRAY[requested_at, unreadable_at, recorded_at, forgotten_at, cleaned_at,
             completed_at] AS times,
       CASE WHEN scope = 'one' THEN (
           SELECT subject FROM keys.erasure_targets t WHERE t.request = r.id LIMIT 1) END AS subject
FROM keys.erasure_requests r WHERE id = %(id)s"""

SELECT_REQUESTS = """
SELECT r.id, scope, kind, segment, reason, suppress, unknown, requested_by, waits_for,
       ARRAY[requested_at, unreadable_at, recorded_at, forgotten_at, cleaned_at,
             completed_at] AS times,
       CASE WHEN scope = 'one' THEN (
           SELECT subject FROM keys.erasure_targets t WHERE t.request = r.id LIMIT 1) END AS subject
FROM keys.erasure_requests r
WHERE %(at)s::timestamptz IS NULL OR (requested_at, id) < (%(at)s, %(id)s)
ORDER BY requested_at DESC, id DESC LIMIT %(limit)s"""

COUNT_REQUESTS = "SELECT count(*) FROM keys.erasure_requests"

COUNT_OUTCOMES = """
SELECT request, outcome, count(*) FROM keys.erasure_targets
WHERE request = ANY(%(requests)s) GROUP BY 1, 2"""

SELECT_TARGETS = """
SELECT subject, outcome, detail FROM keys.erasure_targets
WHERE request = %(request)s AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
  AND (%(after)s::uuid IS NULL OR subject > %(after)s)
ORDER BY subject LIMIT %(limit)s"""

SELECT_CERTIFICATE = "SELECT certificate FROM keys.erasure_requests WHERE id = %(id)s"


class _Row(msgspec.Struct, frozen=True):
    id: uuid.UUID
    scope: str
    kind: str
    segment: uuid.UUID | None
    reason: str
    suppress: bool
    unknown: int
    requested_by: str
    times: list[datetime | None]
    waits_for: str | None
    subject: uuid.UUID | None


class ErasureRecord:
    """Safe for use from many threads.

    Args:
        pool: of the keys.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def get(self, id: uuid.UUID) -> Erasure:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            cursor = conn.cursor(row_factory=class_row(_Row))
            rows = cursor.execute(SELECT_REQUEST, {"id": id}).fetchall()
            if not rows:
                raise NotFound("there is no such erasure")
            return _erasures(conn, rows)[0]

    def recent(
        self, after: tuple[datetime, uuid.UUID] | None, limit: int
    ) -> tuple[list[Erasure], int]:
        """A page of the newest first, and how many there are in all.

        Args:
            after: time and id of the last erasure of the page before.
        """
        at, id = after or (None, None)
        with self._pool.connection() as conn:
            cursor = conn.cursor(row_factory=class_row(_Row))
            params = {"at": at, "id": id, "limit": limit}
            rows = cursor.execute(SELECT_REQUESTS, params).fetchall()
            total = conn.execute(COUNT_REQUESTS).fetchone()
            return _erasures(conn, rows), total[0] if total else 0

    def targets(
        self,
        id: uuid.UUID,
        outcome: TargetOutcome | None,
        after: uuid.UUID | None,
        limit: int,
    ) -> list[ErasureTarget]:
        """The subjects of an erasure, by id, with the outcome of each."""
        params = {
            "request": id,
            "outcome": None if outcome is None else outcome.value,
            "after": after,
            "limit": limit,
        }
        with self._pool.connection() as conn:
            return [
                ErasureTarget(subject, TargetOutcome(outcome), detail)
                for subject, outcome, detail in conn.execute(SELECT_TARGETS, params)
            ]

    def certificate(self, id: uuid.UUID) -> bytes:
        """Raises: NotFound: no such erasure, or it is not completed."""
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_CERTIFICATE, {"id": id}).fetchone()
        if row is None or row[0] is None:
            raise NotFound("there is no such erasure, or it is not completed yet")
        return bytes(row[0])


def _erasures(conn: psycopg.Connection, rows: Sequence[_Row]) -> list[Erasure]:
    progress = {row.id: ErasureProgress.of(row.times, row.waits_for) for row in rows}
    requests = list(progress)
    outcomes: dict[uuid.UUID, dict[str, int]] = {id: {} for id in requests}
    for request, outcome, count in conn.execute(COUNT_OUTCOMES, {"requests": requests}):
        outcomes[request][outcome] = count
    mentions: dict[uuid.UUID, list[NamedIn]] = {id: [] for id in requests}
    for request, *mention in conn.execute(SELECT_MENTIONS, {"requests": requests}):
        mentions[request].append(NamedIn(*mention))
    recorded = [id for id in requests if progress[id].time_of(ErasureStep.RECORDED) is not None]
    positions: dict[uuid.UUID, list[str]] = {id: [] for id in requests}
    for request, partition, at in conn.execute(SELECT_NEWEST_POSITIONS, {"requests": recorded}):
        positions[request].append(f"{partition}:{at}")
    return [
        Erasure(
            id=row.id,
            scope=ErasureScope(row.scope),
            kind=SubjectKind(row.kind),
            segment=row.segment,
            subject=row.subject,
            reason=row.reason,
            suppress=row.suppress,
            requested_by=row.requested_by,
            requested_at=progress[row.id].times[0],
            unreadable_at=progress[row.id].time_of(ErasureStep.UNREADABLE),
            recorded_at=progress[row.id].time_of(ErasureStep.RECORDED),
            forgotten_at=progress[row.id].time_of(ErasureStep.FORGOTTEN),
            cleaned_at=progress[row.id].time_of(ErasureStep.CLEANED),
            completed_at=progress[row.id].time_of(ErasureStep.COMPLETED),
            step=progress[row.id].step,
            waits_for=row.waits_for,
            outcomes=outcomes[row.id],
            unknown=row.unknown,
            position=",".join(positions[row.id]),
            named_in=merge_mentions(mentions[row.id]),
        )
        for row in rows
    ]
