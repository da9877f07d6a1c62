"""The closed catalogue of names: of properties, each with its first type, of events and screens.

Names are stored in clear, so their number is bounded: a sender that puts ids into names is refused,
and personal data cannot pile up where erasure does not reach. An admin retires names that should
not exist, which makes room for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping

from psycopg_pool import ConnectionPool

from domain.name_rules import NAMES_PER_SCOPE, CatalogueName, NameRules, NameScope
from domain.properties import PropertyType

SELECT_NAMES = "SELECT scope, name, value_type FROM log.catalogue"

INSERT_NAMES = """
INSERT INTO log.catalogue (scope, name, value_type)
SELECT s, n, t
FROM unnest(%(scopes)s::text[], %(names)s::text[], %(types)s::text[]) AS v(s, n, t)
ON CONFLICT DO NOTHING"""

Types = dict[str, PropertyType]


class _Known:
    """The names that this process has read, and the rules that apply to them; immutable.

    Attributes:
        claimed: all names that were ever taken, each with its first type.
        used: the names that are not retired, each with the type that holds.
        retired: the retired names, those that no sender ever used included.
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
    """Names and their types. A name is never deleted, so a process may cache all of them. Safe for
    use from many threads.

    Args:
        rules: returns the rules for names, at most a second old.
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
        """The names of a scope that are in use and that this process has read, each with its
        type."""
        return self._known.used.get(scope, {})

    def retired(self, scope: NameScope) -> Collection[str]:
        """The names of a scope that are refused."""
        return self._known.retired[scope]

    def take(self, wanted: Mapping[CatalogueName, PropertyType]) -> None:
        """Takes new names into the catalogue.

        Afterwards `types` has each name with the type that holds, except retired names and names
        beyond the limit. Another writer may have set the type first.

        Args:
            wanted: each name with the type that its first value suggests.
        """
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
                scopes, names, types = (list(column) for column in zip(*claims, strict=True))
                params = {"scopes": scopes, "names": names, "types": types}
                with self._pool.connection() as conn:
                    conn.execute(INSERT_NAMES, params)
                self._reload()

    def claimed(self, scope: NameScope) -> Mapping[str, PropertyType]:
        """The names of a scope that any process ever took, retired names included."""
        with self._lock:
            self._reload()
            return self._known.claimed.get(scope, {})

    def _unclaimed(
        self, wanted: Mapping[CatalogueName, PropertyType]
    ) -> dict[CatalogueName, PropertyType]:
        known = self._known
        return {
            name: kind
            for name, kind in wanted.items()
            if name.name not in known.claimed.get(name.scope, {})
            and name.name not in known.retired[name.scope]
        }

    def _reload(self) -> None:
        claimed: dict[NameScope, Types] = {}
        with self._pool.connection() as conn:
            for scope, name, kind in conn.execute(SELECT_NAMES):
                claimed.setdefault(NameScope(scope), {})[name] = PropertyType(kind)
        self._known = _Known(claimed, self._known.rules)
