"""Pages as of a past instant: the wait until it is made."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from litestar import Controller, Response, get
from litestar.params import FromPath

from api.console.calls import Calls, Refused
from api.console.pages import page
from api.console.sessions import AnyRequest, Session


async def being_made(request: AnyRequest, calls: Calls) -> Response[str] | None:
    """The page to show while a past is being made; None: the past is ready.

    Raises:
        Refused: this is no past instant, or none can be made.
    """
    if not calls.as_of:
        return None
    past = await calls.post("/api/pasts", {"at": calls.as_of})
    if past["state"] == "ready":
        return None
    other_pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "as_of"]
    now_url = request.scope["path"] + (f"?{urlencode(other_pairs)}" if other_pairs else "")
    return page(request, "past/making.html", past=past, now_url=now_url)


class Pasts(Controller):
    path = "/pasts"

    @get("/{id:uuid}")
    async def progress(self, request: AnyRequest, id: FromPath[UUID]) -> Response[str]:
        """How far a past is; the waiting page reloads once the past is ready, or dropped."""
        session: Session = request.state.session
        try:
            past = await Calls(request.app, session.key).get(f"/api/pasts/{id}")
        except Refused as refused:
            if refused.status != 404:
                raise
            past = None
        if past is None or past["state"] == "ready":
            answer = page(request, "past/progress.html", past=past)
            answer.headers["HX-Refresh"] = "true"
            return answer
        return page(request, "past/progress.html", past=past)
