"""API keys: random, shown once, kept as digests; each opens one scope."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import uuid
from pathlib import Path

from psycopg_pool import ConnectionPool

from domain.access import ApiScope

CACHE_SECONDS = 2.0
CACHE_SIZE = 10_000


class ApiKeys:
    """The keys of one deployment. A revoked key stops working everywhere within two seconds."""

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
            keys.setdefault(scope.value, f"annals_{scope.value}_{secrets.token_urlsafe(32)}")
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(keys, file, indent=2)
            file.write("\n")
        temporary.replace(path)
        for scope in ApiScope:
            self.add(keys[scope.value], scope)
        return keys


def _digest(key: str) -> bytes:
    # Keys are 256 random bits: a plain hash cannot be searched through.
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
