"""API keys: made, shown once, listed, revoked."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.http.auth import Asker, opens
from api.http.dependencies import Part
from api.http.problems import answers
from api.openapi.bounds import Name
from domain.access import ApiScope
from domain.definitions.types import checked_name
from infra.api_keys import ApiKeyItem, ApiKeys
from projections.kernel.paging import Page

ADMINS = [opens(ApiScope.ADMIN)]

Id = Annotated[UUID, PathParameter(description="of an API key")]
EvenTheLast = Annotated[
    bool,
    QueryParameter(name="last", description="`true`: also the last key of scope admin"),
]


class ApiKeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new API key; `name` tells its purpose."""

    name: Name
    scope: ApiScope


class MadeApiKey(msgspec.Struct, frozen=True):
    """
    Attributes:
        key: the key itself. It is shown here and never again: Annals keeps only its digest.
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
        summary="All API keys ever made, oldest first, without the keys themselves",
        responses=answers(401, 403, 503),
    )
    def list(self, api_keys: Part[ApiKeys]) -> Page[ApiKeyItem]:
        items = api_keys.list()
        return Page(items, None, len(items))

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Make an API key, which is shown once",
        responses=answers(400, 401, 403, 413, 503),
    )
    def make(
        self, api_keys: Part[ApiKeys], asker: Part[Asker], data: JSONBody[ApiKeyRequest]
    ) -> Response[MadeApiKey]:
        name = checked_name(data.name)
        id, key = api_keys.make(data.scope, name=name, by=asker.key_id)
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
        self,
        api_keys: Part[ApiKeys],
        asker: Part[Asker],
        id: Id,
        even_the_last: EvenTheLast = False,
    ) -> ApiKeyItem:
        api_keys.revoke(id, by=asker.key_id, even_the_last=even_the_last)
        return api_keys.get(id)
