"""Any view as of a past instant: what routes that read take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar.datastructures import State
from litestar.params import QueryParameter

from api.http.auth import asking
from api.http.read_position import wait_for
from api.openapi.bounds import Instant
from domain.calendar import boundary
from domain.errors import InvalidInput
from infra.bootstrap import Annals

AsOf = Annotated[
    Instant | None,
    QueryParameter(
        name="as_of", description="a past instant (ISO 8601 with a zone): answers as was shown then"
    ),
]


def instant(text: str, pointer: str) -> datetime:
    """A past instant, as it was sent.

    Raises:
        InvalidInput: no instant, or one that is still to come.
    """
    wanted = "send an instant with a zone, like 2026-05-03T14:00:00Z"
    try:
        at = boundary(text)
    except ValueError as reason:
        raise InvalidInput(f"{wanted}: {reason}", pointer=pointer) from None
    if not isinstance(at, datetime):
        raise InvalidInput(f"{wanted}: a day is not enough", pointer=pointer)
    if at > datetime.now(UTC):
        raise InvalidInput("this instant is still to come", pointer=pointer)
    return at


def reading(state: State, waiting: str | None, as_of: str | None) -> Annals:
    """What a route reads: the present, once it holds what is waited for, or a past.

    Raises:
        InvalidInput: no positions, or no past instant; or both are asked for.
        NotReady: the past is being made.
        Unavailable: what is waited for is not to be seen yet; or the past cannot be made.
    """
    annals: Annals = state.annals
    if as_of is None:
        wait_for(annals, waiting)
        return annals
    if waiting:
        raise InvalidInput("leave it out: nothing more comes into the past", pointer="/wait_for")
    return annals.as_of(instant(as_of, "/as_of"), asking.get().key_id)
