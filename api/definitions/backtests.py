"""Back-tests: what a definition would have decided over the past, before it is switched on."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.definitions.definitions import (
    HealthProfileRequest,
    ScoreRequest,
    SignalRequest,
    StagesRequest,
    decoded,
)
from api.definitions.saving import check_names
from api.http.auth import READERS, asking, opens
from api.http.parameters import Cursor, Limit
from api.http.problems import answers
from api.openapi.bounds import Bounds, Name
from api.openapi.described import SentCondition
from domain.access import ApiScope
from domain.backtest.outcomes import MAX_DAYS, Verdict
from domain.conditions import validation
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Undeciding,
    family_of,
)
from domain.errors import InvalidInput, NotYours
from domain.identity import SubjectKind
from domain.workspace import consistency
from domain.workspace.aggregate import Definitions
from infra.backtest_jobs import Job
from infra.bootstrap import Annals
from projections.kernel.paging import DEFAULT_LIMIT, Page
from projections.queries import backtest
from projections.queries.backtest import BacktestResult, BacktestSubject, Tested
from projections.queries.backtest_reading import Progress

MAX_SAMPLE = 1_000_000
DEFAULT_SAMPLE = 10_000
NO_STAGE = "none"
READING = [opens(*READERS)]

Id = Annotated[UUID, PathParameter(description="of a back-test")]
WithOutcome = Annotated[
    str | None,
    QueryParameter(
        description="only those that would be there: a stage (`none`: no stage), `good`, `normal`,"
        " `bad`, a band of a score like `20-39`, `in`, `out`, `on`, `off`"
    ),
]
WithBefore = Annotated[
    str | None,
    QueryParameter(description="only those that the active definition has there; as `outcome`"),
]
Differing = Annotated[
    bool, QueryParameter(description="only those that would be elsewhere than they are")
]


class SegmentDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="segment"):
    """Users or accounts of whom a condition holds."""

    kind: SubjectKind
    name: Name
    condition: SentCondition


Draft = SegmentDraft | StagesRequest | HealthProfileRequest | ScoreRequest | SignalRequest


class BacktestRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to test: a definition as it would be sent to be defined, or the id of one that is saved.

    Attributes:
        compare_with: the active definition whose place it would take; null: the one of its name.
            Stages are held against the active stages, health profiles against all health.
        days: of the past, today among them; up to 366.
        sample: how many subjects to look at; null: all.
    """

    definition: Draft | None = None
    id: UUID | None = None
    compare_with: UUID | None = None
    days: Annotated[int, Bounds(minimum=1, maximum=MAX_DAYS)] = 30
    sample: Annotated[int, Bounds(minimum=1, maximum=MAX_SAMPLE)] | None = DEFAULT_SAMPLE


class BacktestView(msgspec.Struct, frozen=True):
    """A back-test, under way or done.

    Attributes:
        state: `waiting`, `running`, `done`, `failed` or `cancelled`.
        phase: `waiting`, `reading` (events, or subjects of a sample) or `deciding` (days).
        done, of: how much of it.
        error: why it failed.
        result: once it is done.
    """

    id: UUID
    state: str
    phase: str
    done: int
    of: int
    begun_at: datetime
    ended_at: datetime | None
    error: str | None
    result: BacktestResult | None


class BacktestController(Controller):
    """Nothing is recorded. A back-test stays for an hour, in the process that ran it; only who
    began it cancels it, or a key of scope admin."""

    path = "/api/backtest"
    tags = ("back-tests",)
    guards = READING

    @post(
        status_code=202,
        sync_to_thread=True,
        summary="Begin a back-test",
        responses=answers(400, 401, 403, 404, 409, 413, 503),
    )
    def begin(
        self, request: Request[Any, Any, Any], data: JSONBody[BacktestRequest]
    ) -> BacktestView:
        annals: Annals = request.app.state.annals
        by: UUID = request.state.key_id
        return _view(annals.backtests.start(prepared(annals, data), by))

    @get(
        sync_to_thread=True,
        summary="The back-tests of this process, newest first",
        responses=answers(401, 403, 503),
    )
    def list(self, state: State) -> Page[BacktestView]:
        annals: Annals = state.annals
        found = [_view(job) for job in annals.backtests.all()]
        return Page(found, None, len(found))

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="How far a back-test is, and what came of it",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(self, state: State, id: Id) -> BacktestView:
        annals: Annals = state.annals
        return _view(annals.backtests.find(id))

    @get(
        "/{id:uuid}/subjects",
        sync_to_thread=True,
        summary="Who would be where today, and where they are",
        responses=answers(400, 401, 403, 404, 503),
    )
    def subjects(
        self,
        state: State,
        id: Id,
        outcome: WithOutcome = None,
        before: WithBefore = None,
        differing: Differing = False,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[BacktestSubject]:
        annals: Annals = state.annals
        tested = annals.backtests.find(id).tested
        if tested is None:
            return Page([], None, 0)
        matches = _matching(tested, outcome, before, differing=differing)
        with annals.queries.connect() as conn:
            return backtest.subjects(conn, tested.verdicts, matches, cursor=cursor, limit=limit)

    @delete(
        "/{id:uuid}",
        status_code=204,
        sync_to_thread=True,
        summary="Cancel a back-test, or forget its result",
        responses=answers(400, 401, 403, 404, 503),
    )
    def cancel(self, state: State, id: Id) -> None:
        annals: Annals = state.annals
        key_id, scope = asking.get()
        if scope is not ApiScope.ADMIN and annals.backtests.find(id).by != key_id:
            raise NotYours("another API key began this back-test: it goes by itself in time")
        annals.backtests.cancel(id)


def prepared(annals: Annals, data: BacktestRequest) -> Callable[[Progress], Tested]:
    """What a request asks for, checked and ready to run.

    Raises:
        InvalidInput: a definition that could not be active, a window or a sample out of bounds.
        NotFound: no such definition. Conflict: others rest on what it would no longer be.
    """
    if not 1 <= data.days <= MAX_DAYS:
        raise InvalidInput(f"a window is 1 to {MAX_DAYS} days long", pointer="/days")
    if data.sample is not None and not 1 <= data.sample <= MAX_SAMPLE:
        raise InvalidInput(
            f"a sample is 1 to {MAX_SAMPLE:,} subjects; null stands for all", pointer="/sample"
        )
    definitions = annals.definitions.load()
    draft, replaces = _draft(annals, definitions, data)
    active = definitions.active
    workspace, now = annals.workspace_now(), datetime.now(UTC)

    def work(progress: Progress) -> Tested:
        return backtest.run(
            draft,
            active,
            replaces,
            days=data.days,
            sample=data.sample,
            now=now,
            zone=workspace.zone,
            names=workspace.names,
            queries=annals.long_queries,
            log=annals.log,
            records=annals.records,
            opener=annals.sealer,
            progress=progress,
        )

    return work


def _draft(
    annals: Annals, definitions: Definitions, data: BacktestRequest
) -> tuple[Definition, DefinitionId | None]:
    """The definition to test, and the active one that it is held against."""
    if (data.definition is None) == (data.id is None):
        raise InvalidInput("send either a definition or the id of one", pointer="/definition")
    if data.definition is None:
        assert data.id is not None
        saved = definitions.find(data.id)
        if isinstance(saved.definition, Undeciding):
            raise InvalidInput("this decides nothing that could be tested", pointer="/id")
        return saved.definition, _replaced(definitions, saved.definition, data, saved.id)
    try:
        draft = _decoded(data.definition)
        consistency.check(draft)
        check_names(annals, partial(consistency.check_names, draft), draft)
        replaces = _replaced(definitions, draft, data, None)
        nobody = UUID(int=0)
        if replaces is None:
            definitions.make(DefinitionId(uuid.uuid4()), draft, nobody)
        else:
            definitions.change(replaces, draft, nobody)
    except InvalidInput as error:
        pointer = (
            error.pointer if error.pointer == "/compare_with" else f"/definition{error.pointer}"
        )
        raise InvalidInput(error.detail, pointer=pointer) from None
    return draft, replaces


def _decoded(data: Draft) -> Definition:
    if isinstance(data, SegmentDraft):
        condition = validation.decoded(msgspec.json.encode(data.condition), "/condition")
        return Segment(data.kind, data.name, condition)
    return decoded(data)


def _replaced(
    definitions: Definitions, draft: Definition, data: BacktestRequest, own: DefinitionId | None
) -> DefinitionId | None:
    active = definitions.active
    if data.compare_with is not None:
        id = definitions.find(data.compare_with).id
        if id not in active or family_of(active[id]) is not family_of(draft):
            raise InvalidInput(
                "a definition is compared with an active one of its own type",
                pointer="/compare_with",
            )
        return id
    if own in active:
        return own
    if not isinstance(draft, Segment | Score | Signal | HealthProfile):
        return None
    for id, one in active.items():
        if isinstance(one, type(draft)) and (one.kind, one.name) == (draft.kind, draft.name):
            return id
    return None


def _matching(
    tested: Tested, outcome: str | None, before: str | None, *, differing: bool
) -> Callable[[Verdict], bool]:
    def is_there(asked: str | None, there: str | None) -> bool:
        return asked is None or asked == (NO_STAGE if there is None else there)

    has_before = tested.result.compared_with is not None

    def matches(one: Verdict) -> bool:
        moved = has_before and one.before != one.after
        return (
            is_there(outcome, one.after)
            and (before is None or (has_before and is_there(before, one.before)))
            and (moved or not differing)
        )

    return matches


def _view(job: Job) -> BacktestView:
    return BacktestView(
        id=job.id,
        state=job.state.value,
        phase=job.phase,
        done=job.done,
        of=job.of,
        begun_at=job.begun_at,
        ended_at=job.ended_at,
        error=job.error,
        result=None if job.tested is None else job.tested.result,
    )
