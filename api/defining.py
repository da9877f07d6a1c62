"""What all routes that define something have in common: who decides, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request

from api.positions import position_text
from domain.events import Payload
from domain.workspace import Definitions
from infra.wiring import Annals


class Saved(msgspec.Struct, frozen=True):
    """
    Attributes:
        position: where the read models have to be to show it; empty where nothing changed.
    """

    id: UUID
    position: str


def saved(
    request: Request[Any, Any, Any],
    id: UUID,
    decision: Callable[[Definitions, UUID], Sequence[Payload]],
) -> Saved:
    """Takes a decision on what is defined, for the API key of a request.

    Raises:
        Refusal: the decision's own.
        Unavailable: others changed definitions at the same time, time and again.
    """
    annals: Annals = request.app.state.annals
    by: UUID = request.state.key_id
    positions = annals.definitions.decide(lambda state: decision(state, by), datetime.now(UTC))
    return Saved(id, position_text(positions))
