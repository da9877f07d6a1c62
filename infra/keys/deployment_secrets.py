"""Secrets of the deployment, such as the one that identities are hashed under.

Each is 32 random bytes under a name, wrapped as subject keys are.
"""

from __future__ import annotations

import os

from psycopg_pool import ConnectionPool

from infra.keys.key_encryption import KEY_BYTES
from infra.keys.rotation import KeyRotation

# A key-encryption key cannot retire while secrets are made under it, nor wraps any after that.
INSERT_DEPLOYMENT_KEY = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys
    WHERE id = %(under)s AND state <> 'retired' FOR SHARE)
INSERT INTO keys.secrets (name, key_encryption_key, wrapped)
SELECT %(name)s, under.id, %(wrapped)s FROM under ON CONFLICT DO NOTHING"""

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
            self._make(name)
        return self._secrets[name]

    def _read(self) -> None:
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_DEPLOYMENT_KEYS).fetchall()
        secrets = self._wrapping.unwrap([(under, wrapped) for _, under, wrapped in rows])
        self._secrets.update(zip((name for name, *_ in rows), secrets, strict=True))

    def _make(self, name: str) -> None:
        """Makes a secret, unless another process has, or the key-encryption key has retired."""
        secret, under = os.urandom(KEY_BYTES), self._wrapping.current
        [wrapped] = under.wrap([secret])
        params = {"under": under.id, "name": name, "wrapped": wrapped}
        with self._pool.connection() as conn:
            is_made = conn.execute(INSERT_DEPLOYMENT_KEY, params).rowcount == 1
        if is_made:
            self._secrets[name] = secret
        else:
            self._wrapping.reload()
            self._read()
