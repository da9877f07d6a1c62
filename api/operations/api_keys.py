"""API keys: made, shown once, listed, revoked."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.http.auth import opens
from api.http.problems import answers
from api.openapi.bounds import Name
from domain.access import ApiScope
from domain.definitions.types import checked_name
from infra.api_keys import ApiKeyItem
from infra.bootstrap import Annals
from projections.kernel.paging import Page

ADMINS = [opens(ApiScope.ADMIN)]

Id = Annotated[UUID, PathParameter(description="of an API key")]
EvenTheLast = Annotated[
    bool,
    QueryParameter(name="last", description="`true`: also where no other is of scope admin"),
]

HttpRequest = Request[Any, Any, Any]


class ApiKeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name` says what it is for."""

    name: Name
    scope: ApiScope


class MadeApiKey(msgspec.Struct, frozen=True):
    """
    Attributes:
        key: itself. It is shown here and never again: only its digest is kept.
    """

    id: UUID
    scope: ApiScope
    name: Name
    key: str


class ApiKeysController(Controller):
    """For keys of scope admin. The command `annals api-keys` does the same on the server."""

    path = "/api/api-keys"
    tags = ("API keys",)
    guards = ADMINS

    @get(
        sync_to_thread=True,
        summary="All API keys that there ever were, oldest first, without the keys themselves",
        responses=answers(401, 403, 503),
    )
    def list(self, state: State) -> Page[ApiKeyItem]:
        annals: Annals = state.annals
        items = annals.api_keys.list()
        return Page(items, None, len(items))

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Make an API key, which is shown once",
        responses=answers(400, 401, 403, 413, 503),
    )
    def make(self, request: HttpRequest, data: JSONBody[ApiKeyRequest]) -> Response[MadeApiKey]:
        annals: Annals = request.app.state.annals
        name = checked_name(data.name)
        id, key = annals.api_keys.make(data.scope, name=name, by=request.state.key_id)
        return Response(
            MadeApiKey(id, data.scope, name, key), headers={"Cache-Control": "no-store"}
        )

    @delete(
        "/{id:uuid}",
        status_code=200,
        sync_to_thread=True,
        summary="Revoke an API key: within a second it opens nothing; it stays on record",
        responses=answers(400, 401, 403, 404, 409, 503),
    )
    def revoke(
        self, request: HttpRequest, id: Id, even_the_last: EvenTheLast = False
    ) -> ApiKeyItem:
        annals: Annals = request.app.state.annals
        annals.api_keys.revoke(id, by=request.state.key_id, even_the_last=even_the_last)
        return annals.api_keys.get(id)
