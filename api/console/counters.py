"""Settings: the counters of metadata, their users, and their limits."""

from __future__ import annotations

from litestar import Controller, Response, get

from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest

PLACES = {"segment": "/console/segments", "saved_view": None}
"""Where owners are shown that are not among the definitions of the settings."""


class Counters(Controller):
    path = "/settings/counters"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        counters = await calls_of(request).get("/api/counters")
        return page(request, "settings/counters.html", counters=counters, places=PLACES)
