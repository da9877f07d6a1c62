"""Lists, bars and exports of one question, asked by query or by body."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody, QueryParameter
from litestar.response import Stream
from sqlalchemy.exc import SQLAlchemyError

from api.http.as_of import AsOf, Readings
from api.http.auth import PLACE, READERS, Asker, opens
from api.http.dependencies import Part
from api.http.disconnects import Answer, answer_of
from api.http.parameters import Cursor, Limit, WaitFor
from api.http.problems import answers
from api.openapi.bounds import Bounds, Instant, Positions
from api.openapi.described import PerhapsCondition, files, json_or_none, no_condition
from domain.calendar import Moment
from domain.errors import TakesTooLong
from domain.identity import SubjectKind
from infra.postgres.admission import Demand
from infra.postgres.readers import is_ended
from projections.conditions.known_names import KnownNames
from projections.conditions.search import MAX_SEARCH_CHARS
from projections.conditions.selection import Selection
from projections.kernel.database_errors import is_cancelled
from projections.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT
from projections.queries import bars, export
from projections.queries.bars import Bars
from projections.queries.contact_list import (
    DEFAULT_SORT,
    MAX_COLUMNS,
    SORTABLE,
    ContactPage,
    Lists,
    list_contacts,
)
from projections.queries.filters import Filters, filters
from projections.queries.selecting import selection

HttpRequest = Request[Any, Any, Any]

Segment = Annotated[UUID | None, QueryParameter(description="only the members of this segment")]
Filter = Annotated[
    str | None, QueryParameter(description="only contacts that fulfil this condition, as JSON")
]
SearchText = Annotated[str, Bounds(max_length=MAX_SEARCH_CHARS)]
ColumnNames = Annotated[list[str], Bounds(max_items=MAX_COLUMNS)]
Search = Annotated[
    SearchText | None,
    QueryParameter(
        description="a name, e-mail, domain, external id or Annals id, or words and parts of them"
        " in any order; case, accents and spaces make no difference, a slip is forgiven"
    ),
]
Sort = Annotated[
    str | None,
    QueryParameter(
        description="a column, with a minus before it for descending: "
        + ", ".join((*SORTABLE, "property:<name>"))
        + f". Left out: the best answers to the search first; without one, {DEFAULT_SORT}"
    ),
]
RowsSort = Annotated[
    str,
    QueryParameter(
        description="a column, with a minus before it for descending: "
        + ", ".join((*SORTABLE, "property:<name>"))
    ),
]
Columns = Annotated[
    ColumnNames | None,
    QueryParameter(description="properties to return, each in a parameter of its own; default all"),
]
WithTotal = Annotated[
    bool | None,
    QueryParameter(
        description="`true` counts them all, which takes longer than a page; left out, `total` is"
        " null if a count would be needed"
    ),
]
Format = Annotated[
    Literal["csv", "ndjson"], QueryParameter(description="comma-separated or a JSON object a line")
]

ByteOrderMark = Annotated[
    bool,
    QueryParameter(
        description="`true`: a CSV begins with a byte-order mark, by which Excel tells that it is"
        " in UTF-8"
    ),
]

EXPORTED = files(export.MEDIA_TYPES.values())

LISTING_PROBLEMS = answers(400, 401, 403, 429, 503)
ASKING_PROBLEMS = answers(400, 401, 403, 413, 429, 503)


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Selects users or accounts.

    Attributes:
        filter: a condition.
        as_of: a past instant (ISO 8601 with a zone); null: now.
    """

    segment: UUID | None = None
    filter: PerhapsCondition = msgspec.field(default_factory=no_condition)
    search: SearchText | None = None
    wait_for: Positions | None = None
    as_of: Instant | None = None


class RowsQuestion(Question, frozen=True, kw_only=True):
    """
    Attributes:
        columns: properties to return; null: all.
    """

    sort: str = DEFAULT_SORT
    columns: ColumnNames | None = None


class ListQuestion(Question, frozen=True, kw_only=True):
    """
    Attributes:
        sort: null: the best answers to the search first; without one, `-last_seen`.
        columns: properties to return; null: all.
        total: true: counts all; null: gives the total only if no count is needed.
    """

    sort: str | None = None
    columns: ColumnNames | None = None
    cursor: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    total: bool | None = None


def _by_query(
    segment: Segment = None,
    filter: Filter = None,
    search: Search = None,
    waiting: WaitFor = None,
    as_of: AsOf = None,
) -> Question:
    json = no_condition() if filter is None else msgspec.Raw(filter.encode(errors="replace"))
    return Question(segment=segment, filter=json, search=search, wait_for=waiting, as_of=as_of)


def _selection(
    conn: sa.Connection, kind: SubjectKind, question: Question, asker: Asker
) -> Selection:
    return selection(
        conn,
        kind,
        segment=question.segment,
        filter=json_or_none(question.filter),
        search=question.search,
        by=asker.key_id,
    )


def _list(
    readings: Readings, asker: Asker, kind: SubjectKind, question: ListQuestion
) -> ContactPage:
    annals = readings.at(question.wait_for, question.as_of)
    workspace = annals.workspace()
    with annals.queries.connect() as conn:
        return list_contacts(
            conn,
            _selection(conn, kind, question, asker),
            Moment(annals.now(), workspace.zone),
            sort=question.sort,
            columns=question.columns,
            cursor=question.cursor,
            limit=question.limit,
            with_total=question.total,
            currency=workspace.currency,
        )


def _bars(readings: Readings, asker: Asker, kind: SubjectKind, question: Question) -> Bars:
    annals = readings.at(question.wait_for, question.as_of)
    workspace = annals.workspace()
    with annals.queries.connect() as conn:
        return bars.bars(
            conn,
            _selection(conn, kind, question, asker),
            Moment(annals.now(), workspace.zone),
            currency=workspace.currency,
        )


class _Lines:
    """The lines of an export. `close` gives their connection back when the client leaves."""

    def __init__(self, lines: Generator[bytes, None, None]) -> None:
        self._lines = lines
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._lock:
            return next(self._lines)

    def close(self) -> None:
        with self._lock:
            self._lines.close()


def _export(
    readings: Readings,
    asker: Asker,
    answer: Answer,
    kind: SubjectKind,
    question: RowsQuestion,
    format: str,
    *,
    marked: bool,
) -> Stream:
    annals = readings.at(question.wait_for, question.as_of)
    workspace = annals.workspace()
    with annals.streams.connect() as conn:
        lists = Lists(
            _selection(conn, kind, question, asker),
            Moment(annals.now(), workspace.zone),
            KnownNames(conn).properties(kind),
            sort=question.sort,
            columns=question.columns,
            currency=workspace.currency,
        )

    def lines() -> Generator[bytes, None, None]:
        with annals.streams.connect() as conn:
            answer.is_over = partial(is_ended, conn)
            try:
                yield from export.lines(conn, lists, format, marked=marked, is_ended=answer.is_over)
            finally:
                answer.is_over = lambda: False

    whole = _Lines(lines())
    answer.at_end(whole.close)
    return Stream(
        _explained(next(whole), whole, format),
        media_type=export.MEDIA_TYPES[format],
        headers={"Content-Disposition": f'attachment; filename="{kind}s.{format}"'},
    )


def _explained(first: bytes, following: Iterator[bytes], format: str) -> Iterator[bytes]:
    """The lines; a last one says why where they end too early."""
    try:
        yield first
        yield from following
    except (SQLAlchemyError, psycopg.Error, export.Ended) as error:
        if format == "ndjson" and is_cancelled(error):
            yield export.last_line(TakesTooLong.code, TakesTooLong().detail)
        elif format == "ndjson":
            detail = "the server ended this export, as an erasure does: export again"
            yield export.last_line("interrupted", detail)
        raise


class _Lists(Controller):
    """Routes that the lists of users and of accounts share."""

    guards = (opens(*READERS),)
    dependencies = {"question": Provide(_by_query, sync_to_thread=False)}
    kind: SubjectKind

    @get(sync_to_thread=True, summary="List, search and sort", responses=LISTING_PROBLEMS)
    def list(
        self,
        readings: Part[Readings],
        asker: Part[Asker],
        question: NamedDependency[Question],
        sort: Sort = None,
        columns: Columns = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        total: WithTotal = None,
    ) -> ContactPage:
        list_question = ListQuestion(
            **msgspec.structs.asdict(question),
            sort=sort,
            columns=columns,
            cursor=cursor,
            limit=limit,
            total=total,
        )
        return _list(readings, asker, self.kind, list_question)

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="List, search and sort; for long conditions",
        responses=ASKING_PROBLEMS,
    )
    def list_by_body(
        self, readings: Part[Readings], asker: Part[Asker], data: JSONBody[ListQuestion]
    ) -> ContactPage:
        return _list(readings, asker, self.kind, data)

    @get("/bars", sync_to_thread=True, summary="Stages and healths", responses=LISTING_PROBLEMS)
    def bars(
        self, readings: Part[Readings], asker: Part[Asker], question: NamedDependency[Question]
    ) -> Bars:
        return _bars(readings, asker, self.kind, question)

    @post(
        "/bars",
        status_code=200,
        sync_to_thread=True,
        summary="Stages and healths; for long conditions",
        responses=ASKING_PROBLEMS,
    )
    def bars_by_body(
        self, readings: Part[Readings], asker: Part[Asker], data: JSONBody[Question]
    ) -> Bars:
        return _bars(readings, asker, self.kind, data)

    @get(
        "/filters",
        sync_to_thread=True,
        summary="The quick filters: values, ranges, stages, healths, segments",
        responses=answers(400, 401, 403, 503),
    )
    def filters(self, readings: Part[Readings], as_of: AsOf = None) -> Filters:
        annals = readings.at(None, as_of)
        with annals.queries.connect() as conn:
            return filters(conn, self.kind)

    @get(
        "/export",
        sync_to_thread=True,
        opt={PLACE: Demand.EXPORT},
        operation_class=EXPORTED,
        summary="All rows of a list, as a file",
        responses=LISTING_PROBLEMS,
    )
    def export(
        self,
        request: HttpRequest,
        readings: Part[Readings],
        asker: Part[Asker],
        question: NamedDependency[Question],
        format: Format = "csv",
        bom: ByteOrderMark = False,
        sort: RowsSort = DEFAULT_SORT,
        columns: Columns = None,
    ) -> Stream:
        rows_question = RowsQuestion(**msgspec.structs.asdict(question), sort=sort, columns=columns)
        answer = answer_of(request.scope)
        return _export(readings, asker, answer, self.kind, rows_question, format, marked=bom)

    @post(
        "/export",
        status_code=200,
        sync_to_thread=True,
        opt={PLACE: Demand.EXPORT},
        operation_class=EXPORTED,
        summary="All rows of a list, as a file; for long conditions",
        responses=ASKING_PROBLEMS,
    )
    def export_by_body(
        self,
        request: HttpRequest,
        readings: Part[Readings],
        asker: Part[Asker],
        data: JSONBody[RowsQuestion],
        format: Format = "csv",
        bom: ByteOrderMark = False,
    ) -> Stream:
        answer = answer_of(request.scope)
        return _export(readings, asker, answer, self.kind, data, format, marked=bom)


class UserListsController(_Lists):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER


class AccountListsController(_Lists):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT
