"""Reading users and accounts: the lists, the 360 view and everything below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import Controller, delete, get
from litestar.datastructures import State
from litestar.params import PathParameter, QueryParameter

from api.http.auth import READERS, opens
from api.http.problems import answers
from api.http.read_position import position_text
from api.openapi.bounds import SUBJECT_CHARS, Positions
from api.operations.pasts import AsOf, reading
from domain.access import ApiScope
from domain.activity import ActivityKind
from domain.commands import Leave, Refused, Stored
from domain.commands import Request as CommandRequest
from domain.errors import Altered, InvalidInput, NotFound
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, identity
from infra.bootstrap import Annals
from projections.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from projections.queries import contact_view
from projections.queries.contact_view import ActivityItem, Contact, MemberItem, PropertyItem

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="rows a page")]
Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before")]
WaitFor = Annotated[
    Positions | None,
    QueryParameter(
        name="wait_for", description="`position` of an answer: waits until it can be seen here"
    ),
]
ContactId = Annotated[
    str,
    PathParameter(
        description="our id, or `external:...`, `email:...`, `domain:...`, with what a path"
        " cannot hold escaped",
        schema_extra={"min_length": 1, "max_length": SUBJECT_CHARS},
    ),
]
TABS = {f"{activity}s": activity.value for activity in ActivityKind}
"""`events`, `pages`, `screens`, `channels`, `campaigns`."""

Tab = Annotated[str, PathParameter(description="what was done", schema_extra={"enum": list(TABS)})]

READING_PROBLEMS = answers(400, 401, 403, 404, 503)

_SCHEMES = {
    SubjectKind.USER: {"external": Scheme.USER_ID, "email": Scheme.EMAIL},
    SubjectKind.ACCOUNT: {"external": Scheme.ACCOUNT_ID, "domain": Scheme.DOMAIN},
}


def unescaped(text: str) -> str:
    """An id as it stands in a path (`api.app` leaves the path's escapes to whoever reads it).

    Raises:
        InvalidInput: what is escaped is not UTF-8.
    """
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("the id in the path is not UTF-8", place="/id") from None


def named(kind: SubjectKind, text: str) -> SubjectId | Identity:
    """What an id in a path means: our own id, or an outside name.

    Raises:
        InvalidInput: neither.
    """
    prefix, colon, value = text.partition(":")
    schemes = _SCHEMES[kind]
    if colon and prefix in schemes:
        return identity(schemes[prefix], value, place="/id")
    try:
        return SubjectId(UUID(text))
    except ValueError:
        forms = ", ".join(f"{scheme}:..." for scheme in schemes)
        raise InvalidInput(f"{kind} ids are our own (a UUID), or {forms}", place="/id") from None


def subject_of(annals: Annals, kind: SubjectKind, text: str) -> SubjectId:
    """The subject that an id in a path means.

    Raises:
        InvalidInput: not an id. NotFound: nobody has this outside name.
    """
    name = named(kind, text)
    if not isinstance(name, Identity):
        return name
    subject = annals.handler.find(name)
    if subject is None:
        raise NotFound(f"there is no such {kind}")
    return subject


@contextmanager
def asked(
    state: State, kind: SubjectKind, id: str, waiting: str | None, as_of: str | None = None
) -> Iterator[tuple[Annals, sa.Connection, SubjectId]]:
    """Waits for what is to be seen, or goes back to a past instant, and finds the subject that an
    id in a path stands for there.

    Raises:
        InvalidInput: not an id, or not a position. NotFound: nobody has this outside name.
        Unavailable: it is not to be seen yet. Refusal: see `api.operations.pasts.reading`.
    """
    annals = reading(state, waiting, as_of)
    name = unescaped(id)
    subject = subject_of(annals, kind, name)
    with annals.queries.connect() as conn:
        if as_of is not None:
            subject = _then(state.annals, conn, named(kind, name), subject)
        yield annals, conn, contact_view.survivor_of(conn, subject)


def _then(
    present: Annals, then: sa.Connection, name: SubjectId | Identity, subject: SubjectId
) -> SubjectId:
    """Who had an outside name in a past: of those who are one subject today, perhaps another."""
    if not isinstance(name, Identity):
        return subject
    with present.queries.connect() as now:
        streams = contact_view.streams_of(now, contact_view.survivor_of(now, subject))
    return contact_view.known_as(then, name, streams) or subject


class _Contacts(Controller):
    """What users and accounts have in common."""

    guards = (opens(*READERS),)
    kind: SubjectKind

    @get("/{id:str}", sync_to_thread=True, summary="The 360 view", responses=READING_PROBLEMS)
    def view(
        self,
        state: State,
        id: ContactId,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Contact:
        with asked(state, self.kind, id, waiting, as_of) as (annals, conn, subject):
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
        state: State,
        id: ContactId,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[PropertyItem]:
        with asked(state, self.kind, id, waiting, as_of) as (_, conn, subject):
            return contact_view.list_properties(conn, self.kind, subject)

    @get(
        "/{id:str}/{tab:str}",
        sync_to_thread=True,
        summary="What was done, by name, with counts and the first and last time",
        responses=READING_PROBLEMS,
    )
    def activity(
        self,
        state: State,
        id: ContactId,
        tab: Tab,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[ActivityItem]:
        if tab not in TABS:
            raise NotFound(f"there is no {tab} of a {self.kind}; there are {', '.join(TABS)}")
        with asked(state, self.kind, id, waiting, as_of) as (_, conn, subject):
            return contact_view.list_activity(
                conn, self.kind, subject, TABS[tab], cursor=cursor, limit=limit
            )

    def _members(
        self,
        state: State,
        id: str,
        cursor: str | None,
        limit: int,
        waiting: str | None,
        as_of: str | None,
    ) -> Page[MemberItem]:
        with asked(state, self.kind, id, waiting, as_of) as (_, conn, subject):
            return contact_view.list_members(conn, self.kind, subject, cursor=cursor, limit=limit)


class UsersController(_Contacts):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER

    @get(
        "/{id:str}/accounts",
        sync_to_thread=True,
        summary="The accounts the user belongs to",
        responses=READING_PROBLEMS,
    )
    def accounts(
        self,
        state: State,
        id: ContactId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[MemberItem]:
        return self._members(state, id, cursor, limit, waiting, as_of)


class AccountsController(_Contacts):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT

    @get(
        "/{id:str}/users",
        sync_to_thread=True,
        summary="The account's users",
        responses=READING_PROBLEMS,
    )
    def users(
        self,
        state: State,
        id: ContactId,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_LIMIT,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[MemberItem]:
        return self._members(state, id, cursor, limit, waiting, as_of)


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
    def remove(self, state: State, id: ContactId, user: ContactId) -> Removed:
        annals: Annals = state.annals
        member = named(SubjectKind.USER, unescaped(user))
        account = named(SubjectKind.ACCOUNT, unescaped(id))
        if not isinstance(member, Identity) or not isinstance(account, Identity):
            raise InvalidInput("name both from outside, like external:...", place="/id")
        command = Leave((member,), (account,), datetime.now(UTC))
        outcome = annals.handler.handle([CommandRequest(command)])[0]
        if isinstance(outcome, Refused):
            raise (Altered if outcome.code == Altered.code else NotFound)(outcome.detail)
        return Removed(position_text(outcome.positions if isinstance(outcome, Stored) else ()))
