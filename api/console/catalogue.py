"""Settings: the names of the catalogue; admins retire them, restore them, and change types."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console.calls import Calls, Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest
from domain.identity import SubjectKind
from domain.name_rules import NAMES_PER_SCOPE, NameScope, property_scope
from domain.properties import PropertyType

Json = Any

PLACE = "/console/settings/catalogue"
RULED = {scope.value for scope in NameScope}
"""Scopes of names that can be retired; those of channels come and go by themselves."""

TYPED = {property_scope(kind).value for kind in SubjectKind}


class CataloguePage(Controller):
    path = "/settings/catalogue"

    @get()
    async def view(self, request: AnyRequest) -> Response[str]:
        return await _page(request, calls_of(request))

    @post("/{step:str}", status_code=200)
    async def change(self, request: AnyRequest, step: FromPath[str]) -> Response[Any]:
        """Retires a name, restores it, or gives it a type, once the effect was shown."""
        if step not in ("retire", "restore", "type"):
            raise Refused(404, "not-found", "There is no such page.", None)
        calls, form = calls_of(request), await request.form()
        scope, name, type = (str(form.get(field, "")) for field in ("scope", "name", "type"))
        body: Json = {"scope": scope, "names": [name]}
        if step == "type":
            body = {"scope": scope, "name": name, "type": type}
            body["preview"] = form.get("sure") != "yes"
        try:
            done = await calls.post(f"/api/catalogue/{step}", body)
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return await _page(request, calls, refused=refused)
        if body.get("preview"):
            return await _page(request, calls, preview={**body, **done})
        with suppress(Refused):  # the read models are behind, and the page shows them as they are
            await calls.get("/api/catalogue/events", wait_for=done["position"])
        retired = "&retired=true" if step == "restore" else ""
        return Redirect(f"{PLACE}?saved={step}{retired}", status_code=303)


async def _page(
    request: AnyRequest,
    calls: Calls,
    *,
    refused: Refused | None = None,
    preview: Json = None,
) -> Response[str]:
    retired = request.query_params.get("retired") == "true"
    body = {"retired": "true"} if retired else {}
    properties = (await calls.get("/api/catalogue/properties", **body))["items"]
    events = (await calls.get("/api/catalogue/events", **body))["items"]
    return page(
        request,
        "settings/catalogue.html",
        status=refused.status if refused else 200,
        items=[*properties, *events],
        retired=retired,
        ruled=RULED,
        typed=TYPED,
        types=list(PropertyType),
        limit=NAMES_PER_SCOPE,
        done=request.query_params.get("saved"),
        refused=refused,
        preview=preview,
    )
