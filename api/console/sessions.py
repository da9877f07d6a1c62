"""Sessions: an API key, sealed into a cookie that no script can read.

The cookie is the whole session, so any process of a deployment can serve it. The key inside is
looked up at every request like one that is sent over HTTP: revoked, it opens nothing any more.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler

from api.http.auth import READERS, known
from api.http.problems import ProblemException
from api.http.proxies import is_https
from domain.access import ApiScope
from infra.bootstrap.annals import Annals

COOKIE = "annals_session"
PATH = "/console"
SECONDS = 12 * 3_600
"""A working day; then the key is asked for again."""

TOKEN_HEADER = "x-csrf-token"  # noqa: S105 - the name of a header
TOKEN_FIELD = "csrf"  # noqa: S105 - the name of a field
SECRET = "console"  # noqa: S105 - the name of a secret that the key ring makes and keeps
_NONCE_BYTES = 12
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

AnyRequest = Request[Any, Any, Any]
Connection = ASGIConnection[Any, Any, Any, Any]


class NotSignedIn(Exception):
    """There is no session, or its key opens nothing any more."""


class Forged(Exception):
    """A request that changes something did not come from a page of the console."""


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """The content of a session cookie. `ends_at`: seconds since 1970."""

    key: str
    token: str
    ends_at: int


class Session(msgspec.Struct, frozen=True):
    """
    Attributes:
        token: required with every request that changes something.
    """

    key: str
    token: str
    scope: ApiScope

    @property
    def edits(self) -> bool:
        return self.scope is ApiScope.ADMIN

    @property
    def erases(self) -> bool:
        return self.scope is ApiScope.COMPLY


class Sessions:
    """Seals and opens cookies."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(secret)

    def begin(self, key: str) -> str:
        """The cookie of a new session."""
        session = Sealed(key, secrets.token_urlsafe(24), int(time.time()) + SECONDS)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, msgspec.msgpack.encode(session), COOKIE.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, cookie: str) -> Sealed | None:
        """Decrypts a cookie; None: it is not ours, or too old."""
        try:
            raw = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
            plain = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], COOKIE.encode())
            session = msgspec.msgpack.decode(plain, type=Sealed)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            return None
        return session if session.ends_at > time.time() else None


def sessions_of(annals: Annals) -> Sessions:
    return Sessions(annals.secrets.get(SECRET))


async def scope_of(connection: Connection, key: str) -> ApiScope | None:
    """The scope of a key; None: it is unknown, revoked or may not read.

    Raises:
        TooManyAtOnce: see `api.http.auth.known`.
    """
    try:
        _, scope = await known(connection, key)
    except ProblemException:
        return None
    return scope if scope in READERS else None


async def signed_in(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard: leaves the session in the connection's state.

    Raises:
        NotSignedIn.
    """
    sealed = connection.app.state.sessions.open(connection.cookies.get(COOKIE, ""))
    scope = None if sealed is None else await scope_of(connection, sealed.key)
    if sealed is None or scope is None:
        raise NotSignedIn
    connection.state.session = Session(sealed.key, sealed.token, scope)


async def came_from_a_page(request: AnyRequest) -> None:
    """Before every handler: a request that changes something needs the token of its session.

    Raises:
        Forged.
    """
    if request.method in _SAFE_METHODS:
        return
    if not same_origin(request):
        raise Forged
    session: Session | None = request.state.get("session")
    if session is None:
        return
    token = request.headers.get(TOKEN_HEADER)
    if token is None and "json" not in request.headers.get("content-type", ""):
        token = str((await request.form()).get(TOKEN_FIELD, ""))
    if not hmac.compare_digest((token or "").encode(), session.token.encode()):
        raise Forged


def same_origin(request: AnyRequest) -> bool:
    """Whether a browser says that a request comes from a page of this host. Programs say nothing,
    and have no cookies that others could use."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def cookie(
    request: AnyRequest, value: str, *, seconds: int = SECONDS, name: str = COOKIE
) -> Cookie:
    """A cookie of the console. Behind TLS it never leaves TLS."""
    return Cookie(
        name,
        path=PATH,
        value=value,
        max_age=seconds,
        httponly=True,
        samesite="lax",
        secure=is_https(request.scope, request.app.state.annals.settings.trusted_proxies),
    )
