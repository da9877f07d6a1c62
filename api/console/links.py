"""Settings: the links from users and accounts to their records in other apps."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Response, get, post
from litestar.response import Redirect

from api.console.calls import Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest
from domain.definitions.links import ATTRIBUTES
from domain.identity import SubjectKind

Json = Any

PLACE = "/console/settings/links"
FIELDS = ("kind", "name", "url")


class Links(Controller):
    path = "/settings/links"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        settings = await calls_of(request).get("/api/settings")
        return self._list(request, settings["links"], None)

    @post()
    async def choose(self, request: AnyRequest) -> Response[Any]:
        """Keeps the rows of the form, without those that were emptied."""
        calls, form = calls_of(request), await request.form()
        rows = [
            dict(zip(FIELDS, map(str, row), strict=True))
            for row in zip(*(form.getall(name, []) for name in FIELDS), strict=False)
        ]
        links = [
            {name: text.strip() for name, text in row.items()}
            for row in rows
            if row["name"].strip() or row["url"].strip()
        ]
        settings = await calls.get("/api/settings")
        try:
            await calls.put("/api/settings", settings["chosen"] | {"links": links})
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return self._list(request, links, refused)
        return Redirect(f"{PLACE}?saved=1", status_code=303)

    def _list(self, request: AnyRequest, links: Json, refused: Refused | None) -> Response[str]:
        return page(
            request,
            "settings/links.html",
            status=refused.status if refused else 200,
            links=links,
            refused=refused,
            kinds=list(SubjectKind),
            attributes=ATTRIBUTES,
        )
