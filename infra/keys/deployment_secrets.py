"""Secrets of the deployment, such as the one that identities are hashed under.

Each is 32 random bytes under a name, wrapped as subject keys are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from psycopg_pool import ConnectionPool

from infra.keys.key_encryption import KEY_BYTES
from infra.keys.rotation import KeyRotation

FIRST = (
    "certificates",
    "console",
    "definitions",
    "destinations",
    "erasures",
    "lookup",
    "message",
    "saved views",
    "transition",
)
"""The names of those that every deployment has, made together at its first start."""

# A key-encryption key cannot retire while secrets are made under it, nor wraps any after that.
INSERT_DEPLOYMENT_KEYS = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys
    WHERE id = %(under)s AND state <> 'retired' FOR SHARE)
INSERT INTO keys.secrets (name, key_encryption_key, wrapped)
SELECT w.name, under.id, w.wrapped
FROM under CROSS JOIN unnest(%(names)s::text[], %(wrapped)s::bytea[]) AS w(name, wrapped)
ON CONFLICT DO NOTHING RETURNING name"""

SELECT_DEPLOYMENT_KEYS = "SELECT name, key_encryption_key, wrapped FROM keys.secrets"


class DeploymentSecrets:
    """Reads all of them once: a secret never changes. Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self._secrets: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """The secret of a name, made on first use; 32 bytes.

        Raises:
            WrongKeyEncryptionKey: the key-encryption key that a secret is under is out of reach.
        """
        if not self._secrets:
            self._read()
        while name not in self._secrets:
            self._make(sorted({name, *FIRST} - self._secrets.keys()))
        return self._secrets[name]

    def _read(self) -> None:
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_DEPLOYMENT_KEYS).fetchall()
        secrets = self._wrapping.unwrap([(under, wrapped) for _, under, wrapped in rows])
        self._secrets.update(zip((name for name, *_ in rows), secrets, strict=True))

    def _make(self, names: Sequence[str]) -> None:
        """Makes secrets, unless another process has, or the key-encryption key has retired."""
        secrets = {name: os.urandom(KEY_BYTES) for name in names}
        under = self._wrapping.current
        params = {"under": under.id, "names": names, "wrapped": under.wrap([*secrets.values()])}
        with self._pool.connection() as conn:
            made = {name for (name,) in conn.execute(INSERT_DEPLOYMENT_KEYS, params)}
        self._secrets.update((name, secrets[name]) for name in made)
        if len(made) < len(names):
            self._wrapping.reload()
            self._read()
