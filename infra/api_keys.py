"""API keys: random, shown once, kept as digests; each opens one scope."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import uuid
from datetime import datetime
from pathlib import Path

import msgspec
from psycopg_pool import ConnectionPool

from domain.access import ApiScope

CACHE_SECONDS = 0.5
CACHE_SIZE = 10_000


LIST = "SELECT id, scope, created_at, revoked_at FROM keys.api_keys ORDER BY created_at, id"

REVOKE = "UPDATE keys.api_keys SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL"


class ApiKeyItem(msgspec.Struct, frozen=True):
    """What is known of an API key: all but the key.

    Attributes:
        revoked_at: None while it opens its scope.
    """

    id: uuid.UUID
    scope: ApiScope
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys:
    """The keys of one deployment. A revoked key stops working everywhere within a second."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._cache: dict[bytes, tuple[float, tuple[uuid.UUID, ApiScope] | None]] = {}

    def add(self, key: str, scope: ApiScope) -> None:
        """Lets a key open a scope; a key that is there already stays as it is."""
        with self._pool.connection() as conn:
            conn.execute(
                "INSERT INTO keys.api_keys (digest, id, scope) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (_digest(key), uuid.uuid4(), scope.value),
            )

    def make(self, scope: ApiScope) -> str:
        """A new key for a scope; it is not kept anywhere."""
        key = _new_key(scope)
        self.add(key, scope)
        return key

    def list(self) -> list[ApiKeyItem]:
        """All keys that there ever were, oldest first."""
        with self._pool.connection() as conn:
            rows = conn.execute(LIST).fetchall()
        return [
            ApiKeyItem(id, ApiScope(scope), created, revoked)
            for id, scope, created, revoked in rows
        ]

    def revoke(self, id: uuid.UUID) -> bool:
        """Lets a key open nothing any more; False where there is none that does."""
        with self._pool.connection() as conn:
            is_revoked = conn.execute(REVOKE, (id,)).rowcount == 1
        self._cache.clear()
        return is_revoked

    def find(self, key: str) -> tuple[uuid.UUID, ApiScope] | None:
        """The id and the scope of a key; None where it is unknown or revoked."""
        digest, now = _digest(key), time.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        with self._pool.connection() as conn:
            row = conn.execute(
                "SELECT id, scope FROM keys.api_keys WHERE digest = %s AND revoked_at IS NULL",
                (digest,),
            ).fetchone()
        found = None if row is None else (row[0], ApiScope(row[1]))
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        self._cache[digest] = (now + CACHE_SECONDS, found)
        return found

    def at_hand(self, path: Path) -> dict[str, str]:
        """One key for each scope, kept in a file (mode 0600) and made where there was none."""
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
        for scope in ApiScope:
            self.add(keys[scope.value], scope)
        return keys


def _new_key(scope: ApiScope) -> str:
    return f"annals_{scope.value}_{secrets.token_urlsafe(32)}"


def _digest(key: str) -> bytes:
    # Keys are 256 random bits: a plain hash cannot be searched through.
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
