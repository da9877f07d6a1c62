"""Attempts with a key of another scope, for auditors."""

from __future__ import annotations

from litestar import Controller, get

from api.http.auth import opens
from api.http.dependencies import Part
from api.http.parameters import Cursor, Limit
from api.http.problems import answers
from domain.access import ApiScope, RefusedAttempt
from infra.refused_attempts import RefusedAttempts
from projections.kernel.paging import DEFAULT_LIMIT, Page


class RefusedAttemptsController(Controller):
    path = "/api/refused-attempts"
    tags = ("API keys",)
    guards = (opens(ApiScope.AUDIT, ApiScope.COMPLY, ApiScope.ADMIN),)

    @get(
        sync_to_thread=True,
        summary="Attempts with a key of another scope, newest first",
        responses=answers(400, 401, 403, 503),
    )
    def list(
        self,
        refused_attempts: Part[RefusedAttempts],
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[RefusedAttempt]:
        return refused_attempts.list(cursor, limit)
