"""The history of a user or an account: its timeline, its stages, its Overview."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Annotated, Literal

from litestar import Controller, get
from litestar.params import QueryParameter

from api.contacts.contacts import READING_PROBLEMS
from api.http.as_of import AsOf, Readings
from api.http.auth import READERS, opens
from api.http.dependencies import Part
from api.http.parameters import ContactId, Cursor, Limit, WaitFor, reading_of
from api.openapi.bounds import Bounds
from domain.activity import MAX_URL_CHARS
from domain.calendar import Moment, boundary, end_of, start_of
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from domain.texts import character_problem, trimmed
from projections.kernel.paging import DEFAULT_LIMIT, Page
from projections.kernel.time_range import BEGINNING, END
from projections.queries import contact_view
from projections.queries.overview import Overview, overview
from projections.queries.stage_timeline import StageTimeline, stage_timeline
from projections.queries.timeline import Wanted, timeline
from projections.queries.timeline_items import TYPES, TimelineItem

MAX_NAMES = 20

Types = Annotated[
    list[Annotated[str, Bounds(enum=list(TYPES))]] | None,
    QueryParameter(
        name="type",
        description="only items of this type, each in a parameter of its own: " + ", ".join(TYPES),
    ),
]
Names = Annotated[
    Annotated[list[str], Bounds(max_items=MAX_NAMES)] | None,
    QueryParameter(
        name="name",
        description="only items of this name, each in a parameter of its own: activity, stages,"
        " healths, scores, signals, segments, and properties that changed",
    ),
]
From = Annotated[
    str | None,
    QueryParameter(name="from", description="from this day or instant on (ISO 8601)"),
]
Until = Annotated[
    str | None,
    QueryParameter(
        name="until", description="up to this day, which is included, or before this instant"
    ),
]
Order = Annotated[Literal["newest", "oldest"], QueryParameter(description="which items come first")]
WithTotal = Annotated[
    bool | None,
    QueryParameter(
        description="`true` counts them all, which takes longer than a page; left out, and with"
        " `name`, `total` is null"
    ),
]


def _checked_types(types: Sequence[str]) -> tuple[str, ...]:
    for type in types:
        if type not in TYPES:
            known = ", ".join(TYPES)
            raise InvalidInput(f"there is no such type; there are {known}", pointer="/type")
    return tuple(types)


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    if len(names) > MAX_NAMES:
        raise InvalidInput(f"at most {MAX_NAMES} names are looked for at once", pointer="/name")
    trimmed_names = tuple(map(trimmed, names))
    for name in trimmed_names:
        if not name or len(name) > MAX_URL_CHARS or character_problem(name) is not None:
            raise InvalidInput(
                f"a name has 1 to {MAX_URL_CHARS} characters, none of them a control character",
                pointer="/name",
            )
    return trimmed_names


def _boundary(text: str, pointer: str) -> date | datetime:
    try:
        return boundary(text)
    except ValueError as reason:
        raise InvalidInput(
            f"send a day like 2026-05-13, or an instant with a zone: {reason}", pointer=pointer
        ) from None


def _span(since: str | None, until: str | None, zone: tzinfo) -> tuple[datetime, datetime]:
    first = BEGINNING if since is None else _boundary(since, "/from")
    last = END if until is None else _boundary(until, "/until")
    first = first if isinstance(first, datetime) else start_of(first, zone)
    last = last if isinstance(last, datetime) else end_of(last, zone)
    if last < first:
        raise InvalidInput("`until` is before `from`", pointer="/until")
    return first.astimezone(UTC), last.astimezone(UTC)


class _Histories(Controller):
    """Routes that users and accounts share."""

    guards = (opens(*READERS),)
    kind: SubjectKind

    @get(
        "/{id:str}/timeline",
        sync_to_thread=True,
        summary="The timeline: all events, in order of occurrence",
        responses=READING_PROBLEMS,
    )
    def timeline(
        self,
        readings: Part[Readings],
        id: ContactId,
        types: Types = None,
        names: Names = None,
        since: From = None,
        until: Until = None,
        order: Order = "newest",
        total: WithTotal = None,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[TimelineItem]:
        with reading_of(readings, self.kind, id, waiting, as_of) as (annals, conn, subject):
            contact_view.require(conn, self.kind, subject)
            first, last = _span(since, until, annals.workspace().zone)
            return timeline(
                conn,
                annals.timelines,
                annals.sealer,
                self.kind,
                contact_view.streams_of(conn, subject),
                Wanted(
                    types=_checked_types(types or ()),
                    names=_checked_names(names or ()),
                    since=first,
                    until=last,
                    newest_first=order == "newest",
                    total=bool(total),
                ),
                cursor=cursor,
                limit=limit,
            )

    @get(
        "/{id:str}/stages",
        sync_to_thread=True,
        summary="The stages over time, with counts and durations",
        responses=READING_PROBLEMS,
    )
    def stages(
        self,
        readings: Part[Readings],
        id: ContactId,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> StageTimeline:
        with reading_of(readings, self.kind, id, waiting, as_of) as (annals, conn, subject):
            contact_view.require(conn, self.kind, subject)
            return stage_timeline(
                conn,
                annals.timelines,
                annals.sealer,
                self.kind,
                subject,
                backdated=annals.workspace().backdated_stages,
                now=annals.now(),
            )

    @get(
        "/{id:str}/overview",
        sync_to_thread=True,
        summary="Preferred properties and events, over the last 30 days",
        responses=READING_PROBLEMS,
    )
    def overview(
        self,
        readings: Part[Readings],
        id: ContactId,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Overview:
        with reading_of(readings, self.kind, id, waiting, as_of) as (annals, conn, subject):
            workspace = annals.workspace()
            return overview(
                conn,
                annals.timelines,
                annals.sealer,
                self.kind,
                subject,
                workspace.users if self.kind is SubjectKind.USER else workspace.accounts,
                Moment(annals.now(), workspace.zone),
                workspace.names.types_of(self.kind),
            )


class UserHistoriesController(_Histories):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER


class AccountHistoriesController(_Histories):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT
