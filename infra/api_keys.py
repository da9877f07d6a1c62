"""API keys: random, shown once, stored as digests; each opens one scope."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import uuid
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import msgspec
from psycopg_pool import ConnectionPool

from domain.access import ApiScope
from domain.errors import Conflict, NotFound

CACHE_SECONDS = 0.5
LIVE_SECONDS = 1.0
CACHE_SIZE = 10_000

SELECT_OPENING = """
SELECT id FROM keys.api_keys WHERE id = ANY(%(ids)s) AND revoked_at IS NULL"""

SELECT_LIVE = "SELECT digest FROM keys.api_keys WHERE revoked_at IS NULL"

ADD_KEY = """
INSERT INTO keys.api_keys (digest, id, scope, name, made_by)
VALUES (%(digest)s, %(id)s, %(scope)s, %(name)s, %(by)s) ON CONFLICT DO NOTHING"""

# `last_seen` is exact to the minute: most requests write nothing.
FIND_KEY = """
WITH seen AS (
    UPDATE keys.api_keys SET last_seen = now()
    WHERE digest = %(digest)s AND revoked_at IS NULL
      AND (last_seen IS NULL OR last_seen < now() - interval '1 minute'))
SELECT id, scope FROM keys.api_keys WHERE digest = %(digest)s AND revoked_at IS NULL"""

SELECT_KEYS = """
SELECT id, scope, name, created_at, made_by, last_seen, revoked_at, revoked_by
FROM keys.api_keys ORDER BY created_at, id"""

LOCK_ADMINS = """
SELECT id FROM keys.api_keys WHERE scope = 'admin' AND revoked_at IS NULL ORDER BY id FOR UPDATE"""

REVOKE_KEY = """
UPDATE keys.api_keys SET revoked_at = now(), revoked_by = %(by)s
WHERE id = %(id)s AND revoked_at IS NULL"""


class ApiKeyItem(msgspec.Struct, frozen=True):
    """An API key as it is listed: everything but the key.

    Attributes:
        made_by, revoked_by: the API key that asked for it; None: a start, or a command on the
            server.
        last_seen: to the minute; None: not since Annals stores it.
        revoked_at: None while it opens its scope.
    """

    id: uuid.UUID
    scope: ApiScope
    name: str | None
    created_at: datetime
    made_by: uuid.UUID | None
    last_seen: datetime | None
    revoked_at: datetime | None
    revoked_by: uuid.UUID | None


class ApiKeys:
    """The keys of one deployment. A revoked key stops working everywhere within a second."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._cache: dict[bytes, tuple[float, tuple[uuid.UUID, ApiScope] | None]] = {}
        self._live: tuple[float, frozenset[bytes]] = (0.0, frozenset())

    def add(
        self,
        key: str,
        scope: ApiScope,
        *,
        name: str | None = None,
        by: uuid.UUID | None = None,
    ) -> uuid.UUID:
        """Lets a key open a scope, under a new id; a key that is known already stays as it is."""
        id = uuid.uuid4()
        with self._pool.connection() as conn:
            conn.execute(ADD_KEY, _row(key, id, scope, name, by))
        return id

    def make(
        self, scope: ApiScope, *, name: str | None = None, by: uuid.UUID | None = None
    ) -> tuple[uuid.UUID, str]:
        """A new key for a scope, and its id; the key is not stored anywhere.

        Args:
            by: the API key that asked for it.
        """
        key = _new_key(scope)
        return self.add(key, scope, name=name, by=by), key

    def list(self) -> list[ApiKeyItem]:
        """All keys ever made, oldest first."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_KEYS).fetchall()
        return [ApiKeyItem(id, ApiScope(scope), *rest) for id, scope, *rest in rows]

    def get(self, id: uuid.UUID) -> ApiKeyItem:
        """Raises: NotFound: there never was such a key."""
        item = next((item for item in self.list() if item.id == id), None)
        if item is None:
            raise NotFound("there is no such API key")
        return item

    def revoke(
        self, id: uuid.UUID, *, by: uuid.UUID | None = None, even_the_last: bool = False
    ) -> bool:
        """Revokes a key; False: there is no such key, or it is revoked already.

        Args:
            by: the API key that asked for it.
            even_the_last: revokes the last key of scope admin, too.

        Raises:
            Conflict: it is the last key of scope admin.
        """
        with self._pool.connection() as conn, conn.transaction():
            # Two admins who revoke each other's key take turns here: one of the keys is the last.
            admins = [row[0] for row in conn.execute(LOCK_ADMINS)]
            if admins == [id] and not even_the_last:
                raise Conflict(
                    "this is the last API key of scope admin: without one, keys are made on the"
                    " server alone (annals api-keys make admin); say so to revoke it all the same"
                )
            is_revoked = conn.execute(REVOKE_KEY, {"by": by, "id": id}).rowcount == 1
        self._cache.clear()
        return is_revoked

    def find(self, key: str) -> tuple[uuid.UUID, ApiScope] | None:
        """The id and the scope of a key; None: it is unknown or revoked."""
        digest, now = _digest(key), time.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        with self._pool.connection() as conn:
            row = conn.execute(FIND_KEY, {"digest": digest}).fetchone()
        known = None if row is None else (row[0], ApiScope(row[1]))
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        self._cache[digest] = (now + CACHE_SECONDS, known)
        return known

    def recalled(self, key: str) -> tuple[uuid.UUID, ApiScope] | None:
        """The result of `find` where it is cached; None says nothing. Never reads the database."""
        cached = self._cache.get(_digest(key))
        return cached[1] if cached is not None and cached[0] > time.monotonic() else None

    def is_live(self, key: str) -> bool:
        """Whether a key opens anything, or did up to a second ago. Reads the database once a second
        at most, for any number of keys."""
        until, digests = self._live
        now = time.monotonic()
        if now >= until:
            with self._pool.connection() as conn:
                digests = frozenset(digest for (digest,) in conn.execute(SELECT_LIVE))
            self._live = (now + LIVE_SECONDS, digests)
        return _digest(key) in digests

    def opening(self, ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
        """Returns the ids of the keys that are not revoked."""
        if not ids:
            return set()
        with self._pool.connection() as conn:
            return {id for (id,) in conn.execute(SELECT_OPENING, {"ids": list(ids)})}

    def at_hand(self, path: Path) -> dict[str, str]:
        """Returns a key for each scope from a file (mode 0600); makes and writes the missing
        ones."""
        keys: dict[str, str] = {}
        if path.exists():
            keys = json.loads(path.read_text())
        for scope in ApiScope:
            keys.setdefault(scope.value, _new_key(scope))
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(keys, file, indent=2)
            file.write("\n")
        temporary.replace(path)
        rows = [_row(keys[scope.value], uuid.uuid4(), scope) for scope in ApiScope]
        with self._pool.connection() as conn, conn.transaction(), conn.cursor() as cursor:
            cursor.executemany(ADD_KEY, rows)
        return keys


def _row(
    key: str,
    id: uuid.UUID,
    scope: ApiScope,
    name: str | None = None,
    by: uuid.UUID | None = None,
) -> dict[str, object]:
    return {"digest": _digest(key), "id": id, "scope": scope.value, "name": name, "by": by}


def _new_key(scope: ApiScope) -> str:
    return f"annals_{scope.value}_{secrets.token_urlsafe(32)}"


def _digest(key: str) -> bytes:
    # Keys are 256 random bits: nobody can find one by its plain hash.
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
