"""Every view as of a past instant, over HTTP: how it is asked for, made, refused and dropped."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from tests.serving import Clients, account, problem, user

ADA = {"type": "identify", "userId": "ada", "traits": {"name": "Ada", "plan": "free"}}
GROUP = {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}}
LOGIN = {"type": "track", "userId": "ada", "event": "login", "context": {"groupId": "acme"}}


def now(client: Clients) -> str:
    """An instant at which all that was sent can be seen."""
    client.see("/api/users")
    return datetime.now(UTC).isoformat()


def then(client: Clients, path: str, at: str, **query: Any) -> Any:
    """The body of a reading as of an instant, once the past is made."""
    deadline = time.monotonic() + 60
    while True:
        answer = client("read").get(path, params={"as_of": at, **query})
        if answer.status_code != 503 or time.monotonic() > deadline:
            assert answer.status_code == 200, answer.text
            return answer.json()
        problem(answer, 503, "not-ready")
        time.sleep(0.05)


def test_every_route_that_reads_shows_what_was_shown_then(client: Clients) -> None:
    client.send(ADA, GROUP, LOGIN)
    paths = [
        *(f"/api/{kind}{tab}" for kind in ("users", "accounts") for tab in ("", "/bars")),
        *(user("ada", tab) for tab in ("", "/properties", "/events", "/accounts", "/timeline")),
        *(account("acme", tab) for tab in ("", "/users", "/timeline", "/stages", "/overview")),
        user("ada", "/overview"),
        "/api/segments",
        "/api/definitions",
        "/api/catalogue/properties",
        "/api/catalogue/events",
        "/api/settings",
    ]
    at = now(client)
    before = {path: client.see(path) for path in paths}
    client.send(
        ADA | {"traits": {"name": "Ada Lovelace", "plan": "pro", "seats": 3}},
        {"type": "identify", "userId": "bob"},
        *(LOGIN | {"event": name} for name in ("login", "logout")),
    )
    settings = client("admin").put("/api/settings", json={"currency": "EUR"})
    client.taken(settings)
    after = {path: client.see(path) for path in paths}
    assert {path: then(client, path, at) for path in paths} == before
    assert sum(after[path] != before[path] for path in paths) > 10
    csv = client("read").get("/api/users/export", params={"as_of": at}).text
    assert "ada" in csv
    assert "bob" not in csv
    asked = {
        "as_of": at,
        "filter": {"type": "property", "name": "plan", "test": {"op": "is", "value": "free"}},
    }
    [one] = client("read").post("/api/users", json=asked).json()["items"]
    assert one["name"] == "Ada"


def test_outside_ids_mean_whom_they_meant_then_whoever_was_merged_since(client: Clients) -> None:
    def who(at: str, path: str) -> tuple[str, int]:
        one = then(client, path, at)
        return one["properties"]["n"], one["counts"]["events"]

    for n, (name, email) in enumerate(
        [("a", "A@x.example"), ("b", "b@x.example"), ("c", "c@x.be")]
    ):
        traits = {"n": f"{n}", "email": email}
        client.send(
            {"type": "identify", "userId": name, "traits": traits},
            *[{"type": "track", "userId": name, "event": "login"}] * (n + 1),
        )
    apart = now(client)
    client.send({"type": "alias", "userId": "b", "previousId": "a"})
    two = now(client)
    client.send({"type": "alias", "userId": "c", "previousId": "b"})
    one = now(client)
    emails = ["/api/users/email:a@x.example", "/api/users/email:B@x.example"]
    assert [who(apart, path) for path in (user("a"), user("b"), user("c"), *emails)] == [
        ("0", 1),
        ("1", 2),
        ("2", 3),
        ("0", 1),
        ("1", 2),
    ]
    assert [who(two, path) for path in (user("a"), user("b"), user("c"), *emails)] == [
        ("1", 3),
        ("1", 3),
        ("2", 3),
        ("1", 3),
        ("1", 3),
    ]
    assert {who(one, path) for path in (user("a"), user("b"), user("c"), *emails)} == {("2", 6)}
    # By our own id, too, and on every tab.
    ours = then(client, user("a"), apart)["id"]
    assert who(apart, f"/api/users/{ours}") == ("0", 1)
    assert who(two, f"/api/users/{ours}") == ("1", 3)
    [login] = then(client, user("a", "/events"), apart)["items"]
    assert login["count"] == 1
    assert len(then(client, user("b", "/timeline"), apart, type="event")["items"]) == 2


def test_an_outside_id_that_nobody_had_then_is_nobody_s(client: Clients) -> None:
    client.send({"type": "identify", "userId": "a"})
    before = now(client)
    client.send(
        {"type": "identify", "userId": "b"},
        {"type": "alias", "userId": "b", "previousId": "a"},
    )
    now(client)
    assert then(client, user("a"), before)["external_id"] == "a"
    problem(client("read").get(user("b"), params={"as_of": before}), 404)


def test_a_read_key_ends_no_past_that_another_key_asked_for(client: Clients) -> None:
    client.send(ADA)
    at = now(client)
    begun = client("admin").post("/api/pasts", json={"at": at})
    path = f"/api/pasts/{begun.json()['id']}"
    for scope in ("read", "audit", "comply"):
        problem(client(scope).delete(path), 403, "not-yours")
    then(client, "/api/users", at)
    assert client("read").delete(path).status_code == 204
    assert client("read").get(path).json()["state"] == "ready"
    problem(client("read").delete(path), 403, "not-yours")
    assert client("admin").delete(path).status_code == 204
    problem(client("admin").delete(path), 404)
    then(client, "/api/users", at)
    [mine] = client("read").get("/api/pasts").json()["items"]
    assert client("read").delete(f"/api/pasts/{mine['id']}").status_code == 204
    assert client("read").get("/api/pasts").json()["items"] == []
