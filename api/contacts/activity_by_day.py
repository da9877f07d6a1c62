"""Activity of a user or an account by day: the charts on its tabs."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from api.contacts.contacts import READING_PROBLEMS, TABS, Tab
from api.http.as_of import AsOf, Readings
from api.http.auth import READERS, opens
from api.http.dependencies import Part
from api.http.parameters import ContactId, WaitFor, reading_of
from api.openapi.bounds import Bounds
from domain.calendar import Moment
from domain.errors import InvalidInput, NotFound
from domain.identity import SubjectKind
from projections.queries.activity_by_day import ByDay, by_day

MAX_NAMES = 100
MAX_DAYS = 366

Names = Annotated[
    Annotated[list[str], Bounds(min_items=1, max_items=MAX_NAMES)] | None,
    QueryParameter(
        name="name",
        description=f"a name to count, each in a parameter of its own; 1 to {MAX_NAMES}",
    ),
]
Days = Annotated[int, QueryParameter(ge=1, le=MAX_DAYS, description="how many, including today")]


class _ByDay(Controller):
    """Routes that users and accounts share."""

    guards = (opens(*READERS),)
    kind: SubjectKind

    @get(
        "/{id:str}/{tab:str}/days",
        sync_to_thread=True,
        summary="Counts of activity on each of the last days",
        responses=READING_PROBLEMS,
    )
    def days(
        self,
        readings: Part[Readings],
        id: ContactId,
        tab: Tab,
        names: Names = None,
        days: Days = 30,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> ByDay:
        if tab not in TABS:
            raise NotFound(f"there is no {tab} of a {self.kind}; there are {', '.join(TABS)}")
        if not names or len(names) > MAX_NAMES:
            raise InvalidInput(f"name 1 to {MAX_NAMES} {tab}, as the tab does", pointer="/name")
        with reading_of(readings, self.kind, id, waiting, as_of) as (annals, conn, subject):
            today = Moment(annals.now(), annals.workspace().zone).today
            activity = TABS[tab]
            return by_day(conn, self.kind, subject, activity, names, today=today, days=days)


class UserDaysController(_ByDay):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER


class AccountDaysController(_ByDay):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT
