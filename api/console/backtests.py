"""Back-tests: the decisions that a definition would have made, before it is saved or active."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from api.console import definitions, segments
from api.console.calls import Calls, Refused
from api.console.contacts import calls_of, is_part
from api.console.pages import page
from api.console.sessions import AnyRequest
from api.definitions.backtests import NO_STAGE

Json = Any

ROWS = 50
ENDED = ("done", "failed", "cancelled")
TONES = {"good": "1", "normal": "2", "bad": "3", "in": "0", "on": "0", "out": "none", "off": "none"}
MANY_TONES = 8
SIGNAL_DAYS = ("triggered", "ended", "reached", "missed")


class Backtests(Controller):
    path = "/backtests"

    @get()
    async def list(self, request: AnyRequest) -> Response[str]:
        backtests = await calls_of(request).get("/api/backtest")
        return page(request, "backtests/list.html", backtests=backtests["items"])

    @post()
    async def begin(self, request: AnyRequest) -> Response[Any]:
        """Begins a back-test of the definition or segment in a form, saved or not."""
        sent = await request.form()
        form = {name: str(value) for name, value in sent.items()}
        if "definition" in form:
            return await self._definition(request, form)
        draft = await segments.draft_sent(request, form.get("id"))
        definition = {"type": "segment", "kind": draft.kind, "name": draft.name or "A new segment"}
        try:
            begun = await _begun(
                calls_of(request), definition | {"condition": draft.condition_json}, form, draft.id
            )
        except Refused as refused:
            _show(refused)
            return await segments.form_page(
                request, draft, _within(refused), days=form["days"], sample=form["sample"]
            )
        return begun

    @get("/{id:uuid}")
    async def view(self, request: AnyRequest, id: FromPath[UUID]) -> Response[str]:
        calls = calls_of(request)
        query = {name: value for name, value in request.query_params.items() if value}
        backtest = await calls.get(f"/api/backtest/{id}")
        result = backtest["result"]
        shown = {} if result is None else await _shown(calls, id, result, query)
        more = is_part(request) and "cursor" in query
        part = "rows" if more else "result" if is_part(request) else "page"
        return page(
            request,
            f"backtests/{part}.html",
            backtest=backtest,
            result=result,
            ended=backtest["state"] in ENDED,
            query=query,
            link=lambda **names: _link(id, names),
            signal_days=SIGNAL_DAYS,
            **shown,
        )

    @post("/{id:uuid}/forget")
    async def forget(self, request: AnyRequest, id: FromPath[UUID]) -> Redirect:
        """Cancels a back-test, or forgets its result."""
        await calls_of(request).delete(f"/api/backtest/{id}")
        return Redirect("/console/backtests", status_code=303)

    async def _definition(self, request: AnyRequest, form: Mapping[str, str]) -> Response[Any]:
        calls, text, id = calls_of(request), form["definition"], form.get("id")
        saved = None if id is None else await calls.get(f"/api/definitions/{id}")
        is_active = saved is not None and saved["status"] == "active"
        try:
            definition = msgspec.json.decode(text)
            return await _begun(calls, definition, form, id if is_active else None)
        except msgspec.DecodeError as error:
            reason = Refused(400, "invalid-input", f"This is no JSON: {error}", None)
        except Refused as refused:
            _show(refused)
            reason = _within(refused)
        return await definitions.form_page(
            request, saved, text, reason, days=form["days"], sample=form["sample"]
        )


async def _shown(calls: Calls, id: UUID, result: Json, query: Mapping[str, str]) -> Json:
    """The days as a picture, and a page of those who are asked for: who would be elsewhere, unless
    the address says otherwise."""
    only = result["compared_with"] is not None and "all" not in query
    subjects = await calls.get(
        f"/api/backtest/{id}/subjects",
        outcome=query.get("outcome"),
        before=query.get("before"),
        differing=str(only).lower(),
        cursor=query.get("cursor"),
        limit=ROWS,
    )
    following = None
    if subjects["next"]:
        following = _link(id, {**query, "cursor": subjects["next"]})
    return {"drawn": _drawn(result), "subjects": subjects, "following": following}


async def _begun(
    calls: Calls, definition: Json, form: Mapping[str, str], compare_with: str | None
) -> Response[Any]:
    body = {
        "definition": definition,
        "compare_with": compare_with,
        "days": _number(form["days"]),
        "sample": _number(form["sample"]) if form["sample"].strip() else None,
    }
    begun = await calls.post("/api/backtest", body)
    return Redirect(f"/console/backtests/{begun['id']}", status_code=303)


def _number(text: str) -> int | str:
    """A text that is no number stays a text: the API refuses it."""
    return int(text) if text.strip().isdecimal() else text


def _show(refused: Refused) -> None:
    """Raises: Refused: a refusal that the form does not show."""
    if refused.status not in (400, 404, 409, 503):
        raise refused


def _within(refused: Refused) -> Refused:
    """The same, with the place as the form has it: inside of the definition."""
    pointer = refused.pointer
    inside = None if pointer is None else pointer.removeprefix("/definition") or None
    return Refused(refused.status, refused.code, refused.detail, inside)


def _drawn(result: Json) -> Json:
    """The days as bars of 100 units, with name and colour of each outcome."""
    counted = [count["outcome"] for day in result["days"] for count in day["counts"]]
    outcomes = sorted(dict.fromkeys(counted), key=lambda outcome: outcome is None)
    tones = {
        outcome: "none" if outcome is None else TONES.get(outcome, str(n % MANY_TONES))
        for n, outcome in enumerate(outcomes)
    }
    most = max(
        (sum(count["subjects"] for count in day["counts"]) for day in result["days"]), default=0
    )
    days: list[Json] = []
    for day in result["days"]:
        counts = {count["outcome"]: count["subjects"] for count in day["counts"]}
        bars, top = [], 100.0
        for outcome in outcomes:
            height = 100 * counts.get(outcome, 0) / max(most, 1)
            top -= height
            bars.append((tones[outcome], round(max(top, 0), 3), round(height, 3)))
        happened = {name: day[name] for name in SIGNAL_DAYS}
        on = date.fromisoformat(day["day"])
        days.append({"day": on, "counts": counts, "bars": bars} | happened)
    today = days[-1]["counts"] if days else {}
    legend = [
        {
            "outcome": outcome,
            "name": _name(outcome),
            "tone": tones[outcome],
            "count": today.get(outcome, 0),
        }
        for outcome in outcomes
    ]
    return {"days": days, "legend": legend}


def _name(outcome: str | None) -> str:
    return "no stage" if outcome is None else outcome


def _link(id: UUID, names: Mapping[str, str | None]) -> str:
    """The page with some of its subjects; an outcome of null is that of no stage."""
    parameters = {name: NO_STAGE if value is None else value for name, value in names.items()}
    return f"/console/backtests/{id}?{urlencode(parameters)}"
