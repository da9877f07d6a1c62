"""Saved views: the columns, the order and the filters of a list, kept for all who read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.contacts.lists import ColumnNames
from api.http.auth import READERS, Asker, opens
from api.http.dependencies import Part
from api.http.problems import answers
from api.openapi.bounds import Name
from api.openapi.described import PerhapsCondition, json_or_none, no_condition
from domain.access import ApiScope
from domain.definitions.saved_views import SavedView, SavedViewItem
from domain.definitions.types import checked_name
from domain.identity import SubjectKind
from infra.write.saved_views import SavedViews
from projections.conditions.known_names import KnownNames
from projections.kernel.paging import Page
from projections.queries.contact_list import DEFAULT_SORT, checked_columns, order
from projections.queries.selecting import selection

READING, EDITING = [opens(*READERS)], [opens(ApiScope.ADMIN)]
READING_PROBLEMS = answers(400, 401, 403, 404, 503)
CHANGING_PROBLEMS = answers(400, 401, 403, 404, 409, 413, 429, 503)

ViewId = Annotated[UUID, PathParameter(description="id of a saved view")]
Kind = Annotated[SubjectKind | None, QueryParameter(description="only views of these")]


class SavedViewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        columns: the properties shown; null: all.
        filter: a condition.
    """

    kind: SubjectKind
    name: Name
    sort: str = DEFAULT_SORT
    columns: ColumnNames | None = None
    segment: UUID | None = None
    filter: PerhapsCondition = msgspec.field(default_factory=no_condition)


class SavedViewController(Controller):
    path = "/api/saved-views"
    tags = ("saved views",)

    @get(
        guards=READING,
        sync_to_thread=True,
        summary="All saved views, by name",
        responses=answers(400, 401, 403, 503),
    )
    def list(self, saved_views: Part[SavedViews], kind: Kind = None) -> Page[SavedViewItem]:
        items = [item for item in saved_views.all() if kind in (None, item.view.kind)]
        return Page(items, None, len(items))

    @get(
        "/{id:uuid}",
        guards=READING,
        sync_to_thread=True,
        summary="A saved view",
        responses=READING_PROBLEMS,
    )
    def view(self, saved_views: Part[SavedViews], id: ViewId) -> SavedViewItem:
        return saved_views.get(id)

    @post(
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Save a view",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def save(
        self,
        saved_views: Part[SavedViews],
        queries: Part[sa.Engine],
        asker: Part[Asker],
        data: JSONBody[SavedViewRequest],
    ) -> SavedViewItem:
        now, by = datetime.now(UTC), asker.key_id
        view = _checked(queries, data, by)
        item = SavedViewItem(uuid.uuid4(), view, now, by, now, by)
        saved_views.add(item)
        return item

    @put(
        "/{id:uuid}",
        guards=EDITING,
        sync_to_thread=True,
        summary="Replace a saved view",
        responses=CHANGING_PROBLEMS,
    )
    def change(
        self,
        saved_views: Part[SavedViews],
        queries: Part[sa.Engine],
        asker: Part[Asker],
        id: ViewId,
        data: JSONBody[SavedViewRequest],
    ) -> SavedViewItem:
        before = saved_views.get(id)
        item = msgspec.structs.replace(
            before,
            view=_checked(queries, data, asker.key_id),
            changed_at=datetime.now(UTC),
            changed_by=asker.key_id,
        )
        saved_views.change(item)
        return item

    @delete(
        "/{id:uuid}",
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Delete a saved view",
        responses=READING_PROBLEMS,
    )
    def delete(self, saved_views: Part[SavedViews], id: ViewId) -> SavedViewItem:
        deleted = saved_views.get(id)
        saved_views.delete(id)
        return deleted


def _checked(queries: sa.Engine, data: SavedViewRequest, by: UUID) -> SavedView:
    """Raises: InvalidInput: the list would refuse it, or the name is not allowed."""
    name = checked_name(data.name)
    with queries.connect() as conn:
        selected = selection(
            conn,
            data.kind,
            segment=data.segment,
            filter=json_or_none(data.filter),
            search=None,
            by=by,
        )
        types = KnownNames(conn).properties(data.kind)
    order(data.sort, types, UTC)
    columns = checked_columns(data.columns, types)
    return SavedView(data.kind, name, data.sort, columns, selected.segment, selected.filter)
