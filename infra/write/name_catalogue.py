"""The closed catalogue of names: the type each property was first seen with, the events there are.

Names stand in clear, so a new one is taken only while there are few enough of them: a sender who
puts ids into names is told so, and no personal data piles up in a place that erasure cannot reach.
An admin retires names that should not be there, which makes room for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping

from psycopg_pool import ConnectionPool

from domain.name_rules import NAMES_PER_SCOPE, CatalogueName, NameRules, NameScope
from domain.properties import PropertyType

SELECT_NAMES = "SELECT scope, name, value_type FROM log.catalogue"

CLAIM_NAMES = """
INSERT INTO log.catalogue (scope, name, value_type)
SELECT s, n, t FROM unnest(%s::text[], %s::text[], %s::text[]) AS v(s, n, t)
ON CONFLICT DO NOTHING"""

Types = dict[str, PropertyType]


class _Known:
    """The names as a process has met them, and the rules that hold of them; never changed.

    Attributes:
        claimed: all names, each with its type.
        used: those that are not retired. retired: the others, and those that nobody sent.
    """

    def __init__(self, claimed: Mapping[NameScope, Types], rules: NameRules) -> None:
        self.claimed = claimed
        self.rules = rules
        self.retired: dict[NameScope, set[str]] = {scope: set() for scope in NameScope}
        for scope, name in rules.retired:
            self.retired[scope].add(name)
        self.used: dict[NameScope, Types] = {
            scope: {
                name: rules.type_of(scope, name) or kind
                for name, kind in types.items()
                if name not in self.retired[scope]
            }
            for scope, types in claimed.items()
        }


class NameCatalogue:
    """Names and their types. No name ever goes, so a process may remember all of them.

    Args:
        rules: what holds of names now, or held less than a second ago.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        rules: Callable[[], NameRules],
        *,
        limit: int = NAMES_PER_SCOPE,
    ) -> None:
        self._pool = pool
        self._rules = rules
        self._limit = limit
        self._lock = threading.Lock()
        self._known = _Known({}, NameRules())

    def types(self, scope: NameScope) -> Mapping[str, PropertyType]:
        """The names of a scope that are in use, each with its type, as far as this process has met
        them."""
        return self._known.used.get(scope, {})

    def retired(self, scope: NameScope) -> Collection[str]:
        """The names of a scope under which nothing is taken."""
        return self._known.retired[scope]

    def take(self, wanted: Mapping[CatalogueName, PropertyType]) -> None:
        """Makes sure of names, each with the type that its first value suggests.

        Afterwards `types` has each of them with the type that holds (which another writer may
        have fixed first), but for those that are retired and those that the limit keeps out."""
        rules = self._rules()
        if rules is not self._known.rules:
            with self._lock:
                self._known = _Known(self._known.claimed, rules)
        if not self._unclaimed(wanted):
            return
        with self._lock:
            self._reload()
            room = {scope: self._limit - len(self.types(scope)) for scope in NameScope}
            claims = []
            for (scope, name), kind in sorted(self._unclaimed(wanted).items()):
                if room[scope] > 0:
                    room[scope] -= 1
                    claims.append((scope.value, name, kind.value))
            if claims:
                with self._pool.connection() as conn:
                    conn.execute(
                        CLAIM_NAMES, [list(column) for column in zip(*claims, strict=True)]
                    )
                self._reload()

    def claimed(self, scope: NameScope) -> Mapping[str, PropertyType]:
        """The names of a scope that were ever taken, by any process, retired ones included."""
        with self._lock:
            self._reload()
            return self._known.claimed.get(scope, {})

    def _unclaimed(
        self, wanted: Mapping[CatalogueName, PropertyType]
    ) -> dict[CatalogueName, PropertyType]:
        known = self._known
        return {
            one: kind
            for one, kind in wanted.items()
            if one.name not in known.claimed.get(one.scope, {})
            and one.name not in known.retired[one.scope]
        }

    def _reload(self) -> None:
        claimed: dict[NameScope, Types] = {}
        with self._pool.connection() as conn:
            for scope, name, kind in conn.execute(SELECT_NAMES):
                claimed.setdefault(NameScope(scope), {})[name] = PropertyType(kind)
        self._known = _Known(claimed, self._known.rules)
