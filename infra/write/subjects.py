"""Subjects by the log, and by the read models where an event of theirs does not open.

An erasure must reach every subject: an altered row must hide neither the subject, nor those merged
with it, nor a name that definitions contain. Commands are decided on the log alone
(`infra.write.aggregates.Aggregates`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec
from psycopg_pool import ConnectionPool

from domain.events.topics import StreamKind
from domain.identity import SubjectId, SubjectKind
from domain.subjects.account import Account
from domain.subjects.user import User
from infra.keys.key_ring import KeyRing
from infra.write.aggregates import Aggregates
from projections.kernel import merges
from projections.models import contacts
from projections.models.contacts import Shown

T = TypeVar("T")

States = dict[SubjectId, User | Account]


class Subjects:
    """Thread-safe; one instance per process."""

    def __init__(self, aggregates: Aggregates, keys: KeyRing, views: ConnectionPool) -> None:
        self._aggregates = aggregates
        self._keys = keys
        self._views = views

    def kinds(self, subjects: Sequence[SubjectId]) -> dict[SubjectId, StreamKind | None]:
        """The kind of each subject that the log or the read models have; None: no event of it
        opens, and the read models do not have it."""
        kinds = self._aggregates.kinds(subjects)
        unknown = [id for id in subjects if kinds.get(id) is None]
        return kinds | {id: contact.kind for id, (_, contact) in self._shown(unknown).items()}

    def load(self, subjects: Mapping[SubjectId, SubjectKind]) -> States:
        """The state of each subject; version 0: it has not begun, or is erased. Where an event does
        not open, the identities and merges are those of the other events, of the subjects that
        were merged into it, and of the read models."""
        states, gaps = self._aggregates.load_each(subjects)
        empty = [id for id, state in states.items() if not state.version]
        alive = self._keys.fetch(id.int for id in empty)
        partial = {*gaps, *(id for id in empty if id.int in alive)}
        return states | self._completed({id: states[id] for id in partial})

    def _completed(self, states: States) -> States:
        shown = self._shown(states)
        with self._views.connection() as conn:
            absorbed = {id: _united(states[id].absorbed, merges.losers(conn, [id])) for id in shown}
        kinds = {loser: states[id].kind for id, losers in absorbed.items() for loser in losers}
        absorbed_states = self._aggregates.load_each(kinds).states
        return {
            id: msgspec.structs.replace(
                states[id],
                version=states[id].version or 1,
                identities=_united(
                    states[id].identities,
                    contact.identities,
                    *(absorbed_states[loser].identities for loser in absorbed[id]),
                ),
                merged_into=states[id].merged_into or survivor,
                absorbed=absorbed[id],
            )
            for id, (survivor, contact) in shown.items()
        }

    def _shown(
        self, subjects: Collection[SubjectId]
    ) -> dict[SubjectId, tuple[SubjectId | None, Shown]]:
        """Returns the subjects that the read models contain: of each the survivor, if it was
        merged, and the identities of the survivor, or of itself."""
        if not subjects:
            return {}
        with self._views.connection() as conn:
            survivors = merges.survivors(conn, subjects)
            today = {id: survivors.get(id, id) for id in subjects}
            known = contacts.shown(conn, set(today.values()))
        return {
            id: (survivors.get(id), known[current])
            for id, current in today.items()
            if current in known
        }


def _united(*parts: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(item for part in parts for item in part))
