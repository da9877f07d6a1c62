"""Reading users and accounts: the lists, the 360 view and everything below it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Controller, delete, get
from litestar.params import PathParameter

from api.http.as_of import AsOf, Readings
from api.http.auth import READERS, opens
from api.http.dependencies import Part
from api.http.parameters import (
    ContactId,
    Cursor,
    Limit,
    WaitFor,
    named,
    reading_of,
    unescaped,
)
from api.http.problems import answers
from api.http.read_position import position_text
from domain.access import ApiScope
from domain.activity import ActivityKind
from domain.commands import Leave, Refused, Stored
from domain.commands import Request as CommandRequest
from domain.errors import Altered, InvalidInput, NotFound
from domain.identity import Identity, SubjectKind
from infra.write.command_handler import CommandHandler
from projections.kernel.paging import DEFAULT_LIMIT, Page
from projections.queries import contact_view
from projections.queries.contact_view import ActivityItem, Contact, MemberItem, PropertyItem

TABS = {f"{activity}s": activity.value for activity in ActivityKind}
"""`events`, `pages`, `screens`, `channels`, `campaigns`."""

Tab = Annotated[
    str, PathParameter(description="the kind of activity", schema_extra={"enum": list(TABS)})
]

READING_PROBLEMS = answers(400, 401, 403, 404, 503)


class _Contacts(Controller):
    """Routes that users and accounts share."""

    guards = (opens(*READERS),)
    kind: SubjectKind

    @get("/{id:str}", sync_to_thread=True, summary="The 360 view", responses=READING_PROBLEMS)
    def view(
        self,
        readings: Part[Readings],
        id: ContactId,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Contact:
        with reading_of(readings, self.kind, id, waiting, as_of) as (annals, conn, subject):
            workspace = annals.workspace()
            return contact_view.view(
                conn,
                self.kind,
                subject,
                renewal_property=workspace.renewal_property,
                currency=workspace.currency,
                links=workspace.links,
            )

    @get(
        "/{id:str}/properties",
        sync_to_thread=True,
        summary="All property values",
        responses=READING_PROBLEMS,
    )
    def properties(
        self,
        readings: Part[Readings],
        id: ContactId,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[PropertyItem]:
        with reading_of(readings, self.kind, id, waiting, as_of) as (_, conn, subject):
            return contact_view.list_properties(conn, self.kind, subject)

    @get(
        "/{id:str}/{tab:str}",
        sync_to_thread=True,
        summary="Activity by name, with counts, first and last time",
        responses=READING_PROBLEMS,
    )
    def activity(
        self,
        readings: Part[Readings],
        id: ContactId,
        tab: Tab,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[ActivityItem]:
        if tab not in TABS:
            raise NotFound(f"there is no {tab} of a {self.kind}; there are {', '.join(TABS)}")
        with reading_of(readings, self.kind, id, waiting, as_of) as (_, conn, subject):
            return contact_view.list_activity(
                conn, self.kind, subject, TABS[tab], cursor=cursor, limit=limit
            )

    def _members(
        self,
        readings: Readings,
        id: str,
        cursor: str | None,
        limit: int,
        waiting: str | None,
        as_of: str | None,
    ) -> Page[MemberItem]:
        with reading_of(readings, self.kind, id, waiting, as_of) as (_, conn, subject):
            return contact_view.list_members(conn, self.kind, subject, cursor=cursor, limit=limit)


class UsersController(_Contacts):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER

    @get(
        "/{id:str}/accounts",
        sync_to_thread=True,
        summary="The accounts of the user",
        responses=READING_PROBLEMS,
    )
    def accounts(
        self,
        readings: Part[Readings],
        id: ContactId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[MemberItem]:
        return self._members(readings, id, cursor, limit, waiting, as_of)


class AccountsController(_Contacts):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT

    @get(
        "/{id:str}/users",
        sync_to_thread=True,
        summary="The users of the account",
        responses=READING_PROBLEMS,
    )
    def users(
        self,
        readings: Part[Readings],
        id: ContactId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[MemberItem]:
        return self._members(readings, id, cursor, limit, waiting, as_of)


class Removed(msgspec.Struct, frozen=True):
    position: str


class MembershipController(Controller):
    """Ends memberships. They begin with a `group` call."""

    path = "/api/accounts"
    tags = ("accounts",)
    guards = (opens(ApiScope.WRITE),)

    @delete(
        "/{id:str}/users/{user:str}",
        status_code=200,
        sync_to_thread=True,
        summary="End a user's membership; it stays on record, with both dates",
        responses=answers(400, 401, 403, 404, 409, 503),
    )
    def remove(self, handler: Part[CommandHandler], id: ContactId, user: ContactId) -> Removed:
        member = named(SubjectKind.USER, unescaped(user))
        account = named(SubjectKind.ACCOUNT, unescaped(id))
        if not isinstance(member, Identity) or not isinstance(account, Identity):
            raise InvalidInput("name both from outside, like external:...", pointer="/id")
        command = Leave((member,), (account,), datetime.now(UTC))
        outcome = handler.handle([CommandRequest(command)])[0]
        if isinstance(outcome, Refused):
            raise (Altered if outcome.code == Altered.code else NotFound)(outcome.detail)
        return Removed(position_text(outcome.positions if isinstance(outcome, Stored) else ()))
