"""Any view as of a past instant: what routes that read take, and how far a past is made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.http.auth import READERS, asking, opens
from api.http.problems import answers
from api.http.read_position import wait_for
from api.openapi.bounds import Instant
from domain.access import ApiScope
from domain.calendar import boundary
from domain.errors import InvalidInput
from infra.bootstrap import Annals
from infra.snapshots.registry import PastRow
from projections.kernel.paging import Page

AsOf = Annotated[
    Instant | None,
    QueryParameter(
        name="as_of", description="a past instant (ISO 8601 with a zone): answers as was shown then"
    ),
]
Id = Annotated[UUID, PathParameter(description="of the past, from `POST /api/pasts`")]


def instant(text: str, place: str) -> datetime:
    """A past instant, as it was sent.

    Raises:
        InvalidInput: no instant, or one that is still to come.
    """
    wanted = "send an instant with a zone, like 2026-05-03T14:00:00Z"
    try:
        at = boundary(text)
    except ValueError as reason:
        raise InvalidInput(f"{wanted}: {reason}", place=place) from None
    if not isinstance(at, datetime):
        raise InvalidInput(f"{wanted}: a day is not enough", place=place)
    if at > datetime.now(UTC):
        raise InvalidInput("this instant is still to come", place=place)
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
        raise InvalidInput("leave it out: nothing more comes into the past", place="/wait_for")
    return annals.as_of(instant(as_of, "/as_of"), asking.get().key_id)


class PastRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`at`: a past instant (ISO 8601 with a zone)."""

    at: Instant


class PastView(msgspec.Struct, frozen=True):
    """A past, ready to be read or being made.

    Attributes:
        state: `waiting` (for others), `filling`, `ready` or `failed`.
        progress: 0 to 1.
        done, of: events that it has, of how many; both 0 until these are counted.
        error: why it failed.
    """

    id: UUID
    at: datetime
    state: str
    progress: float
    done: int
    of: int
    error: str | None
    begun_at: datetime


class PastController(Controller):
    """A past is there for all keys, belongs to those that asked for it, and goes when nobody has
    read it for an hour."""

    path = "/api/pasts"
    tags = ("pasts",)
    guards = (opens(*READERS),)

    @post(
        status_code=202,
        sync_to_thread=True,
        summary="Have a past made, unless it is there; `as_of` does the same",
        responses=answers(400, 401, 403, 413, 503),
    )
    def begin(self, state: State, data: JSONBody[PastRequest]) -> PastView:
        annals: Annals = state.annals
        return _view(annals.pasts.begin(instant(data.at, "/at"), asking.get().key_id))

    @get(
        sync_to_thread=True,
        summary="The pasts that there are, the one longest unread first",
        responses=answers(401, 403, 503),
    )
    def list(self, state: State) -> Page[PastView]:
        annals: Annals = state.annals
        found = [_view(one) for one in annals.pasts.all()]
        return Page(found, None, len(found))

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="How far a past is",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(self, state: State, id: Id) -> PastView:
        annals: Annals = state.annals
        return _view(annals.pasts.find(id))

    @delete(
        "/{id:uuid}",
        status_code=204,
        sync_to_thread=True,
        summary="Give up a past, made or not: it goes once all keys that asked for it have",
        responses=answers(400, 401, 403, 404, 503),
    )
    def drop(self, state: State, id: Id) -> None:
        annals: Annals = state.annals
        key_id, scope = asking.get()
        if scope is ApiScope.ADMIN:
            annals.pasts.forget(id)
        else:
            annals.pasts.give_up(id, key_id)


def _view(row: PastRow) -> PastView:
    return PastView(
        id=row.id,
        at=row.at,
        state=row.state,
        progress=row.progress,
        done=row.done,
        of=row.whole,
        error=row.error,
        begun_at=row.begun_at,
    )
