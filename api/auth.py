"""Who is asking: API keys as Bearer tokens, or as Segment's Basic user name; guards by scope."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.problems import ProblemException
from domain.access import ApiScope
from infra.wiring import Annals

READERS = (ApiScope.READ, ApiScope.AUDIT, ApiScope.COMPLY, ApiScope.ADMIN)

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


def authorised(annals: Annals, key: str | None, *scopes: ApiScope) -> UUID:
    """The id of the key, if it opens one of the scopes.

    Raises:
        ProblemException: 401 without a valid key, 403 with one of another scope.
    """
    if key is None:
        raise ProblemException(401, "missing-key", "send an API key: Authorization: Bearer <key>")
    found = annals.api_keys.find(key)
    if found is None:
        raise ProblemException(401, "unknown-key", "the API key is unknown or was revoked")
    if found[1] not in scopes:
        wanted = " or ".join(scopes)
        raise ProblemException(
            403, "wrong-scope", f"this needs a key with scope {wanted}, this one has {found[1]}"
        )
    return found[0]


def _annals(connection: Connection) -> Annals:
    annals: Annals = connection.app.state.annals
    return annals


def _note(annals: Annals, key: str, connection: Connection) -> None:
    """Puts on record that a key did not open a route: the route as it is declared, no id in it."""
    found = annals.api_keys.find(key)
    if found is not None:
        scope = connection.scope
        method, route = scope.get("method", "WEBSOCKET"), scope["path_template"]
        annals.refused_attempts.note(*found, method=str(method), route=route)


def opens(*scopes: ApiScope) -> Callable[[Connection, BaseRouteHandler], None]:
    """A guard that lets through the keys of some scopes, and puts others on record."""

    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        key, annals = presented_key(connection.headers.get("authorization")), _annals(connection)
        try:
            connection.state.key_id = authorised(annals, key, *scopes)
        except ProblemException as refused:
            if refused.status == 403:
                _note(annals, key or "", connection)
            raise

    return guard
