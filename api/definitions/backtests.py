"""Back-tests: the decisions that a definition would have made over the past, before it is
active."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Controller, delete, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.definitions.definitions import (
    HealthProfileRequest,
    ScoreRequest,
    SignalRequest,
    StagesRequest,
    decoded,
)
from api.http.auth import READERS, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import Cursor, Limit
from api.http.problems import answers
from api.openapi.bounds import Bounds, Name
from api.openapi.described import SentCondition
from domain.access import ApiScope
from domain.backtest.outcomes import MAX_DAYS, Verdict
from domain.conditions import decoding
from domain.definitions.types import Definition, Segment
from domain.errors import InvalidInput, NotYours
from domain.identity import SubjectKind
from infra.backtest_jobs import BacktestJobs, Job
from infra.backtest_planner import MAX_SAMPLE, BacktestPlanner
from projections.kernel.paging import DEFAULT_LIMIT, Page
from projections.queries import backtest
from projections.queries.backtest import BacktestResult, BacktestSubject, Tested
from projections.queries.backtest_reading import Progress

DEFAULT_SAMPLE = 10_000
NO_STAGE = "none"
READING = [opens(*READERS)]

Id = Annotated[UUID, PathParameter(description="of a back-test")]
WithOutcome = Annotated[
    str | None,
    QueryParameter(
        description="only subjects with this outcome: a stage (`none`: no stage), `good`, `normal`,"
        " `bad`, a band of a score like `20-39`, `in`, `out`, `on`, `off`"
    ),
]
WithBefore = Annotated[
    str | None,
    QueryParameter(description="only subjects with this outcome by the active definition"),
]
Differing = Annotated[
    bool, QueryParameter(description="`true`: only subjects whose outcome differs")
]


class SegmentDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="segment"):
    """A draft of a segment: users or accounts that fulfil a condition."""

    kind: SubjectKind
    name: Name
    condition: SentCondition


Draft = SegmentDraft | StagesRequest | HealthProfileRequest | ScoreRequest | SignalRequest


class BacktestRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The definition to test: in the form in which it is defined, or the id of a saved one.

    Attributes:
        compare_with: the active definition that it would replace; null: the one of its name. Stages
            are compared with the active stages, health profiles with all health.
        days: the number of past days, including today; up to 366.
        sample: how many subjects to test; null: all.
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
        done, of: the amount done in the phase, and the whole amount.
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
    """Nothing is recorded. A back-test stays for an hour, in the process that ran it; only the API
    key that began it, or one of scope admin, cancels it."""

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
        self,
        backtests: Part[BacktestJobs],
        backtest_planner: Part[BacktestPlanner],
        asker: Part[Asker],
        data: JSONBody[BacktestRequest],
    ) -> BacktestView:
        return _view(backtests.start(planned(backtest_planner, data), asker.key_id))

    @get(
        sync_to_thread=True,
        summary="The back-tests of this process, newest first",
        responses=answers(401, 403, 503),
    )
    def list(self, backtests: Part[BacktestJobs]) -> Page[BacktestView]:
        views = [_view(job) for job in backtests.all()]
        return Page(views, None, len(views))

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="A back-test: its progress and its result",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(self, backtests: Part[BacktestJobs], id: Id) -> BacktestView:
        return _view(backtests.find(id))

    @get(
        "/{id:uuid}/subjects",
        sync_to_thread=True,
        summary="The outcome of each subject today, by the draft and by the active definition",
        responses=answers(400, 401, 403, 404, 503),
    )
    def subjects(
        self,
        backtests: Part[BacktestJobs],
        queries: Part[sa.Engine],
        id: Id,
        outcome: WithOutcome = None,
        before: WithBefore = None,
        differing: Differing = False,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Page[BacktestSubject]:
        tested = backtests.find(id).tested
        if tested is None:
            return Page([], None, 0)
        matches = _matching(tested, outcome, before, differing=differing)
        with queries.connect() as conn:
            return backtest.subjects(conn, tested.verdicts, matches, cursor=cursor, limit=limit)

    @delete(
        "/{id:uuid}",
        status_code=204,
        sync_to_thread=True,
        summary="Cancel a back-test, or forget its result",
        responses=answers(400, 401, 403, 404, 503),
    )
    def cancel(self, backtests: Part[BacktestJobs], asker: Part[Asker], id: Id) -> None:
        if asker.scope is not ApiScope.ADMIN and backtests.find(id).by != asker.key_id:
            raise NotYours("another API key began this back-test: it ends by itself in time")
        backtests.cancel(id)


def planned(planner: BacktestPlanner, data: BacktestRequest) -> Callable[[Progress], Tested]:
    """Returns: the back-test of a request, ready to run.

    Raises:
        InvalidInput: not exactly one of a definition and an id.
        Refusal: see `BacktestPlanner.plan`.
    """
    if (data.definition is None) == (data.id is None):
        raise InvalidInput("send either a definition or the id of one", pointer="/definition")
    tested = data.id if data.definition is None else _draft(data.definition)
    assert tested is not None
    return planner.plan(tested, compare_with=data.compare_with, days=data.days, sample=data.sample)


def _draft(data: Draft) -> Definition:
    """Raises: InvalidInput: a condition is invalid; says where."""
    try:
        if isinstance(data, SegmentDraft):
            condition = decoding.decode(bytes(data.condition), "/condition")
            return Segment(data.kind, data.name, condition)
        return decoded(data)
    except InvalidInput as error:
        raise InvalidInput(error.detail, pointer=f"/definition{error.pointer}") from None


def _matching(
    tested: Tested, outcome: str | None, before: str | None, *, differing: bool
) -> Callable[[Verdict], bool]:
    def is_outcome(wanted: str | None, outcome: str | None) -> bool:
        return wanted is None or wanted == (NO_STAGE if outcome is None else outcome)

    has_before = tested.result.compared_with is not None

    def matches(verdict: Verdict) -> bool:
        moved = has_before and verdict.before != verdict.after
        return (
            is_outcome(outcome, verdict.after)
            and (before is None or (has_before and is_outcome(before, verdict.before)))
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
