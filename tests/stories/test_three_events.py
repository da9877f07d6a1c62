"""The three examples of the page that Annals began with, sent over HTTP and seen where a person
looks: `login(account, user)`, `changed_last_name(-, user)`, `terminated(account, -)`."""

from __future__ import annotations

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
