"""What is on record of erasures: each request, how far it is, whom it is about, its certificate."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from domain.erasure.erasure import (
    Erasure,
    ErasureScope,
    ErasureTarget,
    NamedIn,
    TargetOutcome,
    together,
)
from domain.erasure.steps import ErasureStep
from domain.errors import NotFound
from domain.identity import SubjectKind

NEWEST_PLACES = """
SELECT request, log_partition, max(position) FROM (
    SELECT request, log_partition, position FROM keys.erasures
    UNION ALL SELECT request, log_partition, position FROM keys.erasure_mentions) said
WHERE request = ANY(%s) AND position IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""

NAMED_IN = """
SELECT request, what, id, versions, places FROM keys.erasure_mentions
WHERE request = ANY(%s) ORDER BY what, id, content"""

SELECT_REQUEST = """
SELECT r.*, CASE WHEN scope = 'one' THEN (
           SELECT subject FROM keys.erasure_targets t WHERE t.request = r.id LIMIT 1) END AS subject
FROM keys.erasure_requests r WHERE id = %s"""

SELECT_REQUESTS = """
SELECT r.*, CASE WHEN scope = 'one' THEN (
           SELECT subject FROM keys.erasure_targets t WHERE t.request = r.id LIMIT 1) END AS subject
FROM keys.erasure_requests r
WHERE %(at)s::timestamptz IS NULL OR (requested_at, id) < (%(at)s, %(id)s)
ORDER BY requested_at DESC, id DESC LIMIT %(limit)s"""

COUNT_REQUESTS = "SELECT count(*) FROM keys.erasure_requests"

COUNT_OUTCOMES = """
SELECT request, outcome, count(*) FROM keys.erasure_targets
WHERE request = ANY(%s) GROUP BY 1, 2"""

SELECT_TARGETS = """
SELECT subject, outcome, detail FROM keys.erasure_targets
WHERE request = %(request)s AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
  AND (%(after)s::uuid IS NULL OR subject > %(after)s)
ORDER BY subject LIMIT %(limit)s"""


class ErasureRecord:
    """Read by officers and auditors; written by `infra.erasure.process`."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def get(self, id: uuid.UUID) -> Erasure:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            rows = conn.cursor(row_factory=dict_row).execute(SELECT_REQUEST, (id,)).fetchall()
            if not rows:
                raise NotFound("there is no such erasure")
            return self._shown(conn, rows)[0]

    def recent(
        self, after: tuple[datetime, uuid.UUID] | None, limit: int
    ) -> tuple[list[Erasure], int]:
        """Newest first, after a place, and how many there are in all."""
        at, id = after or (None, None)
        with self._pool.connection() as conn:
            rows = (
                conn.cursor(row_factory=dict_row)
                .execute(SELECT_REQUESTS, {"at": at, "id": id, "limit": limit})
                .fetchall()
            )
            total = conn.execute(COUNT_REQUESTS).fetchone()
            return self._shown(conn, rows), total[0] if total else 0

    def targets(
        self,
        id: uuid.UUID,
        outcome: TargetOutcome | None,
        after: uuid.UUID | None,
        limit: int,
    ) -> list[ErasureTarget]:
        """Whom an erasure is about, by their ids, and what became of each."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                SELECT_TARGETS,
                {
                    "request": id,
                    "outcome": None if outcome is None else outcome.value,
                    "after": after,
                    "limit": limit,
                },
            )
            return [ErasureTarget(row[0], TargetOutcome(row[1]), row[2]) for row in rows]

    def certificate(self, id: uuid.UUID) -> bytes:
        """Raises: NotFound: no such erasure, or it is not completed."""
        with self._pool.connection() as conn:
            row = conn.execute(
                "SELECT certificate FROM keys.erasure_requests WHERE id = %s", (id,)
            ).fetchone()
        if row is None or row[0] is None:
            raise NotFound("there is no such erasure, or it is not completed yet")
        return bytes(row[0])

    def _shown(self, conn: psycopg.Connection, rows: Sequence[Mapping[str, Any]]) -> list[Erasure]:
        outcomes: dict[uuid.UUID, dict[str, int]] = {row["id"]: {} for row in rows}
        for request, outcome, count in conn.execute(COUNT_OUTCOMES, (list(outcomes),)):
            outcomes[request][outcome] = count
        named: dict[uuid.UUID, list[NamedIn]] = {row["id"]: [] for row in rows}
        for request, *one in conn.execute(NAMED_IN, (list(named),)):
            named[request].append(NamedIn(*one))
        recorded = [row["id"] for row in rows if row["recorded_at"] is not None]
        places: dict[uuid.UUID, list[str]] = {request: [] for request in outcomes}
        for request, partition, at in conn.execute(NEWEST_PLACES, (recorded,)):
            places[request].append(f"{partition}:{at}")
        shown = []
        for row in rows:
            fields = {
                name: row[name]
                for name in Erasure.__struct_fields__
                if name in row and name not in ("scope", "kind")
            }
            shown.append(
                Erasure(
                    scope=ErasureScope(row["scope"]),
                    kind=SubjectKind(row["kind"]),
                    step=_step_of(row),
                    outcomes=outcomes[row["id"]],
                    position=",".join(places[row["id"]]),
                    named_in=together(named[row["id"]]),
                    **fields,
                )
            )
        return shown


def _step_of(row: Mapping[str, Any]) -> ErasureStep:
    for step in reversed(ErasureStep):
        if step is not ErasureStep.ACCEPTED and row[f"{step}_at"] is not None:
            return step
    return ErasureStep.ACCEPTED
