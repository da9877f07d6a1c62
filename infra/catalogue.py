"""The closed catalogue of names: the type each property was first seen with, the events there are.

Names stand in clear, so a new one is taken only while there are few enough of them: a sender who
puts ids into names is told so, and no personal data piles up in a place that erasure cannot reach.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from psycopg_pool import ConnectionPool

from domain.decision import Scope
from domain.properties import PropertyType

NAMES_PER_SCOPE = 2_000

SELECT_NAMES = "SELECT scope, name, value_type FROM log.catalogue"

CLAIM_NAMES = """
INSERT INTO log.catalogue (scope, name, value_type)
SELECT s, n, t FROM unnest(%s::text[], %s::text[], %s::text[]) AS v(s, n, t)
ON CONFLICT DO NOTHING"""


class Catalogue:
    """Names and their types. Nothing in it ever changes, so a process may remember all of it."""

    def __init__(self, pool: ConnectionPool, *, limit: int = NAMES_PER_SCOPE) -> None:
        self._pool = pool
        self._limit = limit
        self._lock = threading.Lock()
        self._types: dict[Scope, dict[str, PropertyType]] = {}

    def types(self, scope: Scope) -> dict[str, PropertyType]:
        """The names of a scope, each with its type, as far as this process has met them."""
        return self._types.get(scope, {})

    def take(self, wanted: Mapping[tuple[Scope, str], PropertyType]) -> None:
        """Makes sure of names, each with the type that its first value suggests.

        Afterwards `types` has each of them with the type that holds (which another writer may
        have fixed first), but for those that the limit keeps out."""
        new = {key: kind for key, kind in wanted.items() if key[1] not in self.types(key[0])}
        if not new:
            return
        with self._lock:
            self._reload()
            room = {
                scope: self._limit - len(self.types(scope)) for scope in {key[0] for key in new}
            }
            claims = []
            for (scope, name), kind in sorted(new.items()):
                if name not in self.types(scope) and room[scope] > 0:
                    room[scope] -= 1
                    claims.append((scope, name, kind.value))
            if claims:
                with self._pool.connection() as conn:
                    conn.execute(
                        CLAIM_NAMES, [list(column) for column in zip(*claims, strict=True)]
                    )
                self._reload()

    def _reload(self) -> None:
        types: dict[Scope, dict[str, PropertyType]] = {}
        with self._pool.connection() as conn:
            for scope, name, kind in conn.execute(SELECT_NAMES):
                types.setdefault(scope, {})[name] = PropertyType(kind)
        self._types = types
