"""The pages of one user or account."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from litestar import Controller, Response, get
from litestar.params import FromPath

from api.console.calls import Calls, Refused
from api.console.contacts import calls_of, is_part
from api.console.pages import PRIVATE, SECURITY_HEADERS, instant, page
from api.console.past import being_made
from api.console.sessions import AnyRequest
from domain.identity import SubjectKind
from projections.queries.explanation import VERBS_OF

Json = Any

ROWS = 50


class Tab(NamedTuple):
    key: str
    title: str


_ACTIVITIES = (
    Tab("events", "Events"),
    Tab("screens", "Screens"),
    Tab("channels", "Channels"),
    Tab("campaigns", "Campaigns"),
    Tab("pages", "Pages"),
)
_FIRST = (Tab("overview", "Overview"), Tab("timeline", "Timeline"), Tab("properties", "Properties"))
TABS = {
    SubjectKind.USER: (*_FIRST, Tab("accounts", "Companies"), *_ACTIVITIES),
    SubjectKind.ACCOUNT: (*_FIRST, Tab("users", "Users"), *_ACTIVITIES),
}
TIMELINE_GROUPS = {
    "": "Everything",
    "event": "Events",
    "page": "Pages",
    "screen": "Screens",
    "channel": "Channels",
    "campaign": "Campaigns",
    "property": "Property changes",
    "membership": "Memberships",
    "stage": "Stage",
    "health": "Health",
    "score": "Scores",
    "signal": "Signals",
    "goal": "Goals",
    "segment": "Segments",
    "identity": "Identity",
}
DECISIONS = frozenset(chain.from_iterable(VERBS_OF.values()))
"""Types of a timeline that have a reason."""


class _Contacts(Controller):
    """Pages that users and accounts share."""

    kind: SubjectKind

    @get("/{id:str}")
    async def overview(self, request: AnyRequest, id: FromPath[str]) -> Response[Any]:
        return await self._shown(request, id, "overview")

    @get("/{id:str}/json")
    async def as_json(self, request: AnyRequest, id: FromPath[str]) -> Response[Json]:
        """The answer of the API for this page, as JSON."""
        contact = await calls_of(request).get(f"/api/{self.kind}s/{id}")
        return Response(contact, headers=SECURITY_HEADERS | PRIVATE)

    @get("/{id:str}/review")
    async def review(self, request: AnyRequest, id: FromPath[str]) -> Response[str]:
        """All that is on file, for keys of scope comply."""
        cursor = request.query_params.get("cursor")
        review = await calls_of(request).get(f"/api/{self.kind}s/{id}/review", cursor=cursor)
        return page(request, "contact/review.html", kind=self.kind, review=review)

    @get("/{id:str}/why")
    async def why(self, request: AnyRequest, id: FromPath[str]) -> Response[str]:
        """The reason of one decision, which unfolds where it stands in the timeline."""
        position = request.query_params.get("position")
        why = await calls_of(request).get(f"/api/{self.kind}s/{id}/why", position=position)
        return page(request, "contact/why.html", why=why)

    @get("/{id:str}/{tab:str}")
    async def tab(
        self, request: AnyRequest, id: FromPath[str], tab: FromPath[str]
    ) -> Response[Any]:
        return await self._shown(request, id, tab)

    async def _shown(self, request: AnyRequest, id: str, tab: str) -> Response[Any]:
        tabs = TABS[self.kind]
        if tab not in [each.key for each in tabs]:
            raise Refused(404, "not-found", "There is no such page.", None)
        calls, path = calls_of(request), f"/api/{self.kind}s/{id}"
        query = {name: value for name, value in request.query_params.items() if value}
        if is_part(request) and "whole" not in query:
            shown = await self._pane(calls, path, tab, query)
            return page(
                request,
                f"contact/{tab}.html",
                kind=self.kind,
                id=id,
                query=query,
                groups=TIMELINE_GROUPS,
                decisions=DECISIONS,
                **shown,
            )
        waiting = await being_made(request, calls)
        if waiting is not None:
            return waiting
        contact, stages, shown = await asyncio.gather(
            calls.get(path), calls.get(f"{path}/stages"), self._pane(calls, path, tab, query)
        )
        return page(
            request,
            "contact/page.html",
            kind=self.kind,
            id=id,
            contact=contact,
            spells=_drawn(
                stages["spells"], instant(calls.as_of) if calls.as_of else datetime.now(UTC)
            ),
            now_url=f"/console/{self.kind}s/{id}" + ("" if tab == "overview" else f"/{tab}"),
            kept=[],
            stages=stages,
            tabs=tabs,
            tab=tab,
            query=query,
            groups=TIMELINE_GROUPS,
            decisions=DECISIONS,
            **shown,
        )

    async def _pane(
        self, calls: Calls, path: str, tab: str, query: dict[str, str]
    ) -> dict[str, Json]:
        """Returns the content of a tab, or the refusal of its request."""
        try:
            return {"content": await self._content(calls, path, tab, query), "refused": None}
        except Refused as refused:
            if refused.status != 400 or refused.pointer == "/id":
                raise
            return {"content": {"items": [], "next": None, "total": 0}, "refused": refused}

    async def _content(self, calls: Calls, path: str, tab: str, query: dict[str, str]) -> Json:
        match tab:
            case "overview":
                return await calls.get(f"{path}/overview")
            case "properties":
                return await calls.get(f"{path}/properties")
            case "timeline":
                wanted = {name: query.get(name) for name in ("type", "name", "from", "until")}
                return await calls.get(
                    f"{path}/timeline", limit=ROWS, cursor=query.get("cursor"), **wanted
                )
            case "users" | "accounts":
                return await calls.get(f"{path}/{tab}", limit=ROWS, cursor=query.get("cursor"))
            case _:
                return await _activity(calls, path, tab, query)


async def _activity(calls: Calls, path: str, tab: str, query: dict[str, str]) -> Json:
    """Returns activity by name, each with its counts by day; `picture` has those of the chosen
    name."""
    activity = await calls.get(f"{path}/{tab}", limit=ROWS, cursor=query.get("cursor"))
    chosen = query.get("name")
    names = [item["name"] for item in activity["items"]] + ([chosen] if chosen else [])
    if not names:
        return activity
    by_day = await calls.get(f"{path}/{tab}/days", name=names)
    days = {item["name"]: item["days"] for item in by_day["items"]}
    shown = [item | {"days": days[item["name"]]} for item in activity["items"]]
    picture = None
    if chosen:
        first = date.fromisoformat(by_day["first_day"])
        dated = [(first + timedelta(n), count) for n, count in enumerate(days[chosen])]
        picture = {"name": chosen, "days": dated, "count": sum(days[chosen])}
    return activity | {"items": shown, "picture": picture}


def _drawn(spells: list[Json], now: datetime) -> list[Json]:
    """Times in stages, each with its place in a picture of their whole length."""
    if not spells:
        return []
    begins = [instant(spell["entered_at"]) for spell in spells]
    ends = [instant(spell["left_at"]) if spell["left_at"] else now for spell in spells]
    first, whole = begins[0], max((ends[-1] - begins[0]).total_seconds(), 1.0)
    kinds = {
        name: n % 4 for n, name in enumerate(dict.fromkeys(spell["stage"] for spell in spells))
    }
    return [
        spell
        | {
            "x": round(100 * (begin - first).total_seconds() / whole, 3),
            "width": round(max(100 * (end - begin).total_seconds() / whole, 0.4), 3),
            "days": (end - begin).total_seconds() / 86_400,
            "tone": kinds[spell["stage"]],
        }
        for spell, begin, end in zip(spells, begins, ends, strict=True)
    ]


class UserPages(_Contacts):
    path = "/users"
    kind = SubjectKind.USER


class AccountPages(_Contacts):
    path = "/accounts"
    kind = SubjectKind.ACCOUNT
