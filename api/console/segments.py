"""Segments: their pages, and the builder of conditions."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console.address import Address
from api.console.calls import Calls, Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.sessions import AnyRequest
from domain.definitions.types import DefinitionKind
from domain.identity import SubjectKind

Json = Any

EVERYBODY = '{"type": "all", "of": []}'
MEMBERS_SHOWN = 50
DAYS, SAMPLE = "30", "10000"
"""Of a back-test, as the API has them where nothing is said."""


async def vocabulary(calls: Calls) -> dict[str, Json]:
    """The names that a condition can ask about, for the builder."""
    properties, events, segments, users, accounts, defined = await asyncio.gather(
        calls.get("/api/catalogue/properties"),
        calls.get("/api/catalogue/events"),
        calls.get("/api/segments"),
        calls.get("/api/users/filters"),
        calls.get("/api/accounts/filters"),
        calls.get("/api/definitions", status="active"),
    )
    filters = {SubjectKind.USER: users, SubjectKind.ACCOUNT: accounts}
    activities: dict[str, list[str]] = {"event": [], "screen": [], "channel": []}
    for item in events["items"]:
        activities[item["scope"]].append(item["name"])
    return {
        "properties": {
            kind: {
                item["name"]: item["type"]
                for item in properties["items"]
                if item["scope"] == f"{kind}.property"
            }
            for kind in SubjectKind
        },
        "activities": activities,
        "segments": {
            kind: [
                [segment["id"], segment["name"]]
                for segment in segments["items"]
                if segment["kind"] == kind
            ]
            for kind in SubjectKind
        },
        "stages": {
            kind: _stages(defined["items"], filters[kind]["stages"], kind) for kind in SubjectKind
        },
        "scores": _named(defined["items"], DefinitionKind.SCORE),
        "signals": _named(defined["items"], DefinitionKind.SIGNAL),
        "values": {
            kind: {
                filter["name"]: [item["value"] for item in filter["values"]]
                for filter in filters[kind]["properties"]
                if filter["type"] in ("string", "list")
            }
            for kind in SubjectKind
        },
    }


def _stages(definitions: list[Json], counted: list[Json], kind: SubjectKind) -> list[str]:
    """The stages that are defined, in order, and after them those that somebody is still in."""
    of_kind = [item["definition"] for item in definitions if item["definition"]["kind"] == kind]
    lists = [each["stages"] for each in of_kind if each["type"] == DefinitionKind.STAGES]
    names = [stage["name"] for stages in lists for stage in stages]
    names += [count["stage"] for count in counted if count["stage"] is not None]
    return list(dict.fromkeys(names))


def _named(definitions: list[Json], family: DefinitionKind) -> dict[str, list[str]]:
    of_all = [item["definition"] for item in definitions]
    return {
        kind: [each["name"] for each in of_all if each["type"] == family and each["kind"] == kind]
        for kind in SubjectKind
    }


class Draft(msgspec.Struct, frozen=True):
    """The content of the form.

    Attributes:
        id: of the segment that is changed; None: a new one.
        members: of a new static segment, an id a line; None: it has a condition.
    """

    kind: SubjectKind
    name: str
    condition: str
    id: str | None = None
    members: str | None = None

    @property
    def condition_json(self) -> Json:
        """The condition, decoded; a text that is no JSON stays a text: the API refuses it."""
        try:
            return msgspec.json.decode(self.condition)
        except msgspec.DecodeError:
            return self.condition


class Segments(Controller):
    path = "/segments"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        segments = await calls_of(request).get("/api/segments")
        return page(request, "segments/list.html", segments=segments["items"])

    @get("/new")
    async def new(self, request: AnyRequest) -> Response[str]:
        query = request.query_params
        kind = SubjectKind.ACCOUNT if query.get("kind") == "account" else SubjectKind.USER
        members = "" if query.get("static") else None
        draft = Draft(kind, "", query.get("condition") or EVERYBODY, members=members)
        return await form_page(request, draft, None)

    @post("/list")
    async def show(self, request: AnyRequest) -> Redirect:
        """The list that the condition of the form is the filter of."""
        draft = await draft_sent(request, None)
        address = Address(kind=draft.kind, filter=_compact(draft.condition))
        return Redirect(address.url(), status_code=303)

    @get("/{id:uuid}")
    async def view(self, request: AnyRequest, id: FromPath[UUID]) -> Response[str]:
        calls = calls_of(request)
        segment, history = await asyncio.gather(
            calls.get(f"/api/segments/{id}"), calls.get(f"/api/segments/{id}/history")
        )
        members = None
        if segment["condition"] is None:
            members = await calls.get(f"/api/segments/{id}/members", limit=MEMBERS_SHOWN)
        draft = Draft(
            SubjectKind(segment["kind"]),
            segment["name"],
            _text(segment["condition"]),
            segment["id"],
        )
        return await form_page(
            request, draft, None, segment=segment, history=history["items"], listed=members
        )

    @post("/preview", status_code=200)
    async def preview(self, request: AnyRequest) -> Response[Json]:
        """The preview as JSON for the builder, or the refusal with its pointer."""
        try:
            sent = msgspec.json.decode(await request.body())
            return Response(await calls_of(request).post("/api/segments/preview", sent))
        except msgspec.DecodeError:
            return Response({"detail": "this is no JSON", "place": "", "code": "invalid-input"})
        except Refused as refused:
            if refused.status not in (400, 503):
                raise
            return Response(
                {"detail": refused.detail, "place": refused.pointer, "code": refused.code}
            )

    @post()
    async def define(self, request: AnyRequest) -> Response[Any]:
        draft = await draft_sent(request, None)
        return await self._saved(request, draft)

    @post("/{id:uuid}")
    async def change(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        draft = await draft_sent(request, str(id))
        return await self._saved(request, draft)

    @post("/{id:uuid}/members")
    async def change_list(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        """Puts on the list of a static segment, or takes off it."""
        form, calls = await request.form(), calls_of(request)
        change = {name: lines(str(form.get(name, ""))) for name in ("add", "remove")}
        saved = await calls.post(f"/api/segments/{id}/members", change)
        await calls.get(f"/api/segments/{id}", wait_for=saved["position"] or None)
        return Redirect(f"/console/segments/{id}", status_code=303)

    @post("/{id:uuid}/delete")
    async def delete(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        calls = calls_of(request)
        segment = await calls.get(f"/api/segments/{id}")
        deleted = await calls.delete(f"/api/segments/{id}")
        await calls.get("/api/segments", wait_for=deleted["position"] or None)
        return Redirect(f"/console/{segment['kind']}s", status_code=303)

    async def _saved(self, request: AnyRequest, draft: Draft) -> Response[Any]:
        calls = calls_of(request)
        body: dict[str, Json] = {"kind": draft.kind, "name": draft.name}
        if draft.members is not None:
            body["members"] = lines(draft.members)
        else:
            body["condition"] = draft.condition_json
        try:
            if draft.id is None:
                saved = await calls.post("/api/segments", body)
            else:
                saved = await calls.put(f"/api/segments/{draft.id}", body)
        except Refused as refused:
            if refused.status not in (400, 409, 503):
                raise
            return await form_page(request, draft, refused)
        await calls.get(f"/api/segments/{saved['id']}", wait_for=saved["position"] or None)
        return Redirect(f"/console/{draft.kind}s?segment={saved['id']}", status_code=303)


async def form_page(
    request: AnyRequest,
    draft: Draft,
    refused: Refused | None,
    *,
    segment: Json = None,
    history: Json = None,
    listed: Json = None,
    days: str = DAYS,
    sample: str = SAMPLE,
) -> Response[str]:
    """A segment to look at, change and back-test.

    Args:
        segment: as it is saved; null: it is new, or was refused.
        days, sample: of a back-test.
    """
    return page(
        request,
        "segments/form.html",
        status=refused.status if refused else 200,
        draft=draft,
        refused=refused,
        vocabulary=await vocabulary(calls_of(request)),
        segment=segment,
        history=history or [],
        listed=listed,
        days=days,
        sample=sample,
    )


async def draft_sent(request: AnyRequest, id: str | None) -> Draft:
    form = await request.form()
    kind = SubjectKind.ACCOUNT if form.get("kind") == "account" else SubjectKind.USER
    members = form.get("members")
    return Draft(
        kind=kind,
        name=str(form.get("name", "")).strip(),
        condition=str(form.get("condition", EVERYBODY)),
        id=id,
        members=None if members is None else str(members),
    )


def _text(condition: Json) -> str:
    return EVERYBODY if condition is None else msgspec.json.encode(condition).decode()


def _compact(text: str) -> str | None:
    try:
        compact = msgspec.json.encode(msgspec.json.decode(text)).decode()
    except msgspec.DecodeError:
        return text or None
    everybody = msgspec.json.encode(msgspec.json.decode(EVERYBODY)).decode()
    return None if compact == everybody else compact


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
