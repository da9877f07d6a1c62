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
