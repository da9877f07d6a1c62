"""Who is asking: API keys as Bearer tokens, or as Segment's Basic user name; guards by scope."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.attending import answer_of
from api.problems import ProblemException
from domain.access import ApiScope
from infra.places import Demand
from infra.wiring import Annals

READERS = (ApiScope.READ, ApiScope.AUDIT, ApiScope.COMPLY, ApiScope.ADMIN)

PLACE = "place"
"""The name of a route's option: a `Demand`."""

Connection = ASGIConnection[Any, Any, Any, Any]


def presented_key(header: str | None) -> str | None:
    """The key in an Authorization header, or None."""
    scheme, _, value = (header or "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value or None
    if scheme.lower() == "basic":
        try:
            user, _, _ = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
        return user or None
    return None


class Asker(NamedTuple):
    """The API key of a request, by id, and the scope that it has."""

    key_id: UUID
    scope: ApiScope


asking: ContextVar[Asker] = ContextVar("asking")
"""Who asks for what is being answered; set where a guard let it through."""


class Route(NamedTuple):
    """What was asked for, as it is declared: no id in it."""

    method: str
    path: str


def route_of(connection: Connection) -> Route:
    scope = connection.scope
    return Route(str(scope.get("method", "WEBSOCKET")), scope["path_template"])


def authorised(annals: Annals, key: str | None, route: Route, *scopes: ApiScope) -> Asker:
    """Who asks, if the key opens one of the scopes; that another was tried is put on record.

    Raises:
        ProblemException: 401 without a valid key, 403 with one of another scope.
    """
    if key is None:
        raise ProblemException(401, "missing-key", "send an API key: Authorization: Bearer <key>")
    found = annals.api_keys.find(key)
    if found is None:
        raise ProblemException(401, "unknown-key", "the API key is unknown or was revoked")
    if found[1] not in scopes:
        annals.refused_attempts.note(*found, method=route.method, route=route.path)
        wanted = " or ".join(scopes)
        raise ProblemException(
            403, "wrong-scope", f"this needs a key with scope {wanted}, this one has {found[1]}"
        )
    return Asker(*found)


def opens(*scopes: ApiScope) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """A guard that lets through the keys of some scopes. What readers may ask takes a place of its
    sort: what the route says by `opt={PLACE: ...}`, else that of a question."""
    usual = Demand.QUESTION if ApiScope.READ in scopes else None

    # Not a plain function: what runs in a thread of its own cannot set who asks for the handler.
    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        annals: Annals = connection.app.state.annals
        key = presented_key(connection.headers.get("authorization"))
        asker = await sync_to_thread(authorised, annals, key, route_of(connection), *scopes)
        connection.state.key_id = asker.key_id
        asking.set(asker)
        sort: Demand | None = handler.opt.get(PLACE, usual)
        if sort is not None:
            await answer_of(connection.scope).take_place(annals.places, sort, asker.key_id)

    return guard
