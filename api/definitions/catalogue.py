"""The catalogue of names: those in use, those retired; admins retire names and restore them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, QueryParameter

from api.http.as_of import AsOf, reading
from api.http.auth import PLACE, READERS, opens
from api.http.parameters import WaitFor
from api.http.problems import answers
from api.http.read_position import catch_up, position_text
from api.openapi.bounds import Bounds
from domain.access import ApiScope
from domain.identity import SubjectKind
from domain.name_rules import MAX_NAMES_AT_ONCE, NameScope
from domain.properties import MAX_NAME_CHARS, PropertyType
from infra.bootstrap import Annals
from infra.postgres.admission import Demand
from projections.kernel.paging import Page
from projections.models import retyping
from projections.queries import status
from projections.queries.status import NameItem

READING, EDITING = [opens(*READERS)], [opens(ApiScope.ADMIN)]
READING_PROBLEMS = answers(400, 401, 403, 503)
CHANGING_PROBLEMS = answers(400, 401, 403, 409, 413, 503)

HttpRequest = Request[Any, Any, Any]

OnlyRetired = Annotated[
    bool, QueryParameter(description="`true`: the retired names, in place of those in use")
]
SentName = Annotated[str, Bounds(min_length=1, max_length=MAX_NAME_CHARS)]
SentNames = Annotated[list[SentName], Bounds(min_items=1, max_items=MAX_NAMES_AT_ONCE)]


class NamesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of one scope."""

    scope: NameScope
    names: SentNames


class NamesChanged(msgspec.Struct, frozen=True):
    """
    Attributes:
        position: where the read models have to be to show it; empty where nothing changed.
    """

    position: str


class TypeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        scope: `user.property` or `account.property`.
        preview: true only says what would come of it.
    """

    scope: NameScope
    name: SentName
    type: PropertyType
    preview: bool = False


class TypeChanged(NamesChanged, frozen=True):
    """
    Attributes:
        fit, unfit: how many have a value that is one of the new type, or can be made one without
            loss; and how many have another, which is shown no longer.
        examples: the ids of up to five of the latter.
    """

    fit: int
    unfit: int
    examples: list[UUID]


class CatalogueController(Controller):
    """Readers read; a key of scope admin changes."""

    path = "/api/catalogue"
    tags = ("operations",)

    @get(
        "/properties",
        guards=READING,
        sync_to_thread=True,
        summary="Properties in use, with types; or those that are retired",
        responses=READING_PROBLEMS,
    )
    def properties(
        self,
        state: State,
        retired: OnlyRetired = False,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[NameItem]:
        return _names(reading(state, waiting, as_of), status.PROPERTY_SCOPES, retired=retired)

    @get(
        "/events",
        guards=READING,
        sync_to_thread=True,
        summary="Events, screens and channels in use; or those that are retired",
        responses=READING_PROBLEMS,
    )
    def events(
        self,
        state: State,
        retired: OnlyRetired = False,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[NameItem]:
        return _names(reading(state, waiting, as_of), status.ACTIVITY_SCOPES, retired=retired)

    @post(
        "/retire",
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Retire names: what is sent under them is refused until they are restored",
        responses=CHANGING_PROBLEMS,
    )
    def retire(self, request: HttpRequest, data: JSONBody[NamesRequest]) -> NamesChanged:
        annals: Annals = request.app.state.annals
        by, at = request.state.key_id, datetime.now(UTC)
        return NamesChanged(position_text(annals.names.retire(data.scope, data.names, by, at)))

    @post(
        "/restore",
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Restore names that are retired",
        responses=CHANGING_PROBLEMS,
    )
    def restore(self, request: HttpRequest, data: JSONBody[NamesRequest]) -> NamesChanged:
        annals: Annals = request.app.state.annals
        by, at = request.state.key_id, datetime.now(UTC)
        return NamesChanged(position_text(annals.names.restore(data.scope, data.names, by, at)))

    @post(
        "/type",
        opt={PLACE: Demand.PREVIEW},
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Give a property another type: values that fit are converted, the rest is told",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def change_type(self, request: HttpRequest, data: JSONBody[TypeRequest]) -> TypeChanged:
        annals: Annals = request.app.state.annals
        by, asked = request.state.key_id, (data.scope, data.name, data.type)
        annals.names.check_type(*asked, by)
        catch_up(annals)
        kind = SubjectKind(data.scope.partition(".")[0])
        with annals.long_queries.connect() as conn:
            found = retyping.fit(conn, kind, data.name, data.type)
        positions = []
        if not data.preview:
            positions = annals.names.change_type(*asked, by, datetime.now(UTC))
        return TypeChanged(position_text(positions), found.fit, found.unfit, found.examples)


def _names(annals: Annals, scopes: list[str], *, retired: bool) -> Page[NameItem]:
    with annals.queries.connect() as conn:
        return status.list_names(conn, scopes, retired=retired)
