"""Finds subjects by the names that callers know, for reads and administration."""

from __future__ import annotations

from collections.abc import Iterable

from domain.identity import Identity, SubjectId
from infra.keys.identity_index import IdentityIndex


class SubjectLookup:
    """Safe for use from many threads."""

    def __init__(self, identities: IdentityIndex) -> None:
        self._identities = identities

    def find(self, identity: Identity) -> SubjectId | None:
        """The subject that an identity names; None if it names none."""
        return self.find_all([identity]).get(identity)

    def find_all(self, identities: Iterable[Identity]) -> dict[Identity, SubjectId]:
        """The subjects of those identities that name one, in one query."""
        wanted = list(identities)
        known = self._identities.find(wanted)
        return {
            identity: known[identity.scheme, identity.matching]
            for identity in wanted
            if (identity.scheme, identity.matching) in known
        }
