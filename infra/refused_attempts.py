"""Attempts with a key of another scope: who, when and at which route; nothing of what was sent."""

from __future__ import annotations

import uuid
from datetime import datetime

from psycopg_pool import ConnectionPool

from domain.access import ApiScope, RefusedAttempt
from projections.kernel.paging import Page, decoded, encoded

# However often somebody tries within a minute, it is one row.
NOTE = """
INSERT INTO keys.refused_attempts (minute, key_id, method, route, scope)
VALUES (date_trunc('minute', now()), %s, %s, %s, %s)
ON CONFLICT (minute, key_id, method, route)
DO UPDATE SET attempts = refused_attempts.attempts + 1, last_at = now()"""

LIST = """
SELECT minute, key_id, scope, method, route, attempts, first_at, last_at
FROM keys.refused_attempts
WHERE %(minute)s::timestamptz IS NULL
   OR (minute, key_id, method, route) < (%(minute)s, %(key)s, %(method)s, %(route)s)
ORDER BY minute DESC, key_id DESC, method DESC, route DESC LIMIT %(limit)s"""

# No younger ones could be deleted: the table's policies forbid it to the role that writes.
FORGET = """
DELETE FROM keys.refused_attempts WHERE (minute, key_id, method, route) IN (
    SELECT minute, key_id, method, route FROM keys.refused_attempts
    WHERE minute < now() - interval '1 year' ORDER BY minute LIMIT %s)"""

ROWS_AT_A_TIME = 1_000

_CURSOR = "refused-attempts"


class RefusedAttempts:
    """Kept apart from the log, for a year; the role that writes them cannot delete younger ones."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def note(self, key: uuid.UUID, scope: ApiScope, *, method: str, route: str) -> None:
        with self._pool.connection() as conn:
            conn.execute(NOTE, (key, method, route, scope.value))

    def forget(self) -> None:
        """Drops what is older than a year, a transaction for so many rows."""
        dropped = ROWS_AT_A_TIME
        while dropped == ROWS_AT_A_TIME:
            with self._pool.connection() as conn:
                dropped = conn.execute(FORGET, (ROWS_AT_A_TIME,)).rowcount

    def list(self, cursor: str | None, limit: int) -> Page[RefusedAttempt]:
        """Newest first.

        Raises:
            InvalidInput: an unknown cursor.
        """
        minute, key, method, route = (
            (None, None, None, None)
            if cursor is None
            else decoded(_CURSOR, cursor, datetime, uuid.UUID, str, str)
        )
        asked = {"minute": minute, "key": key, "method": method, "route": route}
        with self._pool.connection() as conn:
            rows = conn.execute(LIST, asked | {"limit": limit + 1}).fetchall()
        items = [RefusedAttempt(row[1], ApiScope(row[2]), *row[3:]) for row in rows[:limit]]
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = encoded(_CURSOR, last[0], last[1], last[3], last[4])
        return Page(items, following, None)
