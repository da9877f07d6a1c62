"""The lists of users and of accounts: the page, and the parts of it that come by themselves."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote, unquote, urlencode

import msgspec
from litestar import Controller, Response, asgi, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.types import Receive, Scope, Send

from api.console import sessions
from api.console.address import DEFAULT_SORT, Address, past_of
from api.console.calls import Calls, Refused, forward
from api.console.columns import DEFAULT_COLUMNS, Column, columns_of
from api.console.pages import page
from api.console.past import being_made
from api.console.sessions import AnyRequest, Session
from domain.identity import SubjectKind

ROWS = 50
REMEMBERED = "annals_columns_{}s"
REMEMBERED_SECONDS = 365 * 86_400
MAX_REMEMBERED_CHARS = 3_500
"""Browsers take cookies of 4 kB. Longer choices live in the address alone."""

OPEN_GROUPS = 4
SHOWN_VALUES = 8

Json = Any


def calls_of(request: AnyRequest) -> Calls:
    """The calls of a page: all that they read is as of the instant in its address."""
    session: Session = request.state.session
    return Calls(request.app, session.key, past_of(request.query_params))


async def types_of(calls: Calls, kind: SubjectKind) -> dict[str, str]:
    """The properties of a kind with their types, most used first."""
    items = (await calls.get("/api/catalogue/properties"))["items"]
    return {item["name"]: item["type"] for item in items if item["scope"] == f"{kind}.property"}


def is_part(request: AnyRequest) -> bool:
    """Whether only a part of the page is asked for."""
    return request.headers.get("hx-request") == "true"


def address_of(request: AnyRequest, kind: SubjectKind) -> Address:
    return Address.parsed(kind, list(request.query_params.multi_items()))


class Shown(msgspec.Struct, frozen=True):
    """A page of a list, as templates have it.

    Attributes:
        first, last: numbers of its rows; 0 where there is none.
        building: how far a segment of it is decided, from 0 to 1; None: these are all.
        refused: why there is no list.
    """

    address: Address
    columns: list[Column]
    items: list[Json]
    first: int
    last: int
    total: int | None
    previous: Address | None
    following: Address | None
    building: float | None
    refused: Refused | None


async def shown(calls: Calls, address: Address, types: dict[str, str]) -> Shown:
    """The rows of a list, or why it cannot be shown."""
    known = columns_of(address.kind, types)
    keys = address.columns or DEFAULT_COLUMNS[address.kind]
    columns = [known[key] for key in keys if key in known]
    question = address.question(types) | {
        "sort": address.sort or None,
        "columns": [column.property for column in columns if column.property is not None],
        "limit": ROWS,
        "cursor": address.cursors[-1] if address.cursors else None,
    }
    try:
        listed = await calls.post(f"/api/{address.kind}s", question)
    except Refused as refused:
        if refused.status not in (400, 404, 429, 503):
            raise
        return Shown(address, columns, [], 0, 0, None, address.previous(), None, None, refused)
    items, first = listed["items"], (address.page - 1) * ROWS + 1
    return Shown(
        address=address,
        columns=columns,
        items=items,
        first=first if items else 0,
        last=first + len(items) - 1 if items else 0,
        total=listed["total"],
        previous=address.previous(),
        following=address.following(listed["next"]) if listed["next"] else None,
        building=listed["building"],
        refused=None,
    )


class _Lists(Controller):
    """Pages that the lists of users and of accounts share."""

    kind: SubjectKind

    @get()
    async def list(self, request: AnyRequest) -> Response[Any]:
        calls, address = calls_of(request), address_of(request, self.kind)
        if is_part(request):
            part = page(
                request,
                "contacts/results.html",
                list=await shown(calls, address, await types_of(calls, self.kind)),
            )
            part.headers["HX-Push-Url"] = address.url()
            part.headers["HX-Trigger-After-Settle"] = "list-changed"
            return part
        waiting = await being_made(request, calls)
        if waiting is not None:
            return waiting
        remembered = self._remembered(request)
        if remembered and not address.columns:
            return Redirect(address.but(columns=remembered).url())
        types, segments = await asyncio.gather(
            types_of(calls, self.kind), calls.get("/api/segments", kind=self.kind)
        )
        return page(
            request,
            "contacts/page.html",
            kind=self.kind,
            now_url=address.but(as_of=None).url(),
            kept=address.but(as_of=None).pairs(),
            list=await shown(calls, address, types),
            known=columns_of(self.kind, types),
            types=types,
            segments=segments["items"],
            segment=next(
                (item for item in segments["items"] if item["id"] == address.segment), None
            ),
        )

    @get("/bars")
    async def bars(self, request: AnyRequest) -> Response[str]:
        calls, address = calls_of(request), address_of(request, self.kind)
        question = address.question(await types_of(calls, self.kind))
        bars = await calls.post(f"/api/{self.kind}s/bars", question)
        return page(request, "contacts/bars.html", address=address, bars=bars)

    @get("/building")
    async def building(self, request: AnyRequest) -> Response[str]:
        """How far a segment of the list is decided."""
        calls, address = calls_of(request), address_of(request, self.kind)
        question = address.question(await types_of(calls, self.kind)) | {"limit": 1}
        listed = await calls.post(f"/api/{self.kind}s", question)
        building = listed["building"]
        return page(request, "contacts/building.html", address=address, building=building)

    @get("/filters")
    async def filters(self, request: AnyRequest) -> Response[str]:
        calls, address = calls_of(request), address_of(request, self.kind)
        filters = await calls.get(f"/api/{self.kind}s/filters")
        return page(
            request,
            "contacts/filters.html",
            address=address,
            filters=filters,
            open_groups=OPEN_GROUPS,
            shown_values=SHOWN_VALUES,
        )

    @get("/filters/{name:str}")
    async def one_filter(self, request: AnyRequest, name: FromPath[str]) -> Response[str]:
        calls, address = calls_of(request), address_of(request, self.kind)
        filters = await calls.get(f"/api/{self.kind}s/filters")
        properties = filters["properties"]
        filter = next((item for item in properties if item["name"] == unquote(name)), None)
        if filter is None:
            raise Refused(404, "not-found", "this filter no longer exists", None)
        return page(
            request,
            "contacts/one_filter.html",
            address=address,
            filter=filter,
            shown_values=len(filter["values"]),
        )

    @post("/columns")
    async def columns(self, request: AnyRequest) -> Response[Any]:
        """Shows other columns, and remembers them."""
        form = await request.form()
        pairs = [(name, str(value)) for name, value in form.multi_items()]
        address = Address.parsed(self.kind, pairs)
        chosen = address.columns or DEFAULT_COLUMNS[self.kind]
        answer = Redirect(address.but(columns=chosen).url(), status_code=303)
        remembered = quote(msgspec.json.encode(chosen).decode(), safe="")
        if len(remembered) <= MAX_REMEMBERED_CHARS:
            answer.cookies.append(
                sessions.cookie(
                    request,
                    remembered,
                    seconds=REMEMBERED_SECONDS,
                    name=REMEMBERED.format(self.kind),
                )
            )
        return answer

    def _remembered(self, request: AnyRequest) -> tuple[str, ...]:
        remembered = request.cookies.get(REMEMBERED.format(self.kind), "")
        try:
            return msgspec.json.decode(unquote(remembered), type=tuple[str, ...])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return ()


class UserLists(_Lists):
    path = "/users"
    kind = SubjectKind.USER


class AccountLists(_Lists):
    path = "/accounts"
    kind = SubjectKind.ACCOUNT


def export_query(address: Address, types: dict[str, str], format: str) -> bytes:
    """A list as the API's export takes it."""
    question = address.question(types)
    pairs = [("format", format), ("bom", "true"), ("sort", address.sort or DEFAULT_SORT)]
    pairs += [(name, question[name]) for name in ("as_of", "segment", "search") if name in question]
    if "filter" in question:
        pairs.append(("filter", msgspec.json.encode(question["filter"]).decode()))
    pairs += [("columns", name) for name in address.properties()]
    return urlencode(pairs).encode()


async def _export(kind: SubjectKind, scope: Scope, receive: Receive, send: Send) -> None:
    request: AnyRequest = sessions.AnyRequest(scope, receive, send)
    session: Session = request.state.session
    address = address_of(request, kind)
    types = await types_of(calls_of(request), kind)
    format = "ndjson" if request.query_params.get("format") == "ndjson" else "csv"
    query = export_query(address, types, format)
    await forward(
        request.app, scope, receive, send, f"/api/{kind}s/export", query=query, key=session.key
    )


@asgi("/users/export", copy_scope=True)
async def export_users(scope: Scope, receive: Receive, send: Send) -> None:
    """All rows of the list of users, as a file."""
    await _export(SubjectKind.USER, scope, receive, send)


@asgi("/accounts/export", copy_scope=True)
async def export_accounts(scope: Scope, receive: Receive, send: Send) -> None:
    """All rows of the list of accounts, as a file."""
    await _export(SubjectKind.ACCOUNT, scope, receive, send)
