"""The catalogue of names: those in use, those retired; admins retire names and restore them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Controller, get, post
from litestar.params import JSONBody, QueryParameter

from api.http.as_of import AsOf, Readings
from api.http.auth import PLACE, READERS, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import WaitFor
from api.http.problems import answers
from api.http.read_position import position_text
from api.openapi.bounds import Bounds
from domain.access import ApiScope
from domain.identity import SubjectKind
from domain.name_rules import MAX_NAMES_AT_ONCE, NameScope
from domain.properties import MAX_NAME_CHARS, PropertyType
from infra.log.read_position import ReadPosition
from infra.postgres.admission import Demand
from infra.write.name_administration import NameAdministration
from projections.kernel.paging import Page
from projections.models import retyping
from projections.queries import status
from projections.queries.status import NameItem

READING, EDITING = [opens(*READERS)], [opens(ApiScope.ADMIN)]
READING_PROBLEMS = answers(400, 401, 403, 503)
CHANGING_PROBLEMS = answers(400, 401, 403, 409, 413, 503)

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
        position: the read models show the change from here on; empty: nothing changed.
    """

    position: str


class TypeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        scope: `user.property` or `account.property`.
        preview: true: only reports what would change.
    """

    scope: NameScope
    name: SentName
    type: PropertyType
    preview: bool = False


class TypeChanged(NamesChanged, frozen=True):
    """
    Attributes:
        fit, unfit: the number of contacts whose value fits the new type without loss, and of those
            whose value does not fit and is no longer shown.
        examples: the ids of up to five unfit ones.
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
        summary="Properties in use, with types; or retired ones",
        responses=READING_PROBLEMS,
    )
    def properties(
        self,
        readings: Part[Readings],
        retired: OnlyRetired = False,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[NameItem]:
        return _names(readings.at(waiting, as_of).queries, status.PROPERTY_SCOPES, retired=retired)

    @get(
        "/events",
        guards=READING,
        sync_to_thread=True,
        summary="Events, screens and channels in use; or retired ones",
        responses=READING_PROBLEMS,
    )
    def events(
        self,
        readings: Part[Readings],
        retired: OnlyRetired = False,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[NameItem]:
        return _names(readings.at(waiting, as_of).queries, status.ACTIVITY_SCOPES, retired=retired)

    @post(
        "/retire",
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Retire names: messages that use them are refused until they are restored",
        responses=CHANGING_PROBLEMS,
    )
    def retire(
        self,
        catalogue: Part[NameAdministration],
        asker: Part[Asker],
        data: JSONBody[NamesRequest],
    ) -> NamesChanged:
        by, at = asker.key_id, datetime.now(UTC)
        return NamesChanged(position_text(catalogue.retire(data.scope, data.names, by, at)))

    @post(
        "/restore",
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Restore retired names",
        responses=CHANGING_PROBLEMS,
    )
    def restore(
        self,
        catalogue: Part[NameAdministration],
        asker: Part[Asker],
        data: JSONBody[NamesRequest],
    ) -> NamesChanged:
        by, at = asker.key_id, datetime.now(UTC)
        return NamesChanged(position_text(catalogue.restore(data.scope, data.names, by, at)))

    @post(
        "/type",
        opt={PLACE: Demand.PREVIEW},
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Give a property another type: converts values that fit, reports the rest",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def change_type(
        self,
        catalogue: Part[NameAdministration],
        read_position: Part[ReadPosition],
        long_queries: Part[sa.Engine],
        asker: Part[Asker],
        data: JSONBody[TypeRequest],
    ) -> TypeChanged:
        by, change = asker.key_id, (data.scope, data.name, data.type)
        catalogue.check_type(*change, by)
        read_position.catch_up()
        kind = SubjectKind(data.scope.partition(".")[0])
        with long_queries.connect() as conn:
            fit = retyping.fit(conn, kind, data.name, data.type)
        positions = []
        if not data.preview:
            positions = catalogue.change_type(*change, by, datetime.now(UTC))
        return TypeChanged(position_text(positions), fit.fit, fit.unfit, fit.examples)


def _names(queries: sa.Engine, scopes: list[str], *, retired: bool) -> Page[NameItem]:
    with queries.connect() as conn:
        return status.list_names(conn, scopes, retired=retired)
