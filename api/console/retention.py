"""Settings: the retention of tracked activity, and its runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Response, get, post
from litestar.response import Redirect

from api.console.calls import Calls, Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest, Session
from domain.access import ApiScope
from domain.definitions.retention import MAX_MONTHS, Counts, kept_since
from domain.identity import LOG_PARTITIONS

Json = Any

MAX_DIGITS = 9
PLACE = "/console/settings/retention"
SEES_RUNS = (ApiScope.AUDIT, ApiScope.COMPLY, ApiScope.ADMIN)
COUNTS = {
    Counts.KEEP: "stay: how often who did what on which day",
    Counts.DROP: "go with it",
}


class RetentionPage(Controller):
    path = "/settings/retention"

    @get()
    async def view(self, request: AnyRequest) -> Response[str]:
        calls = calls_of(request)
        chosen = (await calls.get("/api/settings"))["retention"]
        return await self._page(request, calls, _form(chosen))

    @get("/runs")
    async def runs(self, request: AnyRequest) -> Response[str]:
        runs = await _runs(calls_of(request))
        return page(request, "settings/retention_runs.html", runs=runs, all=LOG_PARTITIONS)

    @post(status_code=200)
    async def choose(self, request: AnyRequest) -> Response[Any]:
        """Asks again where activity would go that is still there: there is no way back."""
        calls, form = calls_of(request), await request.form()
        sent = {name: str(form.get(name, "")).strip() for name in ("months", "counts")}
        months = _months(sent["months"])
        ends = await self._would_end(calls, months)
        if ends is not None and form.get("sure") != f"{ends:%Y-%m}":
            return await self._page(request, calls, sent, ends=ends)
        retention = {"months": months, "counts": sent["counts"]} if sent["months"] else None
        chosen = (await calls.get("/api/settings"))["chosen"]
        try:
            await calls.put("/api/settings", chosen | {"retention": retention})
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return await self._page(request, calls, sent, refused=refused)
        return Redirect(f"{PLACE}?saved=1", status_code=303)

    async def _would_end(self, calls: Calls, months: int | str) -> datetime | None:
        """Up to when activity would go; None: none that is there, or the months are not valid."""
        if isinstance(months, str) or not 1 <= months <= MAX_MONTHS:
            return None
        ends = kept_since(datetime.now(UTC), months)
        over = max(
            (datetime.fromisoformat(run["ends"]) for run in await _runs(calls)), default=None
        )
        return ends if over is None or ends > over else None

    async def _page(
        self,
        request: AnyRequest,
        calls: Calls,
        sent: Json,
        *,
        refused: Refused | None = None,
        ends: datetime | None = None,
    ) -> Response[str]:
        session: Session = request.state.session
        return page(
            request,
            "settings/retention.html",
            status=refused.status if refused else 200,
            sent=sent,
            refused=refused,
            ends=ends,
            counts=COUNTS,
            runs=await _runs(calls) if session.scope in SEES_RUNS else None,
            all=LOG_PARTITIONS,
        )


async def _runs(calls: Calls) -> Json:
    return (await calls.get("/api/retention/runs"))["items"]


def _months(text: str) -> int | str:
    """Parses a number; any other text stays a text: the API refuses it."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else text


def _form(chosen: Json) -> Json:
    if chosen is None:
        return {"months": "", "counts": Counts.KEEP.value}
    return chosen | {"months": str(chosen["months"])}
