"""A story in which each operation of the HTTP interface is asked once. Run by itself it records the
examples of the OpenAPI document (`make examples`); the tests hold the document against it.

A step's texts may hold `<name>`, which an earlier step kept from its answer. `{id}` in a path and
the like are the parameters of the step.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from infra import bootstrap, embedded
from infra.settings import Settings
from tests.api.test_scopes import NOBODY_ASKED, scopes_of
from tests.databases import make_template, migrated
from tests.serving import Clients, served

PATH = Path(__file__).parents[2] / "api" / "openapi" / "examples.json"
JSON = {"application/json", "application/problem+json", "text/event-stream"}
"""What is told by events is JSON, too."""
HEADERS = {"Idempotency-Key"}
WAITING_SECONDS = 30
MAX_ITEMS = 5
SECRET = re.compile(r"\b(annals_[a-z]+_|whsec_)[\w+/=-]+")
NOTHING_YET = re.compile(r"(?<![\d:])\d{1,3}:0(,|$)")

PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
ADA, BOB, ACME = "external:ada", "external:bob", "external:acme"


class Step(NamedTuple):
    """
    Attributes:
        asked: parameters, by name.
        keep: what later steps name, and where the answer has it: fields and indexes by dots.
        until: asks again until this holds of the answer.
        shown: answers with 200, as there is nothing here of which that can be asked.
    """

    method: str
    path: str
    asked: Mapping[str, Any] = {}
    body: Any = None
    keep: Mapping[str, str] = {}
    until: Callable[[Any], bool] | None = None
    status: int = 200
    shown: Any = None


class Told(NamedTuple):
    """A step, what was sent and what was answered.

    Attributes:
        media_type: of the answer; None: it has no text.
    """

    step: Step
    asked: dict[str, Any]
    body: Any
    status: int
    media_type: str | None
    answer: Any


def _call(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, "timestamp": "2026-05-03T14:00:00Z", **fields}


BATCH = {
    "batch": [
        _call(
            "identify",
            messageId="m-1",
            userId="ada",
            traits={"name": "Ada", "email": "ada@acme.example", "plan": "pro"},
        ),
        _call("group", userId="ada", groupId="acme", traits={"name": "Acme", "mrr": 490}),
        _call("track", userId="ada", event="Report opened", properties={"pages": 3}),
        _call("identify", userId="bob", traits={"name": "Bob", "plan": "free"}),
        _call("group", userId="bob", groupId="acme"),
    ]
}
MORE = {"batch": [_call("track", userId="ada", event="Report opened")]}
SEGMENT = {"kind": "user", "name": "On plan pro", "condition": PRO}
STAGES = {
    "type": "stages",
    "kind": "user",
    "name": "Life",
    "stages": [
        {"name": "Paying", "type": "paying", "condition": PRO},
        {"name": "Trial", "type": "trial", "condition": {"type": "all", "of": []}},
    ],
}
SCORE = {
    "type": "score",
    "kind": "user",
    "name": "Fit",
    "rules": [{"name": "Pro", "weight": 3, "condition": PRO}],
}
VIEW = {"kind": "user", "name": "Pros", "sort": "-last_seen", "columns": ["plan"], "filter": PRO}
DESTINATION = {
    "type": "destination",
    "name": "CRM",
    "url": "https://hooks.crm.example/annals",
    "news": [{"about": "property", "names": ["plan"]}],
}
RETRIED = {"applied": 2, "left": 0, "error": None}
SETTINGS = {"currency": "EUR", "time_zone": "Europe/Brussels", "users": {"properties": ["plan"]}}


def _reading(kind: str, id: str) -> Iterator[Step]:
    path, below = f"/api/{kind}", f"/api/{kind}/{{id}}"
    other = "accounts" if kind == "users" else "users"
    wanted = {"limit": 10}
    yield Step("get", path, {"sort": "name", **wanted})
    yield Step("post", path, body={"search": "a", "total": True})
    yield Step("get", f"{path}/bars", {"search": "a"})
    yield Step("post", f"{path}/bars", body={"search": "a"})
    yield Step("get", f"{path}/filters")
    yield Step("get", f"{path}/export", {"format": "csv"})
    yield Step("post", f"{path}/export", {"format": "ndjson"}, body={"search": "a"})
    yield Step("get", f"{path}/changes")
    yield Step("get", below, {"id": id})
    yield Step("get", f"{below}/changes", {"id": id})
    yield Step("get", f"{below}/properties", {"id": id})
    yield Step("get", f"{below}/{other}", {"id": id, **wanted})
    yield Step("get", f"{below}/timeline", {"id": id, "order": "oldest", **wanted})
    yield Step("get", f"{below}/stages", {"id": id})
    yield Step("get", f"{below}/overview", {"id": id})
    yield Step("get", f"{below}/{{tab}}", {"id": id, "tab": "events", **wanted})
    yield Step(
        "get", f"{below}/{{tab}}/days", {"id": id, "tab": "events", "name": ["Report opened"]}
    )
    yield Step("get", f"{below}/review", {"id": id})
    yield Step("get", f"{below}/review/archive", {"id": id})


def _defining() -> Iterator[Step]:
    segment, one = "/api/segments", {"id": "<segment>"}
    yield Step("post", f"{segment}/preview", body={"kind": "user", "condition": PRO})
    yield Step("post", segment, body=SEGMENT, keep={"segment": "id"})
    yield Step("get", segment, {"kind": "user"})
    yield Step("get", f"{segment}/{{id}}", one)
    yield Step("get", f"{segment}/{{id}}/members", one, until=lambda page: page["items"])
    yield Step(
        "get",
        "/api/users/{id}/why",
        {"id": ADA, "of": "segment", "definition": "<segment>"},
    )
    yield Step("put", f"{segment}/{{id}}", one, body={**SEGMENT, "name": "Pros"})
    yield Step("get", f"{segment}/{{id}}/history", one)
    yield Step("delete", f"{segment}/{{id}}", one)
    listed = {"kind": "account", "name": "Pilots", "members": [ACME]}
    yield Step("post", segment, body=listed, keep={"list": "id"})
    yield Step("post", f"{segment}/{{id}}/members", {"id": "<list>"}, body={"add": [ACME]})
    yield Step(
        "get",
        "/api/segments/{id}/members",
        {"id": "<list>"},
        until=lambda page: page["items"],
    )
    yield Step(
        "get",
        "/api/accounts/{id}/why",
        {"id": ACME, "of": "segment", "definition": "<list>"},
    )
    definition, one = "/api/definitions", {"id": "<stages>"}
    yield Step("post", definition, body=STAGES, keep={"stages": "id"})
    yield Step("put", f"{definition}/{{id}}", one, body=STAGES)
    yield Step("post", f"{definition}/{{id}}/activate", one)
    yield Step("get", f"{definition}/{{id}}", one)
    yield Step("get", definition, {"status": "active"})
    yield Step("get", f"{definition}/{{id}}/history", one)
    by_hand = {"stage": "Paying", "reason": "signed by hand"}
    yield Step("post", "/api/users/{id}/stage", {"id": ADA}, body=by_hand)
    yield Step("delete", "/api/users/{id}/stage", {"id": ADA})
    yield Step("post", f"{definition}/{{id}}/archive", one)
    of_accounts = {**STAGES, "kind": "account"}
    of_accounts["stages"] = [
        {"name": "Any", "type": "paying", "condition": {"type": "all", "of": []}}
    ]
    yield Step("post", definition, body=of_accounts, keep={"others": "id"})
    yield Step("post", f"{definition}/{{id}}/activate", {"id": "<others>"})
    anyhow = {"stage": "Any", "reason": "signed by hand"}
    yield Step("post", "/api/accounts/{id}/stage", {"id": ACME}, body=anyhow)
    yield Step("delete", "/api/accounts/{id}/stage", {"id": ACME})
    yield Step("post", definition, body=SCORE, keep={"score": "id"})
    yield Step("delete", f"{definition}/{{id}}", {"id": "<score>"})
    yield Step("put", "/api/settings", body=SETTINGS)
    yield Step("get", "/api/settings")
    view, one = "/api/saved-views", {"id": "<view>"}
    yield Step("post", view, body=VIEW, keep={"view": "id"})
    yield Step("get", view, {"kind": "user"})
    yield Step("get", f"{view}/{{id}}", one)
    yield Step("put", f"{view}/{{id}}", one, body=VIEW)
    yield Step("delete", f"{view}/{{id}}", one)


def _telling() -> Iterator[Step]:
    path, one = "/api/destinations", {"id": "<destination>"}
    below = f"{path}/{{id}}"
    yield Step("post", path, body=DESTINATION, keep={"destination": "id"})
    yield Step("put", below, one, body=DESTINATION)
    yield Step("post", f"{below}/test", one)
    yield Step("post", f"{below}/activate", one)
    yield Step("post", f"{below}/pause", one)
    yield Step("post", f"{below}/resume", one)
    yield Step("post", f"{below}/secret", one)
    yield Step("get", path)
    yield Step("get", below, one)
    yield Step("get", f"{below}/history", one)
    yield Step("post", f"{below}/archive", one)
    yield Step("post", path, body=DESTINATION | {"name": "Draft"}, keep={"draft": "id"})
    yield Step("delete", below, {"id": "<draft>"})


def _operating() -> Iterator[Step]:
    test, one = "/api/backtest", {"id": "<test>"}
    draft = {"definition": {"type": "segment", "kind": "user", "name": "Pros", "condition": PRO}}
    yield Step("post", test, body={**draft, "days": 7}, keep={"test": "id"}, status=202)
    yield Step("get", f"{test}/{{id}}", one, until=lambda it: it["state"] == "done")
    yield Step("get", test)
    yield Step("get", f"{test}/{{id}}/subjects", {**one, "outcome": "in"})
    yield Step("delete", f"{test}/{{id}}", one, status=204)
    past, one = "/api/pasts", {"id": "<past>"}
    yield Step("post", past, body={"at": "2026-05-03T14:00:00Z"}, keep={"past": "id"}, status=202)
    yield Step("get", past)
    yield Step("get", f"{past}/{{id}}", one)
    yield Step("delete", f"{past}/{{id}}", one, status=204)
    keys = "/api/api-keys"
    yield Step("post", keys, body={"name": "Dashboard", "scope": "read"}, keep={"key": "id"})
    yield Step("get", keys)
    yield Step("delete", f"{keys}/{{id}}", {"id": "<key>"})
    for path in ("status", "counters", "catalogue/events", "catalogue/properties", "parked"):
        yield Step("get", f"/api/{path}")
    names = {"scope": "account.property", "names": ["name"]}
    for verb in ("retire", "restore"):
        yield Step("post", f"/api/catalogue/{verb}", body=names)
    typed = {"scope": "account.property", "name": "mrr", "type": "string"}
    yield Step("post", "/api/catalogue/type", body=typed)
    at = {"reader": "main", "position": "17:42"}
    parked = "/api/parked/{reader}/{position}"
    skipping = {"reason": "sent by a test"}
    yield Step("post", f"{parked}/retry", at, status=404, shown=RETRIED)
    yield Step("post", f"{parked}/skip", at, body=skipping, status=404, shown=RETRIED)
    yield Step("get", "/api/refused-attempts")
    yield Step("get", "/api/retention/runs")
    for path in sorted(NOBODY_ASKED):
        yield Step("get", path)


def _forgetting() -> Iterator[Step]:
    yield Step("delete", "/api/accounts/{id}/users/{user}", {"id": ACME, "user": BOB})
    hold = {"kind": "user", "id": BOB, "reason": "case-17"}
    yield Step("post", "/api/holds", body=hold, keep={"hold": "id"})
    yield Step("get", "/api/holds")
    yield Step("post", "/api/holds/{id}/release", {"id": "<hold>"}, body={"reason": "closed"})
    path, one = "/api/erasures", {"id": "<erasure>"}
    whom = {"kind": "user", "id": BOB, "confirm": "confirm", "suppress": True}
    key = {"Idempotency-Key": "ticket-4711"}
    yield Step("post", path, key, body=whom, keep={"erasure": "id"})
    yield Step("get", path)
    yield Step("get", f"{path}/{{id}}", one, until=lambda it: it["completed_at"])
    yield Step("get", f"{path}/{{id}}/subjects", one)
    yield Step("get", f"{path}/{{id}}/certificate", one)
    yield Step("get", f"{path}/public-key")
    yield Step("post", f"{path}/scan", body={"values": ["bob@acme.example"]})
    yield Step("post", "/api/suppressions/lift", body={"kind": "user", "id": BOB})


STORY = [
    Step("post", "/v1/batch", body=BATCH),
    Step("post", "/v1/import", body=MORE),
    Step("post", "/backend/v1/batch", body=MORE),
    *_reading("users", ADA),
    *_reading("accounts", ACME),
    *_defining(),
    *_telling(),
    *_operating(),
    *_forgetting(),
]


def told(client: Clients) -> Iterator[Told]:
    """Asks all, one after the other."""
    names: dict[str, str] = {}

    def filled(value: Any) -> Any:
        return json.loads(re.sub(r"<(\w+)>", lambda found: names[found[1]], json.dumps(value)))

    for step in STORY:
        asked, body = filled(step.asked), filled(step.body)
        deadline = time.monotonic() + WAITING_SECONDS
        while True:
            response = _ask(client, step, asked, body)
            answer = _answer(response)
            if step.until is None or response.status_code != 200 or step.until(answer):
                break
            assert time.monotonic() < deadline, step
            time.sleep(0.05)
        for name, where in step.keep.items():
            names[name] = answer[where]
        if "position" in (answer or {}) and step.method != "get":
            client.taken_up_to(client.annals.log.heads(list(range(256))))
            client.see("/api/users")
        yield Told(step, asked, body, response.status_code, _media_type(response), answer)


def _ask(client: Clients, step: Step, asked: dict[str, Any], body: Any) -> httpx.Response:
    scope = None
    if step.path not in NOBODY_ASKED:
        scope = sorted(scopes_of(step.method, step.path))[0].value
    path, query, headers = step.path, dict[str, Any](), dict[str, str]()
    for name, value in asked.items():
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", str(value).replace(":", "%3A"))
        elif name in HEADERS:
            headers[name] = value
        else:
            query[name] = value
    sent = {} if body is None else {"json": body}
    with client(scope).stream(step.method, path, params=query, headers=headers, **sent) as answer:
        if step.path.endswith("/changes"):  # has no end
            lines = (line for line in answer.iter_lines() if line.startswith("data:"))
            answer._content = next(lines).removeprefix("data:").encode()
        else:
            answer.read()
        return answer


def _answer(response: httpx.Response) -> Any:
    media_type = _media_type(response)
    if media_type in JSON:
        return json.loads(response.content)
    return None if media_type is None else response.text


def _media_type(response: httpx.Response) -> str | None:
    media_type = response.headers.get("content-type", "").partition(";")[0]
    return None if media_type in ("", "application/zip") else media_type


def record() -> None:
    """Writes the examples of the document: of each operation the first time that it is asked."""
    examples: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = make_template(stack.enter_context(embedded.running(folder / "server")))
        url = stack.enter_context(migrated(server))
        settings = Settings(data=folder / "data")
        annals = stack.enter_context(bootstrap.opened(settings, url, connections=4))
        client = stack.enter_context(served(annals))
        for step, asked, body, status, media_type, answer in told(client):
            assert status == step.status, (step, answer)
            example: dict[str, Any] = {"status": status, "parameters": asked, "body": body}
            example |= {"media_type": media_type, "answer": _short(answer)}
            if step.shown is not None:
                example |= {"status": 200, "media_type": "application/json", "answer": step.shown}
            kept = {name: value for name, value in example.items() if value not in (None, {})}
            examples.setdefault(f"{step.method} {step.path}", kept)
    text = json.dumps(examples, indent=1, ensure_ascii=False)
    PATH.write_text(SECRET.sub(r"\1EXAMPLE", text) + "\n")


def _short(answer: Any) -> Any:
    """Without the rest of what is long: positions of partitions that are empty, items of lists."""
    if isinstance(answer, dict):
        return {name: _short(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [_short(one) for one in answer[:MAX_ITEMS]]
    if isinstance(answer, str) and NOTHING_YET.search(answer):
        return NOTHING_YET.sub("", answer).strip(",")
    return answer


if __name__ == "__main__":
    record()
