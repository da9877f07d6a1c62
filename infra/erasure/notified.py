"""Which destinations were told of an erasure: by their cursors, as nothing of it is stored."""

from __future__ import annotations

from domain.definitions.destinations import Destination
from domain.definitions.types import Defined, DefinitionId, Status
from domain.erasure.erasure import Erasure, ToldDestination
from infra.webhooks.cursors import DeliveryCursors, State
from infra.write.definition_store import DefinitionStore


def notified_destinations(
    definitions: DefinitionStore, cursors: DeliveryCursors, erasure: Erasure
) -> list[ToldDestination]:
    """Returns, by name, the destinations that may have received data of the erased subjects, and
    whether each was told of the erasure."""
    destinations = definitions.load().destinations
    positions = _positions(erasure.position)
    if positions:
        reached = cursors.reached(positions)
    else:
        active = (id for id, each in destinations.items() if each.status is Status.ACTIVE)
        reached = dict.fromkeys(active, False)
    states = cursors.states(list(reached))
    notified = []
    for id, is_told in reached.items():
        defined = destinations[DefinitionId(id)]
        state = _state(defined, is_told, states[id])
        notified.append(ToldDestination(id, defined.definition.name, state))
    return sorted(notified, key=lambda each: (each.name, each.id))


def _positions(text: str) -> dict[int, int]:
    """The newest position in each partition, of `Erasure.position`."""
    parts = (part.partition(":") for part in text.split(",") if part)
    return {int(partition): int(position) for partition, _, position in parts}


def _state(defined: Defined[Destination], is_told: bool, state: State) -> str:
    if is_told:
        return "told"
    if defined.status is Status.ARCHIVED:
        return "archived"
    return "waiting" if state.paused_at is None else "paused"
