"""The secrets that messages to destinations are signed with: each made of a stored salt and the
deployment's secret, so that the table holds none.
"""

from __future__ import annotations

import hmac
import os
from datetime import timedelta
from uuid import UUID

from psycopg_pool import ConnectionPool

from domain.errors import NotFound

SALT_BYTES = 16
EARLIER_SECRET = timedelta(hours=24)
"""How long the previous secret signs messages too."""

ADD_DESTINATION = "INSERT INTO log.destinations (id, salt) VALUES (%(id)s, %(salt)b)"

RENEW_SALT = """
UPDATE log.destinations SET earlier_salt = salt, salt = %(salt)b, renewed_at = now()
WHERE id = %(id)s"""

SELECT_SALTS = """
SELECT salt, CASE WHEN renewed_at > now() - %(earlier)s THEN earlier_salt END
FROM log.destinations WHERE id = %(id)s"""


class WebhookSecrets:
    """Thread-safe; one instance per process.

    Args:
        pool: of the log.
        secret: of the deployment.
    """

    def __init__(self, pool: ConnectionPool, secret: bytes) -> None:
        self._pool = pool
        self._secret = secret

    def __repr__(self) -> str:
        return "WebhookSecrets()"

    def add(self, id: UUID) -> bytes:
        """Adds a destination; returns its secret."""
        salt = os.urandom(SALT_BYTES)
        with self._pool.connection() as conn:
            conn.execute(ADD_DESTINATION, {"id": id, "salt": salt})
        return self._derive(id, salt)

    def renew(self, id: UUID) -> bytes:
        """Gives a destination another secret, and returns it. For `EARLIER_SECRET` messages are
        signed with the one before as well."""
        salt = os.urandom(SALT_BYTES)
        with self._pool.connection() as conn:
            conn.execute(RENEW_SALT, {"salt": salt, "id": id})
        return self._derive(id, salt)

    def of(self, id: UUID) -> list[bytes]:
        """The secrets that messages to a destination are signed with now, the newest first.

        Raises:
            NotFound: there is no such destination.
        """
        with self._pool.connection() as conn:
            params = {"earlier": EARLIER_SECRET, "id": id}
            salts = conn.execute(SELECT_SALTS, params).fetchone()
        if salts is None:
            raise NotFound("there is no such destination")
        return [self._derive(id, bytes(salt)) for salt in salts if salt is not None]

    def _derive(self, id: UUID, salt: bytes) -> bytes:
        return hmac.digest(self._secret, b"destination\0" + id.bytes + salt, "sha256")
