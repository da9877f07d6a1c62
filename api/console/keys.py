"""Settings: API keys, for those of scope admin."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console.calls import Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest
from domain.access import ApiScope

Json = Any

PLACE = "/console/settings/keys"
OPENS = {
    ApiScope.WRITE: "sends events",
    ApiScope.READ: "reads users and accounts",
    ApiScope.AUDIT: "reads, and sees what was refused to whom",
    ApiScope.COMPLY: "reads, reviews and erases",
    ApiScope.ADMIN: "reads, defines, and makes API keys",
}


class Keys(Controller):
    path = "/settings/keys"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        return await self._list(request)

    @post(status_code=200)
    async def make(self, request: AnyRequest) -> Response[str]:
        """Answers with the page that shows the key: nothing else ever does."""
        form = await request.form()
        wanted = {"name": str(form.get("name", "")).strip(), "scope": str(form.get("scope", ""))}
        try:
            made = await calls_of(request).post("/api/api-keys", wanted)
        except Refused as refused:
            if refused.status != 400:
                raise
            return await self._list(request, refused=refused, sent=wanted)
        return await self._list(request, made=made)

    @post("/{id:uuid}/revoke")
    async def revoke(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        """Asks again before the last of scope admin goes."""
        even_the_last = (await request.form()).get("last") == "yes"
        try:
            await calls_of(request).delete(f"/api/api-keys/{id}{'?last=true' * even_the_last}")
        except Refused as refused:
            if refused.status != 409:
                raise
            return await self._list(request, refused=refused, last=id)
        return Redirect(PLACE, status_code=303)

    async def _list(
        self,
        request: AnyRequest,
        *,
        made: Json = None,
        refused: Refused | None = None,
        sent: Json = None,
        last: UUID | None = None,
    ) -> Response[str]:
        keys = (await calls_of(request).get("/api/api-keys"))["items"]
        return page(
            request,
            "settings/keys.html",
            status=refused.status if refused else 200,
            keys=sorted(keys, key=lambda api_key: api_key["revoked_at"] is not None),
            names={api_key["id"]: api_key["name"] or api_key["id"][:8] for api_key in keys},
            made=made,
            refused=refused,
            sent=sent or {"name": "", "scope": "read"},
            last=None if last is None else str(last),
            opens=OPENS,
        )
