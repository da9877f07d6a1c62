"""Runs of retention, which end old tracked activity: for officers and auditors."""

from __future__ import annotations

from litestar import Controller, get

from api.http.auth import opens
from api.http.dependencies import Part
from api.http.problems import answers
from domain.access import ApiScope
from domain.definitions.retention import RetentionRun
from infra.erasure.retention import RetentionRuns
from projections.kernel.paging import Page


class RetentionController(Controller):
    """Months are chosen in the settings; `waits_for` names no more than a reason code."""

    path = "/api/retention/runs"
    tags = ("compliance",)
    guards = (opens(ApiScope.AUDIT, ApiScope.COMPLY, ApiScope.ADMIN),)

    @get(
        sync_to_thread=True,
        summary="Runs of retention, newest first, with their progress and obstacles",
        responses=answers(401, 403, 503),
    )
    def list(self, retention: Part[RetentionRuns]) -> Page[RetentionRun]:
        items = retention.runs()
        return Page(items, None, len(items))
