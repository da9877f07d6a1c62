"""Saved views: the columns, the order and the filters of a list, kept for all who read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post, put
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.contacts.lists import DEFAULT_SORT, ColumnNames, Question, selection
from api.http.auth import READERS, opens
from api.http.problems import answers
from api.openapi.bounds import Name
from api.openapi.described import PerhapsCondition
from domain.access import ApiScope
from domain.definitions.saved_views import SavedView, SavedViewItem
from domain.definitions.types import checked_name
from domain.identity import SubjectKind
from infra.bootstrap import Annals
from projections.conditions.known_names import KnownNames
from projections.kernel.paging import Page
from projections.queries.contact_list import checked_columns, order

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
    filter: PerhapsCondition = None


class SavedViewController(Controller):
    path = "/api/saved-views"
    tags = ("saved views",)

    @get(
        guards=READING,
        sync_to_thread=True,
        summary="All saved views, by name",
        responses=answers(400, 401, 403, 503),
    )
    def list(self, state: State, kind: Kind = None) -> Page[SavedViewItem]:
        annals: Annals = state.annals
        items = [one for one in annals.saved_views.all() if kind in (None, one.view.kind)]
        return Page(items, None, len(items))

    @get(
        "/{id:uuid}",
        guards=READING,
        sync_to_thread=True,
        summary="A saved view",
        responses=READING_PROBLEMS,
    )
    def view(self, state: State, id: ViewId) -> SavedViewItem:
        annals: Annals = state.annals
        return annals.saved_views.get(id)

    @post(
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Save a view",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def save(
        self, request: Request[Any, Any, Any], data: JSONBody[SavedViewRequest]
    ) -> SavedViewItem:
        annals: Annals = request.app.state.annals
        now, by = datetime.now(UTC), request.state.key_id
        view = _checked(annals, data, by)
        item = SavedViewItem(uuid.uuid4(), view, now, by, now, by)
        annals.saved_views.add(item)
        return item

    @put(
        "/{id:uuid}",
        guards=EDITING,
        sync_to_thread=True,
        summary="Replace a saved view",
        responses=CHANGING_PROBLEMS,
    )
    def change(
        self, request: Request[Any, Any, Any], id: ViewId, data: JSONBody[SavedViewRequest]
    ) -> SavedViewItem:
        annals: Annals = request.app.state.annals
        before = annals.saved_views.get(id)
        item = msgspec.structs.replace(
            before,
            view=_checked(annals, data, request.state.key_id),
            changed_at=datetime.now(UTC),
            changed_by=request.state.key_id,
        )
        annals.saved_views.change(item)
        return item

    @delete(
        "/{id:uuid}",
        guards=EDITING,
        status_code=200,
        sync_to_thread=True,
        summary="Delete a saved view",
        responses=READING_PROBLEMS,
    )
    def delete(self, state: State, id: ViewId) -> SavedViewItem:
        annals: Annals = state.annals
        gone = annals.saved_views.get(id)
        annals.saved_views.delete(id)
        return gone


def _checked(annals: Annals, data: SavedViewRequest, by: UUID) -> SavedView:
    """Raises: InvalidInput: what the list itself would refuse, or a name that cannot be."""
    name = checked_name(data.name)
    with annals.queries.connect() as conn:
        question = Question(segment=data.segment, filter=data.filter)
        asked = selection(conn, data.kind, question, by=by)
        types = KnownNames(conn).properties(data.kind)
    order(data.sort, types)
    columns = checked_columns(data.columns, types)
    return SavedView(data.kind, name, data.sort, columns, asked.segment, asked.filter)
