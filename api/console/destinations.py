"""Settings: destinations, for those of scope admin."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console.calls import Calls, Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.segments import lines
from api.console.sessions import AnyRequest
from domain.definitions.destinations import NAMED, SubscriptionKind
from domain.identity import SubjectKind

Json = Any

PLACE = "/console/settings/destinations"
TOLD = {
    SubscriptionKind.EVENT: "Events",
    SubscriptionKind.PAGE: "Pages seen",
    SubscriptionKind.SCREEN: "Screens seen",
    SubscriptionKind.CHANNEL: "Channels of visits",
    SubscriptionKind.CAMPAIGN: "Campaigns of visits",
    SubscriptionKind.PROPERTY: "Changes of properties",
    SubscriptionKind.IDENTITY: "New users and accounts, and further ids of them",
    SubscriptionKind.MEMBERSHIP: "Users who join and leave accounts",
    SubscriptionKind.MERGE: "Merges",
    SubscriptionKind.STAGE: "Stages entered and left",
    SubscriptionKind.HEALTH: "Changes of health",
    SubscriptionKind.SCORE: "Changes of scores",
    SubscriptionKind.SEGMENT: "Segments entered and left",
    SubscriptionKind.SIGNAL: "Signals that trigger and end",
    SubscriptionKind.GOAL: "Goals reached and missed",
}
ONLY = "only."
"""Labels of the names that narrow a kind of news."""

FAILURES = {
    "gone": "it answered that it is gone (410)",
    "unknown_host": "there is no such host",
    "refused_address": "its address is private",
    "connection": "Annals cannot connect to it",
    "certificate": "its certificate is not trusted",
    "timeout": "it took too long to answer",
    "protocol": "its answer is not valid HTTP",
    "here": "Annals failed at it; the operator's log says more",
}
MOVES = ("activate", "archive", "pause", "resume")
NEW: Json = {"name": "", "url": "https://", "kind": None, "segment": None, "news": []}


class DestinationPages(Controller):
    path = "/settings/destinations"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        listed = await calls_of(request).get("/api/destinations")
        return page(
            request, "settings/destinations.html", destinations=listed["items"], failure=failure
        )

    @get("/new")
    async def new(self, request: AnyRequest) -> Response[str]:
        await calls_of(request).get("/api/destinations")  # refuses other keys at once
        return await self._form(request, None, NEW)

    @post("/new", status_code=200)
    async def make(self, request: AnyRequest) -> Response[Any]:
        """Answers with the page that shows the secret: nothing else ever does."""
        calls, sent = calls_of(request), await _sent(request)
        try:
            made = await calls.post("/api/destinations", sent)
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return await self._form(request, None, sent, refused=refused)
        return await self._view(request, calls, made["id"], secret=made["secret"])

    @get("/{id:uuid}")
    async def view(self, request: AnyRequest, id: FromPath[UUID]) -> Response[str]:
        return await self._view(request, calls_of(request), id)

    @post("/{id:uuid}")
    async def change(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        calls, sent = calls_of(request), await _sent(request)
        try:
            await calls.put(f"/api/destinations/{id}", sent)
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            destination = await calls.get(f"/api/destinations/{id}")
            return await self._form(request, destination, sent, refused=refused)
        return Redirect(f"{PLACE}/{id}", status_code=303)

    @post("/{id:uuid}/secret", status_code=200)
    async def renew(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        calls = calls_of(request)
        renewed = await calls.post(f"/api/destinations/{id}/secret", {})
        return await self._view(request, calls, id, secret=renewed["secret"])

    @post("/{id:uuid}/test", status_code=200)
    async def test(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        calls = calls_of(request)
        tested = await calls.post(f"/api/destinations/{id}/test", {})
        return await self._view(request, calls, id, tested=tested)

    @post("/{id:uuid}/{step:str}")
    async def move(
        self, request: AnyRequest, id: FromPath[UUID], step: FromPath[str]
    ) -> Response[Any]:
        """Activates, archives, pauses, resumes, or deletes a draft."""
        calls, place = calls_of(request), f"/api/destinations/{id}"
        try:
            if step == "delete":
                await calls.delete(place)
                return Redirect(PLACE, status_code=303)
            if step not in MOVES:
                raise Refused(404, "not-found", "There is no such page.", None)
            await calls.post(f"{place}/{step}", {})
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return await self._view(request, calls, id, refused=refused)
        return Redirect(f"{PLACE}/{id}", status_code=303)

    async def _view(
        self, request: AnyRequest, calls: Calls, id: UUID, **more: Json
    ) -> Response[str]:
        destination = await calls.get(f"/api/destinations/{id}")
        return await self._form(request, destination, NEW | destination["definition"], **more)

    async def _form(
        self,
        request: AnyRequest,
        destination: Json,
        sent: Json,
        *,
        refused: Refused | None = None,
        secret: str | None = None,
        tested: Json = None,
    ) -> Response[str]:
        """
        Args:
            destination: as it is saved; null: it is new.
            sent: the content of the form.
        """
        calls, history = calls_of(request), []
        segments = await calls.get("/api/segments")
        if destination is not None:
            history = (await calls.get(f"/api/destinations/{destination['id']}/history"))["items"]
        return page(
            request,
            "settings/destination.html",
            status=refused.status if refused else 200,
            destination=destination,
            sent=sent,
            names={news["about"]: news.get("names") for news in sent["news"]},
            wrong=_place(refused, sent),
            refused=refused,
            secret=secret,
            tested=tested,
            segments=segments["items"],
            told=TOLD,
            named=NAMED,
            kinds=list(SubjectKind),
            failure=failure,
            soon=soon,
            history=history,
        )


def soon(at: str | None) -> str:
    """When something is due, for people."""
    if at is None:
        return "at once"
    minutes = (datetime.fromisoformat(at) - datetime.now(UTC)).total_seconds() / 60
    return "within a minute" if minutes <= 1 else f"in {math.ceil(minutes)} minutes"


def failure(word: str | None) -> str:
    """Why a message was not taken, for people."""
    if word is None:
        return "–"
    return FAILURES.get(word, f"it answered {word}")


def _place(refused: Refused | None, sent: Json) -> str:
    """Which field of the form is wrong: its name, that of a kind of news, or none."""
    steps = (refused.pointer or "").split("/")[1:] if refused else []
    if steps[:1] == ["news"] and len(steps) > 1:
        return str(sent["news"][int(steps[1])]["about"])
    return steps[0] if steps else ""


async def _sent(request: AnyRequest) -> Json:
    """The form, as the API takes it."""
    form = await request.form()
    text = {name: str(form.get(name, "")).strip() for name in ("name", "url", "kind", "segment")}
    news: list[Json] = []
    for about in TOLD:
        if about.value in form.getall("news", []):
            names = lines(str(form.get(f"{ONLY}{about}", "")))
            news.append({"about": about, "names": names or None})
    return {
        "name": text["name"],
        "url": text["url"],
        "kind": text["kind"] or None,
        "segment": text["segment"] or None,
        "news": news,
    }
