"""What all routes that define something have in common: who decides, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request

from api.http.read_position import catch_up, position_text
from domain.definitions.types import Definition
from domain.errors import InvalidInput
from domain.events.payloads import Payload
from domain.workspace.definitions import Definitions
from infra.bootstrap import Annals
from projections.conditions.known_names import NamesNow


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


def check_names(
    annals: Annals, check: Callable[[NamesNow], None], draft: Definition | None = None
) -> None:
    """Checks something by the names that can be asked about. What is refused is checked again once
    the read models have all that the log has: a name may have been sent a moment ago.

    Args:
        draft: whose own names can be asked about as well.

    Raises:
        InvalidInput: the check's own.
    """

    def attempt() -> None:
        with annals.queries.connect() as conn:
            check(NamesNow(conn, annals.definitions.load(), draft))

    try:
        attempt()
    except InvalidInput:
        catch_up(annals)
        attempt()
