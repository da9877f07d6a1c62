"""What a stored release is asked: all that readers can see, but for what moves with the clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlencode

from tests.releases.server import Server

Json = Any

MOVING = ("seconds", "as_of")
"""Fields that are left out of every answer: how long stages have lasted so far, and when values
were last counted."""

MOVING_OF_KEYS = (*MOVING, "last_seen")
"""Of API keys also when they were last used."""

KEYS = "/api/api-keys"
LONGEST = {"limit": 500}
KINDS = {"users": "accounts", "accounts": "users"}
TABS = ("events", "pages", "screens", "channels", "campaigns")


class Answers:
    """Answers, with their status, by question: the scope of the key and the address."""

    def __init__(self, annals: Server) -> None:
        self._annals = annals
        self.found: dict[str, Json] = {}

    def ask(self, path: str, scope: str = "read", **query: Any) -> Json:
        """Asks once, notes the answer and returns what it says."""
        question = f"{scope} {path}" + (f"?{urlencode(query)}" if query else "")
        self.found[question] = answer(self._annals, question)
        return self.found[question]["answer"]


def answer(annals: Server, question: str) -> Json:
    """The answer to one question, without what moves with the clock."""
    scope, _, address = question.partition(" ")
    response = annals.request("GET", address, scope)
    moving = MOVING_OF_KEYS if address == KEYS else MOVING
    media_type = response.headers.get("content-type", "").partition(";")[0]
    is_json = media_type in ("application/json", "application/problem+json")
    content = _still(response.json(), moving) if is_json else response.text
    return {"status": response.status_code, "answer": content}


def asked(annals: Server) -> dict[str, Json]:
    """Asks everything; the answers tell what else there is to ask."""
    answers = Answers(annals)
    for kind in KINDS:
        _contacts(answers, kind)
    _definitions(answers)
    _operations(answers)
    _compliance(answers)
    return answers.found


def _contacts(answers: Answers, kind: str) -> None:
    ask, path = answers.ask, f"/api/{kind}"
    listed = ask(path, sort="name", total="true", **LONGEST)
    ask(path, sort="-last_seen", columns="plan", search="ada", **LONGEST)
    ask(f"{path}/bars")
    ask(f"{path}/filters")
    for form in ("csv", "ndjson"):
        ask(f"{path}/export", sort="name", format=form)
    for one in listed["items"]:
        of = f"{path}/{one['id']}"
        ask(of)
        ask(f"{of}/properties")
        ask(f"{of}/{KINDS[kind]}", **LONGEST)
        for order in ("newest", "oldest"):
            ask(f"{of}/timeline", order=order, total="true", **LONGEST)
        ask(f"{of}/stages")
        for tab in TABS:
            ask(f"{of}/{tab}", **LONGEST)
        ask(f"{of}/why", of="stage")
        ask(f"{of}/review", "comply", **LONGEST)


def _definitions(answers: Answers) -> None:
    ask = answers.ask
    for one in ask("/api/definitions")["items"]:
        ask(f"/api/definitions/{one['id']}")
        ask(f"/api/definitions/{one['id']}/history")
    for one in ask("/api/segments")["items"]:
        ask(f"/api/segments/{one['id']}/members", **LONGEST)
        ask(f"/api/segments/{one['id']}/history")
        ask(f"/api/{one['kind']}s", segment=one["id"], sort="name", **LONGEST)
    ask("/api/settings")
    for one in ask("/api/saved-views")["items"]:
        ask(f"/api/saved-views/{one['id']}")
    for one in ask("/api/destinations", "admin")["items"]:
        ask(f"/api/destinations/{one['id']}/history", "admin")


def _operations(answers: Answers) -> None:
    for names in ("events", "properties"):
        for retired in ("false", "true"):
            answers.ask(f"/api/catalogue/{names}", retired=retired)
    answers.ask("/api/parked")
    answers.ask("/api/retention/runs", "audit")
    answers.ask(KEYS, "admin")


def _compliance(answers: Answers) -> None:
    answers.ask("/api/holds", "comply", released="true")
    answers.ask("/api/erasures/public-key", "comply")
    for one in answers.ask("/api/erasures", "comply", **LONGEST)["items"]:
        of = f"/api/erasures/{one['id']}"
        answers.ask(of, "comply")
        answers.ask(f"{of}/subjects", "comply", **LONGEST)
        answers.ask(f"{of}/certificate", "comply")


def differences(then: Json, now: Json, place: str = "") -> Iterator[str]:
    """Where two answers differ, a line each; none: they are the same value of JSON."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in {**then, **now}:
            where = f"{place}/{name}"
            if name not in now:
                yield f"{where}: is missing"
            elif name not in then:
                yield f"{where}: is new"
            else:
                yield from differences(then[name], now[name], where)
    elif isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            yield f"{place}: had {len(then)} items, has {len(now)}"
        for n, (one, other) in enumerate(zip(then, now, strict=False)):
            yield from differences(one, other, f"{place}/{n}")
    elif (type(then), then) != (type(now), now):
        yield f"{place}: was {then!r}, is {now!r}"


def _still(value: Json, moving: Collection[str]) -> Json:
    """Without what moves with the clock."""
    if isinstance(value, dict):
        return {name: _still(one, moving) for name, one in value.items() if name not in moving}
    return [_still(one, moving) for one in value] if isinstance(value, list) else value
