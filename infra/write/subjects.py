"""Subjects by the log, and by the read models where an event in the log does not open.

An erasure must overlook nobody: an altered row takes neither the subject, nor whom it was merged
with, nor a name that definitions have of it, out of its reach. Commands are decided on the log
alone (`infra.write.aggregates.Aggregates`).
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
    """One for each process; safe for use from many threads."""

    def __init__(self, aggregates: Aggregates, keys: KeyRing, views: ConnectionPool) -> None:
        self._aggregates = aggregates
        self._keys = keys
        self._views = views

    def kinds(self, subjects: Sequence[SubjectId]) -> dict[SubjectId, StreamKind | None]:
        """What each subject is that the log or the read models have; None where no event of it
        opens, and the read models do not have it."""
        kinds = self._aggregates.kinds(subjects)
        unread = [id for id in subjects if kinds.get(id) is None]
        return kinds | {id: one.kind for id, (_, one) in self._shown(unread).items()}

    def load(self, wanted: Mapping[SubjectId, SubjectKind]) -> States:
        """The state of each subject; version 0: it has not begun, or is erased. Where an event does
        not open, identities and merges are those of the events that do, of the subjects that were
        merged into it, and of the read models."""
        states, gaps = self._aggregates.load_each(wanted)
        empty = [id for id, state in states.items() if not state.version]
        alive = self._keys.fetch(id.int for id in empty)
        partial = {*gaps, *(id for id in empty if id.int in alive)}
        return states | self._completed({id: states[id] for id in partial})

    def _completed(self, states: States) -> States:
        shown = self._shown(states)
        with self._views.connection() as conn:
            absorbed = {id: _united(states[id].absorbed, merges.losers(conn, [id])) for id in shown}
        kinds = {one: states[id].kind for id, each in absorbed.items() for one in each}
        absorbed_states = self._aggregates.load_each(kinds).states
        return {
            id: msgspec.structs.replace(
                states[id],
                version=states[id].version or 1,
                identities=_united(
                    states[id].identities,
                    one.identities,
                    *(absorbed_states[each].identities for each in absorbed[id]),
                ),
                merged_into=states[id].merged_into or survivor,
                absorbed=absorbed[id],
            )
            for id, (survivor, one) in shown.items()
        }

    def _shown(
        self, subjects: Collection[SubjectId]
    ) -> dict[SubjectId, tuple[SubjectId | None, Shown]]:
        """Those that the read models have: the subject that each was merged into, if it was, and
        what is known of that one, or of itself."""
        if not subjects:
            return {}
        with self._views.connection() as conn:
            survivors = merges.survivors(conn, subjects)
            today = {id: survivors.get(id, id) for id in subjects}
            known = contacts.shown(conn, set(today.values()))
        return {id: (survivors.get(id), known[one]) for id, one in today.items() if one in known}


def _united(*parts: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))
