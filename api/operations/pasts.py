"""Pasts: read models as of a past instant, made for the reads with `as_of`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import JSONBody, PathParameter

from api.http.as_of import instant
from api.http.auth import READERS, Asker, opens
from api.http.dependencies import Part
from api.http.problems import answers
from api.openapi.bounds import Instant
from domain.access import ApiScope
from infra.pasts.pasts import Pasts
from infra.pasts.registry import PastRow
from projections.kernel.paging import Page

Id = Annotated[UUID, PathParameter(description="of the past, from `POST /api/pasts`")]


class PastRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`at`: a past instant (ISO 8601 with a zone)."""

    at: Instant


class PastView(msgspec.Struct, frozen=True):
    """A past: read models as of an instant.

    Attributes:
        state: `waiting` (for others), `filling`, `ready` or `failed`.
        progress: 0 to 1.
        done, of: events projected so far, and in all; both 0 until they are counted.
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
    """All keys can read a past; it belongs to those that asked for it, and ends after an hour
    without a read."""

    path = "/api/pasts"
    tags = ("pasts",)
    guards = (opens(*READERS),)

    @post(
        status_code=202,
        sync_to_thread=True,
        summary="Make a past, unless it exists; `as_of` does the same",
        responses=answers(400, 401, 403, 413, 503),
    )
    def begin(
        self, pasts: Part[Pasts], asker: Part[Asker], data: JSONBody[PastRequest]
    ) -> PastView:
        return _view(pasts.begin(instant(data.at, "/at"), asker.key_id))

    @get(
        sync_to_thread=True,
        summary="All pasts, the one longest unread first",
        responses=answers(401, 403, 503),
    )
    def list(self, pasts: Part[Pasts]) -> Page[PastView]:
        views = [_view(row) for row in pasts.all()]
        return Page(views, None, len(views))

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="A past, with its progress",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(self, pasts: Part[Pasts], id: Id) -> PastView:
        return _view(pasts.find(id))

    @delete(
        "/{id:uuid}",
        status_code=204,
        sync_to_thread=True,
        summary="Give up a past, made or not; it ends once all keys that asked for it do",
        responses=answers(400, 401, 403, 404, 503),
    )
    def drop(self, pasts: Part[Pasts], asker: Part[Asker], id: Id) -> None:
        if asker.scope is ApiScope.ADMIN:
            pasts.forget(id)
        else:
            pasts.give_up(id, asker.key_id)


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
