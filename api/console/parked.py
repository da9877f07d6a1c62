"""Settings: events that could not be applied; admins try them again, or go on without them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console.calls import Calls, Refused, segment_of_path
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest
from domain.parked_events import MAX_REASON_CHARS, ParkedState

Json = Any

PLACE = "/console/settings/parked"
STATES = {
    ParkedState.FAILED: "cannot be applied",
    ParkedState.WAITING: "waits behind another",
    ParkedState.SKIPPED: "skipped",
}
OURS = "main"
"""The reader that makes the read models."""


class ParkedPage(Controller):
    path = "/settings/parked"

    @get()
    async def view(self, request: AnyRequest) -> Response[str]:
        return await _page(request, calls_of(request))

    @post("/{reader:str}/{position:str}/{step:str}", status_code=200)
    async def handle(
        self,
        request: AnyRequest,
        reader: FromPath[str],
        position: FromPath[str],
        step: FromPath[str],
    ) -> Response[Any]:
        """Tries again, or skips with a reason."""
        if step not in ("retry", "skip"):
            raise Refused(404, "not-found", "There is no such page.", None)
        calls, form = calls_of(request), await request.form()
        reason = str(form.get("reason", ""))
        reader, position = unquote(reader), unquote(position)
        address = f"/api/parked/{segment_of_path(reader)}/{segment_of_path(position)}/{step}"
        try:
            retried = await calls.post(address, {"reason": reason} if step == "skip" else {})
        except Refused as refused:
            if refused.status not in (400, 404, 409):
                raise
            wrong = {"reader": reader, "position": position, "reason": reason}
            return await _page(request, calls, refused=refused, wrong=wrong)
        if retried["left"]:
            return await _page(request, calls, retried=retried)
        return Redirect(f"{PLACE}?saved=1", status_code=303)


async def _page(
    request: AnyRequest,
    calls: Calls,
    *,
    refused: Refused | None = None,
    wrong: Json = None,
    retried: Json = None,
) -> Response[str]:
    cursor = request.query_params.get("cursor")
    state = request.query_params.get("state")
    shown = state if state in set(ParkedState) else None
    answer = await calls.get("/api/parked", state=shown, cursor=cursor)
    status = await calls.get("/api/status")
    return page(
        request,
        "settings/parked.html",
        status=refused.status if refused else 200,
        items=answer["items"],
        following=answer["next"],
        shown=shown,
        counts=status["parked_by_reader"],
        states=STATES,
        ours=OURS,
        longest=MAX_REASON_CHARS,
        refused=refused,
        wrong=wrong,
        retried=retried,
    )
