"""Each route opens to the scopes that it is for, and to no other: every route, with every key."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from domain.access import ApiScope
from tests.serving import Clients, problem, user

READERS = {ApiScope.READ, ApiScope.AUDIT, ApiScope.COMPLY, ApiScope.ADMIN}
NOBODY_ASKED = {"/health/live", "/health/ready"}
INTAKE = {"/v1/batch", "/backend/v1/batch", "/v1/import"}
ASKING = re.compile(r"/(preview|bars|export|users|accounts)(/\{format\})?$")
"""Where a question is POSTed, for it does not fit into an address."""
COMPLIANCE = re.compile(r"^/api/(erasures|holds|suppressions|reviews|scans|erasure-scans)\b")
PERSONAL = re.compile(r"^/api/(users|accounts)/\{id\}/(review|archive)\b")


def scopes_of(method: str, path: str) -> set[ApiScope]:
    """Who may ask, as the pages say."""
    if path in INTAKE or (method == "delete" and path.endswith("/{user}")):
        return {ApiScope.WRITE}
    if path in ("/api/refused-attempts", "/api/retention/runs"):
        return READERS - {ApiScope.READ}
    if path.startswith(("/api/api-keys", "/api/destinations")):
        return {ApiScope.ADMIN}
    if COMPLIANCE.search(path) or PERSONAL.search(path):
        return {ApiScope.COMPLY}
    if method == "get" or ASKING.search(path) or path.startswith(("/api/backtest", "/api/pasts")):
        return READERS
    return {ApiScope.ADMIN}


@pytest.fixture
def routes(client: Clients) -> list[tuple[str, str]]:
    paths = client(None).get("/schema/openapi.json").json()["paths"]
    return [
        (method, path)
        for path, methods in paths.items()
        for method in methods
        if path not in NOBODY_ASKED
    ]


def asked(client: Clients, scope: str | None, method: str, path: str) -> Any:
    """Asks with what no route can carry out, so that nothing comes of it whoever asks."""
    address = re.sub(r"\{[^}]*\}", str(uuid.UUID(int=1)), path)
    nothing: dict[str, Any] = {"batch": []} if path in INTAKE else {"nothing": "of the sort"}
    body = {"json": nothing} if method in ("post", "put", "patch") else {}
    # Some answers are streams without an end: what is asked is only whether they begin.
    with client(scope).stream(method, address, **body) as answer:
        return answer


def test_every_route_is_closed_without_a_key_and_with_a_key_of_another_scope(
    client: Clients, routes: list[tuple[str, str]]
) -> None:
    assert len(routes) > 40
    wrong = []
    for method, path in routes:
        if asked(client, None, method, path).status_code != 401:
            wrong.append((method, path, None))
        for scope in ApiScope:
            status = asked(client, scope.value, method, path).status_code
            assert status < 500 or status == 503, (method, path, scope)
            if (status not in (401, 403)) != (scope in scopes_of(method, path)):
                wrong.append((method, path, scope.value, status))
    assert wrong == []


def test_who_may_not_erase_cannot_and_is_told_nothing_of_whom(client: Clients) -> None:
    client.send({"type": "identify", "userId": "u1", "traits": {"name": "Ada"}})
    known, unknown = ({"id": f"external:{id}"} for id in ("u1", "nobody"))
    for scope in ApiScope:
        if scope is ApiScope.COMPLY:
            continue
        answers = [
            client(scope.value).post(
                "/api/erasures", json={"kind": "user", "confirm": "confirm", **whom}
            )
            for whom in (known, unknown)
        ]
        assert len({(one.status_code, one.text) for one in answers}) == 1
        problem(answers[0], 403, "wrong-scope")
    assert client.see(user("u1"))["name"] == "Ada"


def test_an_auditor_reads_of_an_erased_subject_that_it_is_erased_and_nothing_else(
    client: Clients,
) -> None:
    client.send(
        {
            "type": "identify",
            "userId": "u1",
            "traits": {"name": "Ada", "email": "ada@acme.example"},
        },
        {"type": "group", "userId": "u1", "groupId": "a1", "traits": {"name": "Acme"}},
        {"type": "track", "userId": "u1", "event": "signed_in", "context": {"groupId": "a1"}},
    )
    gone = client.erase("user", "external:u1")
    seen = [
        client.get(path, scope="audit").text
        for path in (
            "/api/users",
            f"/api/users/{gone}",
            "/api/accounts/external:a1",
            "/api/accounts/external:a1/users",
            "/api/accounts/external:a1/timeline",
            "/api/status",
        )
    ]
    assert not [text for text in seen if "Ada" in text or "ada@acme" in text or "u1" in text]
    [member] = client.see("/api/accounts/external:a1/users", scope="audit")["items"]
    assert (member["id"], member["erased"], member["name"]) == (gone, True, None)
