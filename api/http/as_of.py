"""The parameter `as_of`, and the read models that a route answers from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar.params import QueryParameter

from api.http.auth import asking
from api.http.read_position import wait_for
from api.openapi.bounds import Instant
from domain.calendar import boundary
from domain.errors import InvalidInput
from infra.bootstrap.annals import Annals

AsOf = Annotated[
    Instant | None,
    QueryParameter(
        name="as_of", description="a past instant (ISO 8601 with a zone): answers as of then"
    ),
]


def instant(text: str, pointer: str) -> datetime:
    """A past instant, as it was sent.

    Raises:
        InvalidInput: no instant, or one that is still to come.
    """
    remedy = "send an instant with a zone, like 2026-05-03T14:00:00Z"
    try:
        at = boundary(text)
    except ValueError as reason:
        raise InvalidInput(f"{remedy}: {reason}", pointer=pointer) from None
    if not isinstance(at, datetime):
        raise InvalidInput(f"{remedy}: a day is not enough", pointer=pointer)
    if at > datetime.now(UTC):
        raise InvalidInput("this instant is still to come", pointer=pointer)
    return at


class Readings:
    """The read models to answer from: those of the present, or of a past instant."""

    def __init__(self, present: Annals) -> None:
        self.present = present

    def at(self, waiting: str | None, as_of: str | None) -> Annals:
        """
        Args:
            waiting: positions that the present must have reached.
            as_of: a past instant; None: the present.

        Raises:
            InvalidInput: no positions, or no past instant; or both are sent.
            NotReady: the past is being made.
            Unavailable: the positions cannot be seen yet; or the past cannot be made.
        """
        if as_of is None:
            wait_for(self.present, waiting)
            return self.present
        if waiting:
            raise InvalidInput(
                "leave it out: nothing more comes into the past", pointer="/wait_for"
            )
        return self.present.as_of(instant(as_of, "/as_of"), asking.get().key_id)
