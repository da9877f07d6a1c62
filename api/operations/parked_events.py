"""Parked events: list, retry and skip events that could not be applied."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.http.auth import READERS, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import Cursor, Limit
from api.http.problems import answers
from api.http.read_position import parsed
from api.openapi.bounds import Bounds
from domain.access import ApiScope
from domain.commands import Position
from domain.errors import InvalidInput, NotFound
from domain.parked_events import MAX_REASON_CHARS, ParkedEvent, ParkedState, Retried
from infra.parked_events import ParkedEvents
from projections.kernel.paging import DEFAULT_LIMIT, Page

ADMINS = [opens(ApiScope.ADMIN)]

Reader = Annotated[
    str, PathParameter(description="the reader that lacks the event: `main` or another")
]
ParkedPosition = Annotated[
    str,
    PathParameter(
        description="of the event, as in the list, like `12:345`",
        schema_extra={"pattern": "^[0-9]+:[0-9]+$"},
    ),
]
OfReader = Annotated[
    str | None,
    QueryParameter(name="reader", description="only of this reader; `main`: the read models"),
]
InState = Annotated[
    ParkedState | None,
    QueryParameter(
        name="state", description="only events in this state; default: all but skipped ones"
    ),
]


class SkipRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        reason: why the event is skipped, in at most 1,000 characters; stays on record, sealed under
            the key of the event's subject.
    """

    reason: Annotated[str, Bounds(min_length=1, max_length=MAX_REASON_CHARS)]


class ParkedController(Controller):
    """For readers to see; for keys of scope admin to handle."""

    path = "/api/parked"
    tags = ("operations",)

    @get(
        sync_to_thread=True,
        guards=[opens(*READERS)],
        summary="Parked events: not applied, or waiting behind one that was not",
        responses=answers(400, 401, 403, 503),
    )
    def list(
        self,
        parked_events: Part[ParkedEvents],
        of_reader: OfReader = None,
        in_state: InState = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[ParkedEvent]:
        return parked_events.pages.read(
            reader=of_reader, state=in_state, cursor=cursor, limit=limit
        )

    @post(
        "/{reader:str}/{position:str}/retry",
        status_code=200,
        sync_to_thread=True,
        guards=ADMINS,
        summary="Retry the parked events of its stream, in order",
        responses=answers(400, 401, 403, 404, 409, 503),
    )
    def retry(
        self, parked_events: Part[ParkedEvents], reader: Reader, position: ParkedPosition
    ) -> Retried:
        return parked_events.retry(unquote(reader), position_of(unquote(position)))

    @post(
        "/{reader:str}/{position:str}/skip",
        status_code=200,
        sync_to_thread=True,
        guards=ADMINS,
        summary="Skip an event for good, and retry the events behind it",
        responses=answers(400, 401, 403, 404, 409, 413, 503),
    )
    def skip(
        self,
        parked_events: Part[ParkedEvents],
        asker: Part[Asker],
        reader: Reader,
        position: ParkedPosition,
        data: JSONBody[SkipRequest],
    ) -> Retried:
        parked = position_of(unquote(position))
        return parked_events.skip(unquote(reader), parked, data.reason, str(asker.key_id))


def position_of(text: str) -> Position:
    """Raises: NotFound: it is no position."""
    try:
        [position] = parsed(text)
    except (InvalidInput, ValueError):
        raise NotFound("there is no such position") from None
    return position
