"""API keys over HTTP: made and shown once, listed, seen, revoked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from domain.access import ApiScope
from infra import api_keys
from infra.bootstrap.annals import Annals
from tests.serving import Clients, problem


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is looked up at every request."""
    monkeypatch.setattr(api_keys, "CACHE_SECONDS", 0.0)


def make(client: Clients, scope: str = "read", name: str = "A dashboard") -> dict[str, Any]:
    answer = client("admin").post("/api/api-keys", json={"scope": scope, "name": name})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return body


def listed(client: Clients) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in client("admin").get("/api/api-keys").json()["items"]}


def reads(client: Clients, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{client.url}/api/users", headers=headers).status_code


@pytest.mark.parametrize("scope", ApiScope)
def test_a_key_is_made_for_any_scope_shown_once_and_opens_it(
    client: Clients, scope: ApiScope
) -> None:
    made = make(client, scope.value)
    found = client.annals.api_keys.find(made["key"])
    assert found is not None
    assert (str(found[0]), found[1]) == (made["id"], scope)
    answer = client("admin").get("/api/api-keys")
    assert made["key"] not in answer.text
    one = listed(client)[made["id"]]
    assert (one["name"], one["scope"], one["revoked_at"]) == ("A dashboard", scope, None)


def test_a_key_knows_who_made_it_when_it_was_seen_and_who_revoked_it(client: Clients) -> None:
    admin, _ = client.annals.api_keys.find(client.keys["admin"]) or ("", "")
    made = make(client)
    before = listed(client)[made["id"]]
    assert (before["made_by"], before["last_seen"]) == (str(admin), None)
    assert reads(client, made["key"]) == 200
    seen = listed(client)[made["id"]]["last_seen"]
    assert seen > before["created_at"]
    assert reads(client, made["key"]) == 200
    assert listed(client)[made["id"]]["last_seen"] == seen, "it is kept to the minute"
    gone = client("admin").delete(f"/api/api-keys/{made['id']}").json()
    assert gone == listed(client)[made["id"]]
    assert (gone["revoked_by"], gone["revoked_at"] > seen) == (str(admin), True)
    assert reads(client, made["key"]) == 401


def test_to_revoke_a_key_twice_changes_nothing_and_an_unknown_one_is_not_found(
    client: Clients,
) -> None:
    path = f"/api/api-keys/{make(client)['id']}"
    assert client("admin").delete(path).json() == client("admin").delete(path).json()
    unknown = "/api/api-keys/00000000-0000-4000-8000-000000000000"
    problem(client("admin").delete(unknown), 404, "not-found")


def test_the_last_key_of_scope_admin_is_revoked_only_by_who_says_so(client: Clients) -> None:
    [mine] = [one for one in listed(client).values() if one["scope"] == "admin"]
    path = f"/api/api-keys/{mine['id']}"
    told = problem(client("admin").delete(path), 409, "conflict")
    assert "last API key of scope admin" in told["detail"]
    assert listed(client)[mine["id"]]["revoked_at"] is None
    problem(client("admin").delete(path, params={"last": "perhaps"}), 400)
    other = make(client, "admin")
    assert client("admin").delete(f"/api/api-keys/{other['id']}").status_code == 200
    assert client("admin").delete(path, params={"last": "true"}).status_code == 200
    problem(client("admin").get("/api/api-keys"), 401, "unknown-key")


def test_two_who_revoke_one_another_at_once_leave_one_key_of_scope_admin(annals: Annals) -> None:
    both = [annals.api_keys.make(ApiScope.ADMIN)[0] for _ in range(2)]

    def revoked(id: Any) -> bool:
        try:
            return annals.api_keys.revoke(id)
        except api_keys.Conflict:
            return False

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(revoked, both)) == [False, True]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"scope": "everything", "name": "x"}, "/scope"),
        ({"scope": "read"}, None),
        ({"scope": "read", "name": ""}, "/name"),
        ({"scope": "read", "name": "a\nb"}, "/name"),
        ({"scope": "read", "name": "x" * 201}, "/name"),
        ({"scope": "read", "name": "x", "key": "mine"}, None),
    ],
)
def test_a_key_that_cannot_be_is_refused(
    standing: Clients, body: dict[str, Any], place: str | None
) -> None:
    before = listed(standing)
    refused = problem(standing("admin").post("/api/api-keys", json=body), 400, "invalid-input")
    assert refused.get("place") == place
    assert listed(standing).keys() == before.keys()
