"""Segments: saved conditions and hand-kept lists, who is in them, and who would be."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post, put
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.definitions.saving import Saved, check_names, saved
from api.http.as_of import AsOf, reading
from api.http.auth import PLACE, READERS, opens
from api.http.parameters import Cursor, Limit, WaitFor, named
from api.http.problems import answers
from api.http.read_position import position_text
from api.openapi.bounds import Bounds, Name, SubjectText
from api.openapi.described import PerhapsCondition, SentCondition
from domain.access import ApiScope
from domain.calendar import Moment
from domain.conditions import decoding, validation
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
from domain.identity import Identity, SubjectId, SubjectKind
from domain.workspace import editing
from domain.workspace.editing import MAX_LISTED
from infra.bootstrap import Annals
from infra.postgres.admission import Demand
from projections.counters.requests import require
from projections.kernel.paging import DEFAULT_LIMIT, Page
from projections.queries import segment_list
from projections.queries.contact_view import streams_of
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
    """A segment: one with a condition is dynamic, one with members is static.

    Attributes:
        condition: who is in it (docs/conditions.md).
        members: who is on the list: our ids, or `external:...`, `email:...`, `domain:...`.
    """

    kind: SubjectKind
    name: Name
    condition: PerhapsCondition = None
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
    """Who is put on the list of a static segment, and who is taken off: by our ids, or
    `external:...`, `email:...`, `domain:...`."""

    add: Listed = msgspec.field(default_factory=list)
    remove: Listed = msgspec.field(default_factory=list)


class DefinitionStep(msgspec.Struct, frozen=True):
    """What became of a segment once.

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
        self, state: State, kind: Kind = None, waiting: WaitFor = None, as_of: AsOf = None
    ) -> Page[SegmentItem]:
        annals = reading(state, waiting, as_of)
        with annals.queries.connect() as conn:
            return segment_list.list_segments(conn, [kind] if kind else list(SubjectKind))

    @get(
        "/{id:uuid}",
        guards=READING,
        sync_to_thread=True,
        summary="One segment",
        responses=READING_PROBLEMS,
    )
    def view(
        self, state: State, id: SegmentId, waiting: WaitFor = None, as_of: AsOf = None
    ) -> SegmentItem:
        annals = reading(state, waiting, as_of)
        with annals.queries.connect() as conn:
            return segment_list.segment(conn, id)

    @get(
        "/{id:uuid}/members",
        guards=READING,
        sync_to_thread=True,
        summary="Who is in a segment, since when",
        responses=READING_PROBLEMS,
    )
    def members(
        self,
        state: State,
        id: SegmentId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[SegmentMember]:
        annals = reading(state, waiting, as_of)
        with annals.queries.connect() as conn:
            return segment_list.list_members(conn, id, cursor=cursor, limit=limit)

    @get(
        "/{id:uuid}/history",
        guards=READING,
        sync_to_thread=True,
        summary="Who defined, changed and deleted a segment, and when; newest first",
        responses=READING_PROBLEMS,
    )
    def history(self, state: State, id: SegmentId, as_of: AsOf = None) -> Page[DefinitionStep]:
        annals = reading(state, None, as_of)
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
        summary="How many a condition holds of, and some of them; nothing is saved",
        responses=answers(400, 401, 403, 413, 429, 503),
    )
    def preview(self, request: Request[Any, Any, Any], data: JSONBody[PreviewRequest]) -> Preview:
        annals: Annals = request.app.state.annals
        if not 0 <= data.sample <= MAX_SAMPLE:
            raise InvalidInput(f"a sample has 0 to {MAX_SAMPLE}", pointer="/sample")
        condition = _condition(annals, data.kind, data.condition, by=request.state.key_id)
        moment = Moment(datetime.now(UTC), annals.workspace().zone)
        with annals.long_queries.connect() as conn:
            return segment_list.preview(conn, data.kind, condition, moment, sample=data.sample)

    @post(
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Define a segment",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def define(self, request: Request[Any, Any, Any], data: JSONBody[SegmentRequest]) -> Saved:
        annals: Annals = request.app.state.annals
        by: UUID = request.state.key_id
        at, id = datetime.now(UTC), DefinitionId(uuid.uuid4())
        segment = _segment(annals, data)
        positions = []
        if data.members:
            # Before anything is written, what could be refused; then the list, for a segment
            # whose list is not there yet would let its members wait.
            editing.make(annals.definitions.load(), id, segment, by)
            listed = list(_resolved(annals, data.kind, data.members, "/members"))
            changes = editing.change_list(listed, by, on=True)
            positions += annals.definitions.change_list(id, changes, at)
        positions += annals.definitions.decide(
            lambda state: editing.make(state, id, segment, by), at
        )
        return Saved(id, position_text(positions))

    @put(
        "/{id:uuid}",
        guards=EDITING,
        sync_to_thread=True,
        summary="Change a segment's name or condition",
        responses=answers(400, 401, 403, 404, 409, 413, 429, 503),
    )
    def change(
        self, request: Request[Any, Any, Any], id: SegmentId, data: JSONBody[SegmentRequest]
    ) -> Saved:
        annals: Annals = request.app.state.annals
        if data.members is not None:
            raise InvalidInput("members are changed below /members, one by one", pointer="/members")
        annals.definitions.load().segment(id)
        segment = _segment(annals, data)
        return saved(request, id, lambda state, by: editing.change(state, id, segment, by))

    @delete(
        "/{id:uuid}",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Delete a segment; whoever is in it leaves it",
        responses=CHANGING_PROBLEMS,
    )
    def delete(self, request: Request[Any, Any, Any], id: SegmentId) -> Saved:
        return saved(request, id, lambda state, by: editing.delete(state, id, by))

    @post(
        "/{id:uuid}/members",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Put users or accounts on the list of a static segment, or take them off",
        responses=CHANGING_PROBLEMS,
    )
    def change_list(
        self, request: Request[Any, Any, Any], id: SegmentId, data: JSONBody[ListRequest]
    ) -> Saved:
        annals: Annals = request.app.state.annals
        by: UUID = request.state.key_id
        segment = annals.definitions.load().static_segment(id)
        kind = segment.definition.kind
        gone = _resolved(annals, kind, data.remove, "/remove")
        new = _resolved(annals, kind, data.add, "/add")
        changes: list[Payload] = []
        if gone:
            with annals.queries.connect() as conn:
                known_as = [stream for one in gone for stream in streams_of(conn, one)]
            changes += editing.change_list(known_as, by, on=False)
        if new:
            changes += editing.change_list(list(new), by, on=True)
        positions = annals.definitions.change_list(id, changes, datetime.now(UTC))
        return Saved(id, position_text(positions))


def _segment(annals: Annals, data: SegmentRequest) -> Segment:
    name = checked_name(data.name)
    if data.condition is None:
        return Segment(data.kind, name)
    if data.members is not None:
        raise InvalidInput(
            "a segment has a condition or members, not both: leave one out", pointer="/members"
        )
    return Segment(data.kind, name, _condition(annals, data.kind, data.condition, by=None))


def _condition(annals: Annals, kind: SubjectKind, sent: object, *, by: UUID | None) -> Condition:
    """`by`: the API key of a question; None: a segment asks."""
    condition = decoding.decode(msgspec.json.encode(sent), "/condition")
    check_names(annals, lambda names: validation.check(condition, kind, names, "/condition"))
    with annals.queries.connect() as conn:
        require(conn, condition, by=by, at=datetime.now(UTC))
    return condition


def _resolved(
    annals: Annals, kind: SubjectKind, texts: Sequence[str], pointer: str
) -> Collection[SubjectId]:
    """The subjects that some ids mean, each once.

    Raises:
        InvalidInput: too many, or one that is no id, or nobody's; says which.
    """
    if len(texts) > MAX_LISTED:
        raise InvalidInput(f"at most {MAX_LISTED:,} members at a time", pointer=pointer)
    names: list[SubjectId | Identity] = []
    for n, text in enumerate(texts):
        try:
            names.append(named(kind, text))
        except InvalidInput as error:
            raise InvalidInput(error.detail, pointer=f"{pointer}/{n}") from None
    by_identity = annals.subject_lookup.find_all(one for one in names if isinstance(one, Identity))
    ids: list[SubjectId] = []
    for n, name in enumerate(names):
        found = by_identity.get(name) if isinstance(name, Identity) else name
        if found is None:
            raise InvalidInput(f"there is no such {kind}", pointer=f"{pointer}/{n}")
        ids.append(found)
    with annals.queries.connect() as conn:
        there = segment_list.known(conn, kind, ids)
    for n, (id, text) in enumerate(zip(ids, texts, strict=True)):
        if id not in there and ":" not in text:
            raise InvalidInput(f"there is no such {kind}", pointer=f"{pointer}/{n}")
    return dict.fromkeys(there.get(id, id) for id in ids)


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
