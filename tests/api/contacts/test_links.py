"""Links over HTTP: chosen with the settings, filled in at the 360 view."""

from __future__ import annotations

from typing import Any

from tests.serving import Clients, account, problem, user

CRM = {
    "kind": "user",
    "name": "CRM",
    "url": "https://crm.example/contacts/{external_id}?mail={email}&plan={properties.plan}",
}
BILLING = {"kind": "account", "name": "Billing", "url": "https://bills.example/{id}"}


def known(client: Clients) -> None:
    traits = {"plan": "pro & more", "email": "ada@acme.example"}
    client.send(
        {"type": "identify", "userId": "a/da", "traits": traits},
        {"type": "identify", "userId": "bob", "traits": {"email": "bob@acme.example"}},
        {"type": "group", "userId": "bob", "groupId": "acme"},
    )
    client.see("/api/users")


def choose(client: Clients, *links: Any, **settings: Any) -> dict[str, Any]:
    answer = client("admin").put("/api/settings", json={"links": links, **settings})
    return client.taken(answer)


def test_the_360_view_has_the_links_of_its_kind_with_every_value_encoded(client: Clients) -> None:
    known(client)
    assert client.see(user("a/da"))["links"] == []
    choose(client, CRM, BILLING)
    assert client.see(user("a/da"))["links"] == [
        {
            "name": "CRM",
            "url": "https://crm.example/contacts/a%2Fda?mail=ada%40acme.example"
            "&plan=pro%20%26%20more",
        }
    ]
    acme = client.see(account("acme"))
    assert acme["links"] == [{"name": "Billing", "url": f"https://bills.example/{acme['id']}"}]
    assert client.see(user("bob"))["links"] == []


def test_links_are_settings_with_a_history(client: Clients) -> None:
    known(client)
    choose(client, CRM, currency="EUR")
    seen = client("read").get("/api/settings").json()
    assert (seen["links"], seen["chosen"]["links"], seen["version"]) == ([CRM], [CRM], 1)
    saved = choose(client, BILLING, currency="EUR")
    history = client.see(f"/api/definitions/{saved['id']}/history")["items"]
    assert [[link["name"] for link in one["definition"]["links"]] for one in history] == [
        ["Billing"],
        ["CRM"],
    ]


def test_a_link_that_cannot_be_is_refused_at_its_place(client: Clients) -> None:
    known(client)
    for wrong, place, words in (
        ({"url": "javascript:alert(1)"}, "/links/1/url", "https://"),
        ({"url": "https://crm.example/{mail}"}, "/links/1/url", "did you mean email"),
        ({"url": "https://crm.example/{properties.pla}"}, "/links/1/url", "did you mean plan"),
        ({"kind": "account", "url": BILLING["url"] + "{properties.plan}"}, "/links/1/url", "plan"),
        ({"name": ""}, "/links/1/name", "1 to 200"),
        ({"name": "CRM"}, "/links/1/name", "with this name"),
        ({"kind": "firm"}, "/links/1/kind", "firm"),
    ):
        links = [CRM, CRM | {"name": "Other"} | wrong]
        answer = problem(client("admin").put("/api/settings", json={"links": links}), 400)
        assert (answer.get("place"), words in answer["detail"]) == (place, True), answer
    assert client("read").get("/api/settings").json()["version"] == 0
    problem(client("read").put("/api/settings", json={"links": [CRM]}), 403, "wrong-scope")
