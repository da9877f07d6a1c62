"""The state of the service for operators and dashboards: health and lag."""

from __future__ import annotations

from collections.abc import Callable

from litestar import Controller, get

from api.http.auth import READERS, opens
from api.http.dependencies import Part
from api.http.problems import answers
from domain.errors import Unavailable
from infra.postgres.readiness import Readiness
from infra.postgres.wakeups import Wakeups
from projections.queries.status import ProjectionStatus

STATUS_PROBLEMS = answers(401, 403, 503)


class HealthController(Controller):
    path = "/health"
    tags = ("operations",)
    security = ({},)

    @get("/live", sync_to_thread=False, summary="Whether the process answers")
    def live(self) -> dict[str, str]:
        return {"status": "live"}

    @get(
        "/ready",
        summary="Whether the process can serve: the database answers, all workers move",
        responses=answers(503),
    )
    async def ready(self, readiness: Part[Readiness], wakeups: Part[Wakeups]) -> dict[str, str]:
        await readiness.require()
        stalled = wakeups.stalled()
        if stalled:
            raise Unavailable(
                f"this does not move: {', '.join(stalled)}; see /api/status and the log"
            )
        return {"status": "ready"}


class StatusController(Controller):
    path = "/api"
    tags = ("operations",)
    guards = (opens(*READERS),)

    @get(
        "/status",
        sync_to_thread=True,
        summary="The lag of the read models behind the log",
        responses=STATUS_PROBLEMS,
    )
    def status(self, lag: Part[Callable[[], ProjectionStatus]]) -> ProjectionStatus:
        return lag()
