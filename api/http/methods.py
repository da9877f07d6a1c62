"""Methods of every path: OPTIONS names them all, and HEAD answers where GET does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from litestar.enums import HttpMethod
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import (
    ASGIApp,
    HTTPDisconnectEvent,
    HTTPReceiveMessage,
    HTTPScope,
    Message,
    Receive,
    Send,
)


class NoOptionsOfHandlers(ReceiveRoutePlugin):
    """Takes away the framework's own answer to OPTIONS, which names the methods of the handler that
    it met first. Without it a path refuses OPTIONS with all of its methods, and
    `api.http.problems.on_http` answers with them."""

    def receive_route(self, route: BaseRoute) -> None:
        if isinstance(route, HTTPRoute):
            route.route_handler_map.pop("OPTIONS", None)


def with_implied(methods: Iterable[str]) -> list[str]:
    """The methods that handlers have, and those that come with them."""
    allowed = {*methods, "OPTIONS"}
    return sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)


async def answer_head(app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Answers HEAD as GET would be answered, up to the end of its headers: no stream is read."""
    ended = asyncio.Event()

    async def send_no_body(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
        elif message["type"] == "http.response.body" and not ended.is_set():
            ended.set()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive_until_ended() -> HTTPReceiveMessage:
        received = asyncio.ensure_future(receive())
        end = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait((received, end), return_when=asyncio.FIRST_COMPLETED)
            if ended.is_set():
                return HTTPDisconnectEvent(type="http.disconnect")
            return cast(HTTPReceiveMessage, received.result())
        finally:
            received.cancel()
            end.cancel()

    await app({**scope, "method": HttpMethod.GET}, receive_until_ended, send_no_body)
