"""Idempotency keys of erasure requests: each stands for one request, for 30 days.

The table holds keyed hashes of the key and of the request's words, never the words.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import psycopg

from domain.errors import Conflict, Unavailable
from infra.keys.digests import KeyedDigest

KEY_MEMORY = timedelta(days=30)
"""How long a key stands for its request."""

CLAIM_KEY = """
INSERT INTO keys.erasure_tokens (token, question, request)
VALUES (%(token)b, %(question)b, %(request)b) ON CONFLICT DO NOTHING"""

SELECT_CLAIM = "SELECT question, request FROM keys.erasure_tokens WHERE token = %(token)b"

FORGET_CLAIMS = "DELETE FROM keys.erasure_tokens WHERE taken_at < %(before)s"


class IdempotencyKeys:
    """Safe for use from many threads.

    Args:
        secret: of the deployment; the hashes are keyed with it.
    """

    def __init__(self, secret: bytes) -> None:
        self._digest = KeyedDigest(secret)

    def find(
        self, conn: psycopg.Connection, key: str, question: str, *, by: str
    ) -> uuid.UUID | None:
        """The request that a key of an officer stands for, if there is one.

        Raises:
            Conflict: the key was sent with another question.
        """
        row = conn.execute(SELECT_CLAIM, {"token": self._token(by, key)}).fetchone()
        if row is None:
            return None
        claimed_question, request = row
        if bytes(claimed_question) != self._question(question):
            raise Conflict(
                "this idempotency key was used for another erasure: send a new one",
                pointer="/Idempotency-Key",
            )
        return uuid.UUID(str(request))

    def claim(
        self, conn: psycopg.Connection, key: str, question: str, *, by: str, request: uuid.UUID
    ) -> uuid.UUID:
        """Ties a key to a request, in the caller's transaction, unless it is tied to an earlier
        one; returns the request that it is tied to.

        Raises:
            Conflict: as `find`.
            Unavailable: the key was forgotten at this moment.
        """
        claim = {
            "token": self._token(by, key),
            "question": self._question(question),
            "request": request,
        }
        if conn.execute(CLAIM_KEY, claim).rowcount:
            return request
        earlier = self.find(conn, key, question, by=by)
        if earlier is None:
            raise Unavailable("the idempotency key expired a moment ago: send the request again")
        return earlier

    @staticmethod
    def forget(conn: psycopg.Connection, now: datetime) -> None:
        """Deletes the keys that are older than `KEY_MEMORY`."""
        conn.execute(FORGET_CLAIMS, {"before": now - KEY_MEMORY})

    def _token(self, by: str, key: str) -> bytes:
        return self._digest(f"token\0{by}\0{key}")

    def _question(self, question: str) -> bytes:
        return self._digest(f"question\0{question}")
