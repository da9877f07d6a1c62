"""The receipt of an erasure, as far as destinations go: which were told, which will be."""

from __future__ import annotations

from uuid import UUID

import msgspec

from domain.definitions.destinations import Destination
from domain.definitions.types import Defined, DefinitionId, Status
from domain.erasure.erasure import Erasure
from infra.bootstrap import Annals
from infra.webhooks.cursors import State


class ToldDestination(msgspec.Struct, frozen=True):
    """Whether a destination was told of an erasure.

    Attributes:
        state: `told`; `waiting`: it will be; `paused`: once it is resumed; `archived`: it was
            archived before, and will not be.
    """

    id: UUID
    name: str
    state: str


def told(annals: Annals, erasure: Erasure) -> list[ToldDestination]:
    """Of each destination that could have heard of whom an erasure is about, whether it was told:
    by where its cursors are, for nothing of it is kept."""
    known = annals.definitions.load().destinations
    places = {
        int(part): int(at)
        for part, _, at in (one.partition(":") for one in erasure.position.split(",") if one)
    }
    reached = annals.destinations.reached(places)
    if not places:
        reached = {id: False for id, one in known.items() if one.status is Status.ACTIVE}
    states = annals.destinations.states(list(reached))
    return sorted(
        (
            ToldDestination(
                id,
                known[DefinitionId(id)].definition.name,
                _state(known[DefinitionId(id)], is_told, states[id]),
            )
            for id, is_told in reached.items()
        ),
        key=lambda one: (one.name, one.id),
    )


def _state(one: Defined[Destination], is_told: bool, state: State) -> str:
    if is_told:
        return "told"
    if one.status is Status.ARCHIVED:
        return "archived"
    return "waiting" if state.paused_at is None else "paused"
