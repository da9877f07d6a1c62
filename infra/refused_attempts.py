"""Attempts with a key of another scope: key, time and route; no content."""

from __future__ import annotations

import uuid
from datetime import datetime

from psycopg_pool import ConnectionPool

from domain.access import ApiScope, RefusedAttempt
from projections.kernel.paging import Page, decoded, encoded

# All attempts of a key at a route within a minute are one row.
ADD_ATTEMPT = """
INSERT INTO keys.refused_attempts (minute, key_id, method, route, scope)
VALUES (date_trunc('minute', now()), %(key)s, %(method)s, %(route)s, %(scope)s)
ON CONFLICT (minute, key_id, method, route)
DO UPDATE SET attempts = refused_attempts.attempts + 1, last_at = now()"""

SELECT_ATTEMPTS = """
SELECT minute, key_id, scope, method, route, attempts, first_at, last_at
FROM keys.refused_attempts
WHERE %(minute)s::timestamptz IS NULL
   OR (minute, key_id, method, route) < (%(minute)s, %(key)s, %(method)s, %(route)s)
ORDER BY minute DESC, key_id DESC, method DESC, route DESC LIMIT %(limit)s"""

# The table's policies let the role that writes delete no younger rows.
DELETE_OLD = """
DELETE FROM keys.refused_attempts WHERE (minute, key_id, method, route) IN (
    SELECT minute, key_id, method, route FROM keys.refused_attempts
    WHERE minute < now() - interval '1 year' ORDER BY minute LIMIT %(limit)s)"""

ROWS_AT_A_TIME = 1_000

_CURSOR = "refused-attempts"


class RefusedAttempts:
    """Stored beside the log, for a year; the role that writes them cannot delete younger ones."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def note(self, key: uuid.UUID, scope: ApiScope, *, method: str, route: str) -> None:
        params = {"key": key, "method": method, "route": route, "scope": scope.value}
        with self._pool.connection() as conn:
            conn.execute(ADD_ATTEMPT, params)

    def forget(self) -> None:
        """Deletes rows older than a year, `ROWS_AT_A_TIME` in a transaction."""
        deleted = ROWS_AT_A_TIME
        while deleted == ROWS_AT_A_TIME:
            with self._pool.connection() as conn:
                deleted = conn.execute(DELETE_OLD, {"limit": ROWS_AT_A_TIME}).rowcount

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
        after = {"minute": minute, "key": key, "method": method, "route": route}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_ATTEMPTS, after | {"limit": limit + 1}).fetchall()
        items = [RefusedAttempt(row[1], ApiScope(row[2]), *row[3:]) for row in rows[:limit]]
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = encoded(_CURSOR, last[0], last[1], last[3], last[4])
        return Page(items, following, None)
