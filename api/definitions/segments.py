"""Segments: saved conditions and hand-kept lists, who is in them, and who would be."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.definitions.saving import Saved, saved
from api.http.as_of import AsOf, Readings
from api.http.auth import PLACE, READERS, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import Cursor, Limit, WaitFor, all_named
from api.http.problems import answers
from api.http.read_position import position_text
from api.openapi.bounds import Bounds, Name, SubjectText
from api.openapi.described import (
    PerhapsCondition,
    SentCondition,
    json_or_none,
    no_condition,
)
from domain.access import ApiScope
from domain.calendar import Moment
from domain.conditions.language import Condition
from domain.definitions.types import DefinitionId, Segment, checked_name
from domain.errors import InvalidInput
from domain.events.definitions import (
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
)
from domain.events.payloads import Payload
from domain.identity import SubjectKind
from domain.workspace import editing
from domain.workspace.editing import MAX_LISTED
from domain.workspace.workspace import Workspace
from infra.postgres.admission import Demand
from infra.write.condition_checks import ConditionChecks
from infra.write.definition_store import DefinitionStore
from infra.write.member_lists import MemberLists
from projections.kernel.paging import DEFAULT_LIMIT, Page
from projections.queries import segment_list
from projections.queries.segment_list import Preview, SegmentItem, SegmentMember

MAX_SAMPLE = 100
READING, EDITING = [opens(*READERS)], [opens(ApiScope.ADMIN)]

Kind = Annotated[
    SubjectKind | None,
    QueryParameter(description="segments of users or of accounts; both if left out"),
]
Listed = Annotated[list[SubjectText], Bounds(max_items=MAX_LISTED)]
SegmentId = Annotated[UUID, PathParameter(description="of a segment")]

READING_PROBLEMS = answers(400, 401, 403, 404, 503)
CHANGING_PROBLEMS = answers(400, 401, 403, 404, 409, 413, 503)


class SegmentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A segment: with a condition it is dynamic, with members static.

    Attributes:
        condition: selects the members (docs/conditions.md).
        members: the list: our ids, or `external:...`, `email:...`, `domain:...`.
    """

    kind: SubjectKind
    name: Name
    condition: PerhapsCondition = msgspec.field(default_factory=no_condition)
    members: Listed | None = None


class PreviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        sample: how many to show, up to 100.
    """

    kind: SubjectKind
    condition: SentCondition
    sample: Annotated[int, Bounds(minimum=0, maximum=MAX_SAMPLE)] = 10


class ListRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The subjects to add to and to remove from a static segment: our ids, or `external:...`,
    `email:...`, `domain:...`."""

    add: Listed = msgspec.field(default_factory=list)
    remove: Listed = msgspec.field(default_factory=list)


class DefinitionStep(msgspec.Struct, frozen=True):
    """A change in the history of a segment.

    Attributes:
        what: `defined`, `changed` or `deleted`.
        by: the API key, by id.
    """

    at: datetime
    by: UUID
    what: str
    name: str | None
    condition: Condition | None


class SegmentsController(Controller):
    """Readers read and preview; a key of scope admin defines, changes and deletes."""

    path = "/api/segments"
    tags = ("segments",)

    @get(
        guards=READING,
        sync_to_thread=True,
        summary="All segments, with the number of their members",
        responses=answers(400, 401, 403, 503),
    )
    def list(
        self,
        readings: Part[Readings],
        kind: Kind = None,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[SegmentItem]:
        annals = readings.at(waiting, as_of)
        with annals.queries.connect() as conn:
            return segment_list.list_segments(conn, [kind] if kind else list(SubjectKind))

    @get(
        "/{id:uuid}",
        guards=READING,
        sync_to_thread=True,
        summary="A segment",
        responses=READING_PROBLEMS,
    )
    def view(
        self, readings: Part[Readings], id: SegmentId, waiting: WaitFor = None, as_of: AsOf = None
    ) -> SegmentItem:
        annals = readings.at(waiting, as_of)
        with annals.queries.connect() as conn:
            return segment_list.segment(conn, id)

    @get(
        "/{id:uuid}/members",
        guards=READING,
        sync_to_thread=True,
        summary="The members of a segment, with the start of each membership",
        responses=READING_PROBLEMS,
    )
    def members(
        self,
        readings: Part[Readings],
        id: SegmentId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[SegmentMember]:
        annals = readings.at(waiting, as_of)
        with annals.queries.connect() as conn:
            return segment_list.list_members(conn, id, cursor=cursor, limit=limit)

    @get(
        "/{id:uuid}/history",
        guards=READING,
        sync_to_thread=True,
        summary="The history of a segment, newest first, with time and API key",
        responses=READING_PROBLEMS,
    )
    def history(
        self, readings: Part[Readings], id: SegmentId, as_of: AsOf = None
    ) -> Page[DefinitionStep]:
        annals = readings.at(None, as_of)
        steps = [
            _step(event.occurred_at, event.payload)
            for event in reversed(annals.definitions.history())
            if getattr(event.payload, "id", None) == id
            and not isinstance(event.payload, DefinitionCleaned)
        ]
        if not steps:
            annals.definitions.load().segment(id)
        return Page(steps, None, len(steps))

    @post(
        "/preview",
        status_code=200,
        opt={PLACE: Demand.PREVIEW},
        guards=READING,
        sync_to_thread=True,
        summary="The number of subjects that fulfil a condition, with a sample; saves nothing",
        responses=answers(400, 401, 403, 413, 429, 503),
    )
    def preview(
        self,
        checks: Part[ConditionChecks],
        workspace: Part[Callable[[], Workspace]],
        long_queries: Part[sa.Engine],
        asker: Part[Asker],
        data: JSONBody[PreviewRequest],
    ) -> Preview:
        if not 0 <= data.sample <= MAX_SAMPLE:
            raise InvalidInput(f"a sample has 0 to {MAX_SAMPLE}", pointer="/sample")
        sent = bytes(data.condition)
        condition = checks.condition(sent, data.kind, "/condition", by=asker.key_id)
        moment = Moment(datetime.now(UTC), workspace().zone)
        with long_queries.connect() as conn:
            return segment_list.preview(conn, data.kind, condition, moment, sample=data.sample)

    @post(
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Define a segment",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def define(
        self,
        checks: Part[ConditionChecks],
        member_lists: Part[MemberLists],
        asker: Part[Asker],
        data: JSONBody[SegmentRequest],
    ) -> Saved:
        id, segment = DefinitionId(uuid.uuid4()), _segment(checks, data)
        members = all_named(data.kind, data.members or (), "/members")
        positions = member_lists.define(id, segment, members, by=asker.key_id, at=datetime.now(UTC))
        return Saved(id, position_text(positions))

    @put(
        "/{id:uuid}",
        guards=EDITING,
        sync_to_thread=True,
        summary="Change a segment's name or condition",
        responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    )
    def change(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        asker: Part[Asker],
        id: SegmentId,
        data: JSONBody[SegmentRequest],
    ) -> Saved:
        if data.members is not None:
            raise InvalidInput("members are changed below /members, one by one", pointer="/members")
        definitions.load().segment(id)
        segment = _segment(checks, data)
        return saved(
            definitions, asker, id, lambda state, by: editing.change(state, id, segment, by)
        )

    @delete(
        "/{id:uuid}",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Delete a segment; its members leave it",
        responses=CHANGING_PROBLEMS,
    )
    def delete(
        self, definitions: Part[DefinitionStore], asker: Part[Asker], id: SegmentId
    ) -> Saved:
        return saved(definitions, asker, id, lambda state, by: editing.delete(state, id, by))

    @post(
        "/{id:uuid}/members",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Add users or accounts to the list of a static segment, or remove them",
        responses=CHANGING_PROBLEMS,
    )
    def change_list(
        self,
        definitions: Part[DefinitionStore],
        member_lists: Part[MemberLists],
        asker: Part[Asker],
        id: SegmentId,
        data: JSONBody[ListRequest],
    ) -> Saved:
        kind = definitions.load().static_segment(id).definition.kind
        positions = member_lists.change(
            id,
            add=all_named(kind, data.add, "/add"),
            remove=all_named(kind, data.remove, "/remove"),
            by=asker.key_id,
            at=datetime.now(UTC),
        )
        return Saved(id, position_text(positions))


def _segment(checks: ConditionChecks, data: SegmentRequest) -> Segment:
    name, sent = checked_name(data.name), json_or_none(data.condition)
    if sent is None:
        return Segment(data.kind, name)
    if data.members is not None:
        raise InvalidInput(
            "a segment has a condition or members, not both: leave one out", pointer="/members"
        )
    return Segment(data.kind, name, checks.condition(sent, data.kind, "/condition", by=None))


def _step(at: datetime, payload: Payload) -> DefinitionStep:
    match payload:
        case DefinitionMade(_, Segment() as definition, by):
            return DefinitionStep(at, by, "defined", definition.name, definition.condition)
        case DefinitionChanged(_, Segment() as definition, by):
            return DefinitionStep(at, by, "changed", definition.name, definition.condition)
        case DefinitionDeleted(_, by):
            return DefinitionStep(at, by, "deleted", None, None)
        case _:
            raise TypeError("the history of definitions holds nothing else")
