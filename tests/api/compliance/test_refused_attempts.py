"""What a key does not open is refused, and that it was tried is on record for auditors."""

from __future__ import annotations

from typing import Any

import pytest

from domain.access import ApiScope
from tests.serving import Clients, problem

ERASURE_ROUTES = [
    ("POST", "/api/erasures"),
    ("GET", "/api/erasures"),
    ("POST", "/api/erasures/scan"),
    ("GET", "/api/erasures/public-key"),
    ("GET", "/api/erasures/{id}"),
    ("GET", "/api/erasures/{id}/subjects"),
    ("GET", "/api/erasures/{id}/certificate"),
    ("POST", "/api/holds"),
    ("GET", "/api/holds"),
    ("POST", "/api/holds/{id}/release"),
    ("POST", "/api/suppressions/lift"),
    ("GET", "/api/users/email:ada@acme.example/review"),
]
ID = "00000000-0000-4000-8000-000000000001"


def attempts(client: Clients, **query: Any) -> list[dict[str, Any]]:
    answer = client("audit").get("/api/refused-attempts", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.mark.parametrize("scope", [ApiScope.READ, ApiScope.WRITE, ApiScope.AUDIT])
def test_case_27_each_erasure_route_is_refused_to_other_scopes_and_the_attempt_is_on_record(
    client: Clients, scope: ApiScope
) -> None:
    for method, path in ERASURE_ROUTES:
        body = {"json": {"id": "email:ada@acme.example"}} if method == "POST" else {}
        refused = client(scope.value).request(method, path.replace("{id}", ID), **body)
        problem(refused, 403, "wrong-scope")
    known = client.annals.api_keys.find(client.keys[scope.value])
    assert known is not None
    seen = attempts(client)
    assert {(each["method"], each["route"]) for each in seen} == {
        (method, path.replace("email:ada@acme.example", "{id}")) for method, path in ERASURE_ROUTES
    }
    assert {(each["key"], each["scope"]) for each in seen} == {(str(known[0]), scope.value)}
    assert sum(each["attempts"] for each in seen) == len(ERASURE_ROUTES)
    assert all(each["first_at"] <= each["last_at"] for each in seen)
    assert not [word for word in ("ada@", "acme", ID) if word in str(seen)]


@pytest.mark.parametrize("route", ["/v1/batch", "/backend/v1/batch", "/v1/import"])
def test_who_sends_with_a_key_of_another_scope_is_on_record_however_the_key_comes(
    client: Clients, route: str
) -> None:
    """Case 27 of the list, for intake: as bearer, as Segment's user name, and in the body."""
    key = client.keys["audit"]
    message = {"type": "track", "userId": "ada@acme.example", "event": "login"}
    problem(client("audit").post(route, json={"batch": [message]}), 403, "wrong-scope")
    problem(client(None).post(route, json={"batch": []}, auth=(key, "")), 403, "wrong-scope")
    problem(client(None).post(route, json={"batch": [], "writeKey": key}), 403, "wrong-scope")
    problem(client(None).post(route, json={"batch": [], "writeKey": "x"}), 401, "unknown-key")
    client.send(message)
    seen = attempts(client)
    assert {(each["method"], each["route"], each["scope"]) for each in seen} == {
        ("POST", route, "audit")
    }
    assert sum(each["attempts"] for each in seen) == 3
    assert not [word for word in ("ada", "acme", "login") if word in str(seen)]


def test_what_is_tried_again_and_again_is_counted_not_listed(client: Clients) -> None:
    for _ in range(50):
        client("read").get("/api/erasures")
    seen = attempts(client)
    assert len(seen) <= 2, "a row a minute"
    assert sum(each["attempts"] for each in seen) == 50


def test_attempts_come_in_pages_newest_first(client: Clients) -> None:
    for _, path in ERASURE_ROUTES:
        client("read").get(path.replace("{id}", ID))
    whole, pages, cursor = attempts(client), [], {}
    while True:
        page = client("audit").get("/api/refused-attempts", params={"limit": 2, **cursor}).json()
        pages += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert pages == whole
    assert len(whole) == 7
    problem(client("audit").get("/api/refused-attempts", params={"cursor": "x"}), 400)


def test_what_is_opened_or_has_no_key_is_no_attempt_and_readers_do_not_see_any(
    client: Clients,
) -> None:
    client("comply").get("/api/erasures")
    client(None).get("/api/erasures")
    assert attempts(client) == []
    problem(client("read").get("/api/refused-attempts"), 403, "wrong-scope")
