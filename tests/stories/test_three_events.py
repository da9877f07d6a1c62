"""The three examples of the page that Annals began with, sent over HTTP and seen where a person
looks: `login(account, user)`, `changed_last_name(-, user)`, `terminated(account, -)`."""

from __future__ import annotations

import time
from typing import Any

from tests.serving import Clients, account, user

JOINED = "2026-03-02T08:00:00Z"
MOMENT = "2026-03-04T05:06:07Z"


def who_there_is(client: Clients) -> None:
    """Ada, a member of Acme; and Bob, who is too and does nothing."""
    client.send(
        {"type": "identify", "userId": "ada", "timestamp": JOINED,
         "traits": {"first_name": "Ada", "last_name": "Byron"}},
        {"type": "group", "userId": "ada", "groupId": "acme", "timestamp": JOINED,
         "traits": {"name": "Acme", "plan": "pro"}},
        {"type": "group", "userId": "bob", "groupId": "acme", "timestamp": JOINED},
    )  # fmt: skip


def event(name: str, **about: Any) -> dict[str, Any]:
    return {"type": "track", "event": name, "timestamp": MOMENT, **about}


def happened(client: Clients, path: str) -> list[dict[str, Any]]:
    """What the timeline has of events, and who its parties are."""
    return [
        {"at": one["at"], "name": one["name"]}
        | {
            party: None if one[party] is None else one[party]["external_id"]
            for party in ("user", "account")
        }
        for one in client.pages(f"{path}/timeline", limit=2)
        if one["type"] == "event"
    ]


def counted(client: Clients, path: str) -> list[dict[str, Any]]:
    """The Events tab; what the view says above it is the same."""
    items = client.pages(f"{path}/events")
    assert client.see(path)["counts"]["events"] == sum(one["count"] for one in items)
    return items


def last_seen(client: Clients, path: str) -> Any:
    return client.see(path)["last_seen"]


def properties(client: Clients, *paths: str) -> list[Any]:
    return [client.see(path)["properties"] for path in paths]


ONCE = {"count": 1, "first_at": MOMENT, "last_at": MOMENT}


def test_login_account_user(client: Clients) -> None:
    """`login(account, user)`: a user logs into an account, and it concerns both."""
    who_there_is(client)
    before = properties(client, user("ada"), account("acme"))
    client.send(event("login", userId="ada", context={"groupId": "acme"}))
    for path in (user("ada"), account("acme")):
        assert happened(client, path) == [
            {"at": MOMENT, "name": "login", "user": "ada", "account": "acme"}
        ]
        assert counted(client, path) == [{"name": "login", **ONCE}]
        assert last_seen(client, path) == MOMENT
    assert counted(client, user("bob")) == happened(client, user("bob")) == []
    assert last_seen(client, user("bob")) is None
    assert properties(client, user("ada"), account("acme")) == before


def test_changed_last_name_user(client: Clients) -> None:
    """`changed_last_name(-, user)`: it concerns the user, and no account that she is part of."""
    who_there_is(client)
    before = properties(client, user("ada"), account("acme"))
    client.send(event("changed_last_name", userId="ada", properties={"last_name": "Lovelace"}))
    assert happened(client, user("ada")) == [
        {"at": MOMENT, "name": "changed_last_name", "user": "ada", "account": None}
    ]
    assert counted(client, user("ada")) == [{"name": "changed_last_name", **ONCE}]
    assert last_seen(client, user("ada")) == MOMENT
    assert counted(client, account("acme")) == []
    assert last_seen(client, account("acme")) is None
    # What an event tells is no property: the name is hers once somebody says that it is.
    assert properties(client, user("ada"), account("acme")) == before
    assert client.see(user("ada"))["name"] == "Ada Byron"
    client.send({"type": "identify", "userId": "ada", "traits": {"last_name": "Lovelace"}})
    assert client.see(user("ada"))["name"] == "Ada Lovelace"


def test_terminated_account(client: Clients) -> None:
    """`terminated(account, -)`: the system ends an account, and it concerns no user of it."""
    who_there_is(client)
    before = properties(client, user("ada"), account("acme"))
    client.send(event("terminated", anonymousId="acme", context={"groupId": "acme"}))
    assert happened(client, account("acme")) == [
        {"at": MOMENT, "name": "terminated", "user": None, "account": "acme"}
    ]
    assert counted(client, account("acme")) == [{"name": "terminated", **ONCE}]
    assert last_seen(client, account("acme")) == MOMENT
    for name in ("ada", "bob"):
        assert counted(client, user(name)) == happened(client, user(name)) == []
        assert last_seen(client, user(name)) is None
    assert properties(client, user("ada"), account("acme")) == before
    assert client.see("/api/users")["total"] == 2


LIFE = {
    "type": "stages",
    "kind": "account",
    "name": "Life of an account",
    "stages": [
        {"name": "churned", "type": "churned",
         "condition": {"type": "activity", "activity": "event", "name": "terminated"}},
        {"name": "paying", "type": "paying",
         "condition": {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}},
    ],
}  # fmt: skip


def reached(client: Clients, stage: str) -> None:
    """Waits until the decision about Acme is seen."""
    deadline = time.monotonic() + 60
    while client.see(account("acme"))["stage"] != stage:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_terminated_account_is_churned_and_says_why(client: Clients) -> None:
    """`terminated(account, -)`: an account that pays is churned by it, and the stage tells by
    which event, which rule and what the rule saw."""
    who_there_is(client)
    client.send(event("terminated", anonymousId="gone", context={"groupId": "gone"}))
    client.see(account("gone"))  # names can be asked for once they are known
    made = client.taken(client("admin").post("/api/definitions", json=LIFE))
    client.taken(client("admin").post(f"/api/definitions/{made['id']}/activate"))
    reached(client, "paying")

    sent = client.send(event("terminated", anonymousId="acme", context={"groupId": "acme"}))
    reached(client, "churned")

    lines = client.pages(f"{account('acme')}/timeline", order="oldest")
    [terminated] = [one for one in lines if one["name"] == "terminated"]
    assert terminated["position"] == sent["position"]
    [left, entered] = [one for one in lines if one["type"].startswith("stage_")][-2:]
    assert (left["type"], left["name"]) == ("stage_left", "paying")
    assert (entered["type"], entered["name"]) == ("stage_entered", "churned")
    for one in (left, entered):
        why = one["details"]
        assert (why["definition"], why["version"]) == (made["id"], 2)
        cause = why["cause"]
        assert (cause["type"], f"{cause['partition']}:{cause['position']}") == (
            "event", terminated["position"]
        )  # fmt: skip
        assert why["saw"]["/stages/0/condition"] == {"value": 1, "held": True}
    assert [one["stage"] for one in client.pages("/api/accounts")] == ["churned"] * 2
    for name in ("ada", "bob"):
        assert client.see(user(name))["stage"] is None
