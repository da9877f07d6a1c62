"""Carries out one step of an erasure; `domain.erasure.steps` says which is next.

Each step does the work that is left, so it is safe to repeat. The caller holds the request's row
meanwhile (`infra.erasure.open_requests`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.erasure.steps import (
    ErasureStep,
    SentBack,
    StepResult,
    Taken,
    Unfinished,
    Waiting,
)
from domain.errors import BeyondHead
from domain.identity import SubjectId
from infra.erasure.certificates import Certifier
from infra.erasure.key_destruction import KeyDestruction, PlanOutdated
from infra.erasure.open_requests import OpenRequest
from infra.erasure.purge import Purge
from infra.erasure.record import SELECT_NEWEST_POSITIONS
from infra.keys.identity_index import ALL_PARTITIONS
from infra.pasts.pasts import Pasts
from infra.postgres.database import transaction_of
from projections.counters.keeper import CounterKeeper
from projections.projector.checkpoints import reached

SUBJECTS_AT_A_TIME = 1_000
"""Subjects whose keys one transaction destroys, at most."""

UNREAD_SHOWN = 10
"""Positions, at most, that an erasure says it waits for."""

STOPPED = "a partition of the log to which nothing can be appended: see past_heads in /api/status"

NEXT_TARGETS = """
SELECT subject FROM keys.erasure_targets
WHERE log_partition = ANY(%(partitions)s) AND request = %(request)s AND outcome = 'waiting'
ORDER BY subject LIMIT %(limit)s"""

SELECT_UNRECORDED = """
SELECT subject FROM keys.erasures WHERE request = %(request)s AND completed_at IS NULL
ORDER BY subject LIMIT %(limit)s"""

SELECT_POSITIONS = """
SELECT log_partition, position FROM (
    SELECT request, log_partition, position FROM keys.erasures
    UNION ALL SELECT request, log_partition, position FROM keys.erasure_mentions) recorded
WHERE request = %(request)s AND position IS NOT NULL ORDER BY log_partition, position"""

COUNT_PARKED = """
SELECT count(*) FROM views.parked v
JOIN unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS w(p, position)
  ON v.log_partition = w.p AND v.position = w.position"""

SAVE_REWRITTEN = "UPDATE keys.erasure_requests SET rewritten = %(tables)s WHERE id = ANY(%(ids)s)"

SAVE_WAL = "UPDATE keys.erasure_requests SET wal = %(wal)s WHERE id = ANY(%(ids)s)"

SAVE_CERTIFICATE = """
UPDATE keys.erasure_requests SET certificate = %(certificate)s WHERE id = %(id)s"""

log = structlog.get_logger()


class ErasureSteps:
    """Thread-safe; one instance per process.

    Args:
        pool: of the keys. views: of the read models.
    """

    def __init__(
        self,
        *,
        destruction: KeyDestruction,
        pool: ConnectionPool,
        views: ConnectionPool,
        purge: Purge,
        certifier: Certifier,
        pasts: Pasts,
        counters: CounterKeeper,
    ) -> None:
        self._destruction = destruction
        self._pool = pool
        self._views = views
        self._purge = purge
        self._certifier = certifier
        self._pasts = pasts
        self._counters = counters

    def carry_out(
        self, conn: psycopg.Connection, request: OpenRequest, step: ErasureStep
    ) -> StepResult:
        """Carries out a step of a request that the caller's transaction holds.

        Raises:
            ValueError: it is no step of a single request: `clean` takes many at once.
        """
        match step:
            case ErasureStep.UNREADABLE:
                return self._destroy_keys(conn, request)
            case ErasureStep.RECORDED:
                return self._record(conn, request)
            case ErasureStep.FORGOTTEN:
                return self._forget(conn, request)
            case ErasureStep.COMPLETED:
                return self._certify(conn, request)
            case _:
                raise ValueError(f"{step} is not carried out for a single request")

    def clean(self, conn: psycopg.Connection, requests: Sequence[OpenRequest]) -> StepResult:
        """Takes the cleaning of the database's files a piece further, for all requests that the
        caller's transaction holds."""
        ids = [request.id for request in requests]
        rewritten = set(requests[0].rewritten).intersection(*(each.rewritten for each in requests))
        since = max(
            at
            for request in requests
            if (at := request.progress.time_of(ErasureStep.FORGOTTEN)) is not None
        )
        cleaned = self._purge.clean(since, sorted(rewritten), transaction_of(conn))
        conn.execute(SAVE_REWRITTEN, {"tables": cleaned.rewritten, "ids": ids})
        if cleaned.waits_for is not None:
            return Waiting(cleaned.waits_for)
        if cleaned.again:
            return Unfinished()
        conn.execute(SAVE_WAL, {"wal": cleaned.wal, "ids": ids})
        return Taken()

    def _destroy_keys(self, conn: psycopg.Connection, request: OpenRequest) -> StepResult:
        """Destroys the keys of the next subjects, in a transaction of its own."""
        params = {
            "partitions": ALL_PARTITIONS,
            "request": request.id,
            "limit": SUBJECTS_AT_A_TIME,
        }
        subjects = [SubjectId(subject) for (subject,) in conn.execute(NEXT_TARGETS, params)]
        if not subjects:
            return Taken()
        plan = self._destruction.plan(request.id, request.ref.kind, subjects)
        with suppress(PlanOutdated), self._pool.connection() as own, own.transaction():
            self._destruction.destroy(own, plan, request.ref)
        self._destruction.drop_cached()
        return Unfinished()

    def _record(self, conn: psycopg.Connection, request: OpenRequest) -> StepResult:
        """Records redacted definitions in the log, and the next erased subjects."""
        self._destruction.apply_redactions(request.ref, request.requested_at)
        params = {"request": request.id, "limit": SUBJECTS_AT_A_TIME}
        subjects = [SubjectId(subject) for (subject,) in conn.execute(SELECT_UNRECORDED, params)]
        if not subjects:
            return Taken()
        try:
            self._destruction.record_erased(request.ref.kind, subjects, request.requested_at)
        except BeyondHead:
            return Waiting(STOPPED)
        return Unfinished()

    def _forget(self, conn: psycopg.Connection, request: OpenRequest) -> StepResult:
        """Waits for the read models, and drops the copies beside them."""
        reason = (
            self._read_models_behind(conn, request.id)
            or self._pasts_left()
            or self._counters_left()
        )
        return Taken() if reason is None else Waiting(reason)

    def _read_models_behind(self, conn: psycopg.Connection, id: uuid.UUID) -> str | None:
        """Why read models may still hold something, or None."""
        newest = [
            Position(partition, position)
            for _, partition, position in conn.execute(SELECT_NEWEST_POSITIONS, {"requests": [id]})
        ]
        if not newest:
            return None
        with self._views.connection() as views:
            if not reached(views, newest):
                return "the read models have not come to it yet"
            positions = conn.execute(SELECT_POSITIONS, {"request": id}).fetchall()
            params = {
                "partitions": [partition for partition, _ in positions],
                "positions": [position for _, position in positions],
            }
            if views.execute(COUNT_PARKED, params).fetchone() != (0,):
                return "an event that says so is parked: see the operator's page"
        return None

    def _pasts_left(self) -> str | None:
        """Drops every past, of any process; returns the obstacle, or None."""
        try:
            self._pasts.drop_all()
        except psycopg.Error as error:
            log.warning("erasures.past_not_dropped", error=type(error).__name__)
            return "the databases of pasts cannot be dropped yet"
        return None

    def _counters_left(self) -> str | None:
        """Deletes counters that can name a person; returns the obstacle, or None."""
        if self._counters.forget_names():
            return None
        return "counts of metadata that an e-mail address was asked for with are being deleted"

    def _certify(self, conn: psycopg.Connection, request: OpenRequest) -> StepResult:
        """Issues the certificate, unless names are left to be searched for in definitions."""
        lookups = self._destruction.remembered(conn, request.id)
        if not lookups:
            certificate = self._certifier.issue(conn, request.id)
            conn.execute(SAVE_CERTIFICATE, {"certificate": certificate, "id": request.id})
            return Taken()
        reason = self._search_again(request, lookups)
        if reason is not None:
            return Waiting(reason)
        # Until now the names stood somewhere: forgetting and cleaning are repeated.
        self._destruction.forget(conn, request.id)
        conn.execute(SAVE_REWRITTEN, {"tables": [], "ids": [request.id]})
        return SentBack(ErasureStep.RECORDED)

    def _search_again(self, request: OpenRequest, lookups: AbstractSet[bytes]) -> str | None:
        """Searches for names in events that did not open when the keys were destroyed; returns the
        obstacle, or None."""
        try:
            unread = self._destruction.search_again(lookups, request.ref, request.requested_at)
        except PlanOutdated:
            return "another erasure that takes names out of the same definitions"
        except BeyondHead:
            return STOPPED
        if not unread:
            return None
        positions = ", ".join(f"{at.log_partition}:{at.position}" for at in unread[:UNREAD_SHOWN])
        return (
            f"events of definitions that do not open and may name somebody: {positions} in the"
            " log; have the operator restore them"
        )
