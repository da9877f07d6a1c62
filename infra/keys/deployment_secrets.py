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

SELECT_DEPLOYMENT_KEY = "SELECT key_encryption_key, wrapped FROM keys.secrets WHERE name = %(name)s"


class DeploymentSecrets:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping

    def get(self, name: str) -> bytes:
        """The secret of a name, made on first use; 32 bytes.

        Raises:
            WrongKeyEncryptionKey: the key-encryption key that it is under is out of reach.
        """
        while True:
            with self._pool.connection() as conn:
                row = conn.execute(SELECT_DEPLOYMENT_KEY, {"name": name}).fetchone()
                if row is None:
                    under = self._wrapping.current
                    [wrapped] = under.wrap([os.urandom(KEY_BYTES)])
                    params = {"under": under.id, "name": name, "wrapped": wrapped}
                    conn.execute(INSERT_DEPLOYMENT_KEY, params)
                    row = conn.execute(SELECT_DEPLOYMENT_KEY, {"name": name}).fetchone()
            if row is not None:
                return self._wrapping.unwrap([row])[0]
            self._wrapping.reload()  # the key-encryption key has retired
