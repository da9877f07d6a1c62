"""Authentication: API keys as Bearer tokens, or as Segment's Basic user name; guards by scope."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from anyio.to_thread import run_sync
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.http.disconnects import answer_of
from api.http.limits import Limits
from api.http.problems import ProblemException
from api.http.proxies import client_address
from domain.access import ApiScope
from domain.errors import TooManyAtOnce
from infra.bootstrap.annals import Annals
from infra.postgres.admission import Demand

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
"""The API key of the request; the guard sets it."""


class Route(NamedTuple):
    """A route as it is declared, without ids."""

    method: str
    route: str


def route_of(connection: Connection) -> Route:
    scope = connection.scope
    return Route(str(scope.get("method", "WEBSOCKET")), scope["path_template"])


async def known(connection: Connection, key: str) -> tuple[UUID, ApiScope]:
    """Looks an API key up, notes its id in the connection, and counts the request.

    The event loop never asks the database: threads of their own do, so that an empty pool delays
    only requests that need it.

    Raises:
        ProblemException: 401, the key is unknown or revoked.
        TooManyAtOnce: the key asks too often, or its address presented too many wrong ones.
    """
    annals: Annals = connection.app.state.annals
    limits: Limits = connection.app.state.limits
    id_and_scope = annals.api_keys.recalled(key)
    if id_and_scope is None:
        address = client_address(connection.scope, annals.settings.trusted_proxies)
        seconds = limits.wrong_keys.seconds_to_wait(address)
        if seconds and not await run_sync(annals.api_keys.is_live, key, limiter=limits.looking_up):
            raise TooManyAtOnce(
                "too many wrong API keys came from this address; correct the key, or wait",
                retry_after=seconds,
            )
        id_and_scope = await run_sync(annals.api_keys.find, key, limiter=limits.looking_up)
        if id_and_scope is None:
            limits.wrong_keys.note(address)
            raise ProblemException(401, "unknown-key", "the API key is unknown or was revoked")
    limits.key_rates.admit(id_and_scope[0])
    connection.state.key_id = id_and_scope[0]
    return id_and_scope


async def authorised(connection: Connection, key: str | None, *scopes: ApiScope) -> Asker:
    """Returns: the API key, if it has one of the scopes. Records an attempt with another scope.

    Raises:
        ProblemException: 401 without a valid key, 403 with one of another scope.
        TooManyAtOnce: see `known`.
    """
    if key is None:
        raise ProblemException(401, "missing-key", "send an API key: Authorization: Bearer <key>")
    id, scope = await known(connection, key)
    if scope not in scopes:
        annals: Annals = connection.app.state.annals
        limits: Limits = connection.app.state.limits
        note = partial(annals.refused_attempts.note, id, scope, **route_of(connection)._asdict())
        await run_sync(note, limiter=limits.looking_up)
        wanted = " or ".join(scopes)
        raise ProblemException(
            403, "wrong-scope", f"this needs a key with scope {wanted}, this one has {scope}"
        )
    return Asker(id, scope)


def opens(*scopes: ApiScope) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """Returns a guard that admits keys of the given scopes. A request that readers may make takes a
    place of the sort in the route's `opt={PLACE: ...}`, else that of a question."""
    usual = Demand.QUESTION if ApiScope.READ in scopes else None

    # A coroutine: a guard in a thread could not set a context variable for the handler.
    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        annals: Annals = connection.app.state.annals
        key = presented_key(connection.headers.get("authorization"))
        asker = await authorised(connection, key, *scopes)
        asking.set(asker)
        sort: Demand | None = handler.opt.get(PLACE, usual)
        if sort is not None:
            await answer_of(connection.scope).take_place(annals.admission, sort, asker.key_id)

    return guard
