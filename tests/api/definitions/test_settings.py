"""Settings over HTTP: what the workspace chooses, over what the server is set to."""

from __future__ import annotations

from typing import Any

from tests.serving import Clients, account, problem, user

NOTHING = {"properties": [], "events": []}
AS_SET = {
    "mrr_property": "mrr",
    "currency": None,
    "renewal_property": "renewal_date",
    "time_zone": "UTC",
    "users": NOTHING,
    "accounts": NOTHING,
    "backdated_stages": False,
    "links": [],
    "retention": None,
}


NOTHING_CHOSEN = AS_SET | dict.fromkeys(("mrr_property", "renewal_property", "time_zone"))


def choose(client: Clients, **settings: Any) -> dict[str, Any]:
    return client.taken(client("admin").put("/api/settings", json=settings))


def known(client: Clients) -> None:
    client.send(
        {"type": "identify", "userId": "ada", "traits": {"mrr": 5, "revenue": "7.50", "ok": True}},
        {"type": "identify", "userId": "bob", "traits": {"renews": "2026-05-01"}},
        {"type": "track", "userId": "ada", "event": "login"},
    )
    client.see("/api/users")


def test_without_a_choice_the_server_s_settings_hold(client: Clients) -> None:
    seen = client("read").get("/api/settings").json()
    assert {name: seen[name] for name in AS_SET} == AS_SET
    assert (seen["version"], seen["changed_at"], seen["chosen"]) == (0, None, NOTHING_CHOSEN)


def test_what_is_chosen_holds_until_it_is_not_chosen_any_more(client: Clients) -> None:
    known(client)
    chosen = {
        "mrr_property": "revenue",
        "currency": "EUR",
        "renewal_property": "renews",
        "time_zone": "Europe/Brussels",
        "users": {"properties": ["revenue"], "events": ["login"]},
    }
    first = choose(client, **chosen)
    seen = client("read").get("/api/settings").json()
    assert {name: seen[name] for name in AS_SET} == AS_SET | chosen
    assert (seen["version"], seen["chosen"]["currency"]) == (1, "EUR")
    assert choose(client, **chosen)["position"] == ""
    assert choose(client, **seen["chosen"])["position"] == ""
    again = choose(client)
    assert again["id"] == first["id"]
    seen = client("read").get("/api/settings").json()
    assert {name: seen[name] for name in AS_SET} == AS_SET
    assert seen["version"] == 2
    history = client.see(f"/api/definitions/{first['id']}/history")["items"]
    assert [one["version"] for one in history] == [2, 1]


def test_settings_that_cannot_be_are_refused_with_the_place(client: Clients) -> None:
    known(client)
    for settings, place, words in (
        ({"time_zone": "Mars/Olympus"}, "/time_zone", "Europe/Brussels"),
        ({"time_zone": "../etc/passwd"}, "/time_zone", "no time zone"),
        ({"currency": "EURO"}, "/currency", "ISO 4217"),
        ({"currency": "eur"}, "/currency", "capitals"),
        ({"mrr_property": "revenu"}, "/mrr_property", "did you mean revenue"),
        ({"mrr_property": "ok"}, "/mrr_property", "a boolean"),
        ({"renewal_property": "mrr"}, "/renewal_property", "a number"),
        ({"users": {"properties": ["mrr", "mrr"]}}, "/users/properties/1", "twice"),
        ({"users": {"events": ["log in"]}}, "/users/events/0", "did you mean login"),
        ({"accounts": {"properties": ["mrr"]}}, "/accounts/properties/0", "unknown property"),
        ({"users": {"columns": []}}, "/users", "columns"),
        ({"mrr_property": 7}, "/mrr_property", "str"),
    ):
        answer = problem(client("admin").put("/api/settings", json=settings), 400)
        assert (answer.get("place"), words in answer["detail"]) == (place, True), answer
    problem(client("read").put("/api/settings", json={}), 403, "wrong-scope")
    assert client("read").get("/api/settings").json()["version"] == 0


def test_another_mrr_property_and_currency_hold_in_views_lists_and_bars(client: Clients) -> None:
    known(client)
    assert client.see(user("ada"))["mrr"]["amount"] == "5"
    choose(client, mrr_property="revenue", currency="USD", renewal_property="renews")
    bars = client.see("/api/users/bars")
    assert [one["mrr"] for one in bars["health"]] == [
        [],
        [{"currency": "USD", "amount": "7.5"}],
        [],
    ]
    [ada] = client.see("/api/users", search="ada")["items"]
    assert (ada["mrr"], ada["currency"]) == ("7.50", "USD")
    seen = client.see(user("ada"))["mrr"]
    assert (seen["amount"], seen["currency"], seen["source"]) == ("7.50", "USD", "own")
    assert client.see(user("bob"))["renewal_date"] == "2026-05-01"


def test_a_user_without_mrr_has_that_of_its_accounts_and_the_answer_says_so(
    client: Clients,
) -> None:
    client.send(
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"mrr": 10.05}},
        {"type": "group", "userId": "ada", "groupId": "initech", "traits": {"mrr": 2.5}},
        {"type": "group", "userId": "ada", "groupId": "none"},
        {"type": "group", "userId": "bob", "groupId": "acme"},
        {"type": "identify", "userId": "bob", "traits": {"mrr": 1, "currency": "eur"}},
        {"type": "identify", "userId": "cy"},
    )
    sums = [{"currency": None, "amount": "12.55"}]
    assert client.see(user("ada"))["mrr"] == {
        "amount": "12.55",
        "currency": None,
        "source": "accounts",
        "sums": sums,
    }
    assert client.see(user("bob"))["mrr"]["source"] == "own"
    assert client.see(user("cy"))["mrr"] is None
    assert client.see(account("acme"))["mrr"]["source"] == "own"
    client.send(
        {"type": "group", "groupId": "acme", "userId": "bob", "traits": {"currency": "EUR"}}
    )
    seen = client.see(user("ada"))["mrr"]
    assert (seen["amount"], seen["currency"]) == (None, None)
    assert seen["sums"] == [
        {"currency": "EUR", "amount": "10.05"},
        {"currency": None, "amount": "2.5"},
    ]
    choose(client, currency="EUR")
    seen = client.see(user("ada"))["mrr"]
    assert (seen["amount"], seen["currency"]) == ("12.55", "EUR")
    # Bars count what is a contact's own: an account's MRR once, with the account.
    of_users, of_accounts = (
        [one for health in client.see(f"/api/{kind}/bars")["health"] for one in health["mrr"]]
        for kind in ("users", "accounts")
    )
    assert of_users == [{"currency": "EUR", "amount": "1"}]
    assert of_accounts == [{"currency": "EUR", "amount": "12.55"}]
