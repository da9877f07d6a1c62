"""Settings: the workspace's choices, and its definitions: stages, health, scores, signals."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console.calls import Refused
from api.console.contacts import calls_of
from api.console.pages import page
from api.console.segments import DAYS, SAMPLE, lines, vocabulary
from api.console.sessions import AnyRequest
from domain.definitions.types import DefinitionKind
from domain.identity import SubjectKind

Json = Any

FAMILIES = {
    DefinitionKind.STAGES: "Stages",
    DefinitionKind.HEALTH: "Health profiles",
    DefinitionKind.SCORE: "Scores",
    DefinitionKind.SIGNAL: "Signal playbooks",
}
TITLES = {
    DefinitionKind.STAGES: "Stages",
    DefinitionKind.HEALTH: "Health profile",
    DefinitionKind.SCORE: "Score",
    DefinitionKind.SIGNAL: "Signal playbook",
}
_EVERYBODY: Json = {"type": "all", "of": []}
DRAFTS: dict[DefinitionKind, Json] = {
    DefinitionKind.STAGES: {
        "stages": [{"name": "Customer", "type": "paying", "condition": _EVERYBODY}]
    },
    DefinitionKind.HEALTH: {"stages": [None], "good": _EVERYBODY},
    DefinitionKind.SCORE: {"rules": [{"name": "A rule", "weight": 1, "condition": _EVERYBODY}]},
    DefinitionKind.SIGNAL: {"condition": _EVERYBODY, "reentry_hours": 24},
}
"""The text of a new definition."""

TEXTS = ("mrr_property", "currency", "renewal_property", "time_zone")
PREFERRED = tuple((f"{kind}s", what) for kind in SubjectKind for what in ("properties", "events"))


class Definitions(Controller):
    path = "/settings"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        return await self._list(request, None, None)

    @post()
    async def choose(self, request: AnyRequest) -> Response[Any]:
        """Changes the settings that the form has, and leaves the others as they are."""
        calls = calls_of(request)
        form = {name: str(value).strip() for name, value in (await request.form()).items()}
        chosen = (await calls.get("/api/settings"))["chosen"]
        chosen |= {name: form.get(name) or None for name in TEXTS}
        for kind, what in PREFERRED:
            chosen[kind] = chosen[kind] | {what: lines(form.get(f"{kind}.{what}", ""))}
        chosen["backdated_stages"] = "backdated_stages" in form
        try:
            await calls.put("/api/settings", chosen)
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return await self._list(request, refused, chosen)
        return Redirect("/console/settings?saved=1", status_code=303)

    @get("/new")
    async def new(self, request: AnyRequest) -> Response[str]:
        query = request.query_params
        family = next(
            (family for family in FAMILIES if family == query.get("type")), DefinitionKind.STAGES
        )
        kind = SubjectKind.ACCOUNT if query.get("kind") == "account" else SubjectKind.USER
        draft = {"type": family, "kind": kind, "name": ""} | DRAFTS[family]
        return await form_page(request, None, _written(draft), None)

    @get("/{id:uuid}")
    async def view(self, request: AnyRequest, id: FromPath[UUID]) -> Response[str]:
        calls = calls_of(request)
        saved, history = await asyncio.gather(
            calls.get(f"/api/definitions/{id}"), calls.get(f"/api/definitions/{id}/history")
        )
        text = _written(saved["definition"])
        return await form_page(request, saved, text, None, history=history["items"])

    @post("/new")
    async def define(self, request: AnyRequest) -> Response[Any]:
        return await self._saved(request, None)

    @post("/{id:uuid}")
    async def change(self, request: AnyRequest, id: FromPath[UUID]) -> Response[Any]:
        return await self._saved(request, id)

    @post("/{id:uuid}/{step:str}")
    async def move(
        self, request: AnyRequest, id: FromPath[UUID], step: FromPath[str]
    ) -> Response[Any]:
        """Activates, archives, or deletes a draft."""
        calls, place = calls_of(request), f"/api/definitions/{id}"
        try:
            if step == "delete":
                saved = await calls.delete(place)
            elif step in ("activate", "archive"):
                saved = await calls.post(f"{place}/{step}", {})
            else:
                raise Refused(404, "not-found", "There is no such page.", None)
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            current = await calls.get(place)
            return await form_page(request, current, _written(current["definition"]), refused)
        await calls.get("/api/definitions", wait_for=saved["position"] or None)
        return Redirect("/console/settings", status_code=303)

    async def _saved(self, request: AnyRequest, id: UUID | None) -> Response[Any]:
        calls = calls_of(request)
        text = str((await request.form()).get("definition", ""))
        current = None if id is None else await calls.get(f"/api/definitions/{id}")
        try:
            sent = msgspec.json.decode(text)
            if id is None:
                saved = await calls.post("/api/definitions", sent)
            else:
                saved = await calls.put(f"/api/definitions/{id}", sent)
        except msgspec.DecodeError as error:
            refused = Refused(400, "invalid-input", f"This is no JSON: {error}", None)
            return await form_page(request, current, text, refused)
        except Refused as refused:
            if refused.status not in (400, 409):
                raise
            return await form_page(request, current, text, refused)
        await calls.get(f"/api/definitions/{saved['id']}", wait_for=saved["position"] or None)
        return Redirect(f"/console/settings/{saved['id']}", status_code=303)

    async def _list(
        self, request: AnyRequest, refused: Refused | None, sent: Json
    ) -> Response[str]:
        calls = calls_of(request)
        settings, listed, status = await asyncio.gather(
            calls.get("/api/settings"), calls.get("/api/definitions"), calls.get("/api/status")
        )
        return page(
            request,
            "settings/list.html",
            status=refused.status if refused else 200,
            settings=settings,
            sent=sent or settings["chosen"],
            refused=refused,
            families=FAMILIES,
            definitions=listed["items"],
            parked=status["parked"],
        )


async def form_page(
    request: AnyRequest,
    saved: Json,
    text: str,
    refused: Refused | None,
    *,
    history: Json = None,
    days: str = DAYS,
    sample: str = SAMPLE,
) -> Response[str]:
    """A definition to look at, change and back-test.

    Args:
        saved: as it is saved; null: it is new.
        text: the content of the form, as JSON.
        days, sample: of a back-test.
    """
    family, kind = _about(text if saved is None else _written(saved["definition"]))
    return page(
        request,
        "settings/form.html",
        status=refused.status if refused else 200,
        stored=saved,
        text=text,
        refused=refused,
        history=history or [],
        titles=TITLES,
        family=family,
        kind=kind,
        days=days,
        sample=sample,
        vocabulary=await vocabulary(calls_of(request)),
    )


def _about(text: str) -> tuple[DefinitionKind, SubjectKind]:
    """Returns the type and kind of a definition; stages of users if it names none."""
    try:
        header = msgspec.json.decode(text, type=_Said)
    except msgspec.DecodeError:
        return DefinitionKind.STAGES, SubjectKind.USER
    return header.type, header.kind


class _Said(msgspec.Struct, frozen=True):
    type: DefinitionKind
    kind: SubjectKind


def _written(definition: Json) -> str:
    return msgspec.json.format(msgspec.json.encode(definition), indent=2).decode()
