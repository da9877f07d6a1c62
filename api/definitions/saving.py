"""The answer of all routes that define something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from api.http.auth import Asker
from api.http.read_position import position_text
from domain.events.payloads import Payload
from domain.workspace.definitions import Definitions
from infra.write.definition_store import DefinitionStore


class Saved(msgspec.Struct, frozen=True):
    """
    Attributes:
        position: the read models show the change from here on; empty: nothing changed.
    """

    id: UUID
    position: str


def saved(
    definitions: DefinitionStore,
    asker: Asker,
    id: UUID,
    decision: Callable[[Definitions, UUID], Sequence[Payload]],
) -> Saved:
    """Appends a decision about definitions, by the API key of the request.

    Raises:
        Refusal: the decision's own.
        Unavailable: others changed definitions at the same time, time and again.
    """
    positions = definitions.decide(lambda state: decision(state, asker.key_id), datetime.now(UTC))
    return Saved(id, position_text(positions))
