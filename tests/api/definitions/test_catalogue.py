"""Names of the catalogue: retired by an admin, refused by name when sent again, restored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from infra.bootstrap.annals import Annals
from infra.postgres.admission import BOUNDS, Demand
from tests.api.definitions.test_backtests import by_day, result_of
from tests.serving import Clients, problem, served, until, user

Json = dict[str, Any]


def change(client: Clients, verb: str, scope: str, *names: str) -> Json:
    """Retires or restores names."""
    asked = {"scope": scope, "names": list(names)}
    return client.taken(client("admin").post(f"/api/catalogue/{verb}", json=asked))


def refused(client: Clients, verb: str, scope: str, *names: str, status: int = 400) -> Json:
    asked = {"scope": scope, "names": list(names)}
    return problem(client("admin").post(f"/api/catalogue/{verb}", json=asked), status)


def names(client: Clients, what: str, **query: Any) -> list[str]:
    return sorted(one["name"] for one in client.see(f"/api/catalogue/{what}", **query)["items"])


def identify(**traits: Any) -> Json:
    return {"type": "identify", "userId": "ada", "traits": traits}


def track(event: str) -> Json:
    return {"type": "track", "userId": "ada", "event": event}


def is_property(name: str, **test: Any) -> Json:
    return {"type": "property", "name": name, "test": test}


def made(client: Clients, path: str, body: Json) -> str:
    answer = client("admin").post(path, json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def limited(annals: Annals, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(annals.handler._catalogue, "_limit", limit)
    monkeypatch.setattr(annals.names, "_limit", limit)


def test_a_retired_name_frees_its_place_and_cannot_be_asked_about(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(client.annals, monkeypatch, 2)
    client.send(identify(plan="pro", plan_17="x"))
    [full] = client.send(identify(seats=5))["results"][0]["refused"]
    assert full["name"] == "seats"

    change(client, "retire", "user.property", "plan_17")
    assert names(client, "properties") == ["plan"]
    [gone] = client.see("/api/catalogue/properties", retired=True)["items"]
    assert (gone["name"], gone["type"], gone["uses"]) == ("plan_17", "string", 1)
    assert gone["retired_at"] is not None
    assert gone["retired_by"] is not None

    assert "refused" not in client.send(identify(seats=5))["results"][0]
    assert names(client, "properties") == ["plan", "seats"]
    for query in ({"sort": "property:plan_17"}, {"columns": ["plan_17"]}):
        problem(client.get("/api/users", **query), 400)
    asked = {"kind": "user", "condition": is_property("plan_17", op="is", value="x")}
    problem(client("admin").post("/api/segments", json={**asked, "name": "S"}), 400)


def test_a_retired_property_is_refused_by_name_and_the_rest_of_the_write_is_kept(
    client: Clients,
) -> None:
    client.send(identify(plan="pro", typo=1))
    change(client, "retire", "user.property", "typo")
    [result] = client.send(identify(plan="free", typo=2))["results"]
    [value] = result["refused"]
    assert value["name"] == "typo"
    assert "retired" in value["reason"]
    seen = client.see(user("ada"))
    assert seen["properties"] == {"plan": "free", "typo": 1}
    timeline = client.see(user("ada", "/timeline"), type="property")["items"]
    assert {"plan", "typo"} <= {one["name"] for item in timeline for one in item["changes"]}

    assert "refused" not in client.send(identify(typo=None))["results"][0]
    assert client.see(user("ada"))["properties"] == {"plan": "free"}

    change(client, "restore", "user.property", "typo")
    assert "refused" not in client.send(identify(typo=3))["results"][0]
    assert client.see(user("ada"))["properties"]["typo"] == 3
    assert names(client, "properties", retired=True) == []


@pytest.mark.parametrize("kind", ["event", "screen"])
def test_what_is_tracked_under_a_retired_name_is_refused_until_it_is_restored(
    client: Clients, kind: str
) -> None:
    sent = (
        track("clicked 17")
        if kind == "event"
        else {"type": "screen", "userId": "ada", "name": "clicked 17"}
    )
    client.send(sent)
    change(client, "retire", kind, "clicked 17")
    [result] = client.send(sent)["results"]
    assert result["status"] == "refused"
    assert "retired" in result["detail"]
    assert names(client, "events", retired=True) == ["clicked 17"]
    assert client.see(user("ada", f"/{kind}s"))["items"][0]["count"] == 1
    change(client, "restore", kind, "clicked 17")
    assert client.send(sent)["results"][0]["status"] == "stored"


def test_what_a_definition_or_a_saved_view_uses_is_not_retired_and_the_refusal_names_it(
    client: Clients,
) -> None:
    client.send(
        identify(plan="pro", seats=5, tier="a", since="2026-01-01"),
        track("paid"),
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"size": 3, "mrr": 5}},
    )
    client.see("/api/users")
    pro = is_property("plan", op="is", value="pro")
    paid = {"type": "activity", "activity": "event", "name": "paid"}
    large = is_property("size", op="greater", value=1)
    segment = {"kind": "user", "name": "Pros", "condition": {"type": "any", "of": [pro, paid]}}
    made(client, "/api/segments", segment)
    of_accounts = {"type": "accounts", "quantifier": {"op": "any"}, "where": large}
    score = {
        "type": "score",
        "kind": "user",
        "name": "Fit",
        "rules": [{"name": "Large", "weight": 1, "condition": of_accounts}],
    }
    draft = made(client, "/api/definitions", score)
    view = {"kind": "user", "name": "Mine", "columns": ["tier"], "sort": "-property:seats"}
    made(client, "/api/saved-views", view)
    preferred = {"properties": ["since"], "events": []}
    client.taken(client("admin").put("/api/settings", json={"users": preferred}))

    for scope, name, user_of in (
        ("user.property", "plan", "“Pros”"),
        ("event", "paid", "“Pros”"),
        ("account.property", "size", "“Fit”"),
        ("user.property", "tier", "the saved view “Mine”"),
        ("user.property", "seats", "the saved view “Mine”"),
        ("user.property", "since", "the settings"),
        ("account.property", "mrr", "the settings"),
    ):
        told = refused(client, "retire", scope, name, status=409)
        assert f"“{name}” is used inside {user_of}" in told["detail"]
        assert told["place"] == "/names/0"

    assert client("admin").delete(f"/api/definitions/{draft}").status_code == 200
    change(client, "retire", "account.property", "size")


def test_nothing_is_retired_of_names_that_there_are_not(client: Clients) -> None:
    client.send(identify(plan="pro"))
    told = refused(client, "retire", "user.property", "plan", "plann")
    assert (told["place"], "did you mean plan" in told["detail"]) == ("/names/1", True)
    refused(client, "retire", "user.property", "plan", "plan")
    refused(client, "retire", "user.property")
    refused(client, "retire", "page", "plan")
    assert names(client, "properties") == ["plan"]
    assert change(client, "restore", "user.property", "plan")["position"] == ""
    change(client, "retire", "user.property", "plan")
    assert change(client, "retire", "user.property", "plan")["position"] == ""


def test_names_are_not_restored_beyond_the_limit(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(client.annals, monkeypatch, 2)
    client.send(identify(one=1, two=2))
    change(client, "retire", "user.property", "one", "two")
    client.send(identify(three=3))
    refused(client, "restore", "user.property", "one", "two", status=409)
    change(client, "restore", "user.property", "two")
    assert names(client, "properties") == ["three", "two"]


def test_another_process_refuses_a_retired_name_within_a_second(
    client: Clients, open_annals: Callable[[], Annals]
) -> None:
    other = open_annals()
    with served(other) as theirs:
        theirs.send(identify(plan="pro", typo=1))
        change(client, "retire", "user.property", "typo")

        def reasons() -> Sequence[Json]:
            return theirs.send(identify(plan="free", typo=2))["results"][0].get("refused", ())

        until(lambda: [one["name"] for one in reasons()] == ["typo"])
        change(client, "restore", "user.property", "typo")
        until(lambda: not reasons())


def test_a_past_shows_the_names_that_were_in_use_then(client: Clients) -> None:
    client.send(identify(plan="pro", typo=1))
    client.see("/api/users")
    then = client.annals.now().isoformat()
    change(client, "retire", "user.property", "typo")
    assert names(client, "properties") == ["plan"]

    def seen(**query: Any) -> list[str] | None:
        path = "/api/catalogue/properties"
        answer = client("read").get(path, params={"as_of": then, **query})
        found = [one["name"] for one in answer.json()["items"]] if answer.is_success else None
        return None if found is None else sorted(found)

    until(lambda: seen() is not None)
    assert seen() == ["plan", "typo"]
    assert seen(retired=True) == []


def retype(client: Clients, scope: str, name: str, type: str, **more: Any) -> Json:
    asked = {"scope": scope, "name": name, "type": type, **more}
    return client.taken(client("admin").post("/api/catalogue/type", json=asked))


def values(client: Clients, *ids: str, name: str) -> list[Any]:
    return [client.see(user(id))["properties"].get(name) for id in ids]


def test_a_property_gets_another_type_values_that_fit_are_converted_and_the_rest_is_told(
    client: Clients,
) -> None:
    sent = {"ada": "5", "bob": "about 7", "cyd": "2.50"}
    client.send(
        *({"type": "identify", "userId": id, "traits": {"seats": n}} for id, n in sent.items())
    )
    bob = client.see(user("bob"))["id"]
    told = {"fit": 2, "unfit": 1, "examples": [bob]}
    previewed = retype(client, "user.property", "seats", "number", preview=True)
    assert previewed == {"position": "", **told}
    assert values(client, *sent, name="seats") == list(sent.values())

    changed = retype(client, "user.property", "seats", "number")
    assert {**changed, "position": ""} == previewed
    assert values(client, *sent, name="seats") == [5, None, 2.5]
    [item] = client.see("/api/catalogue/properties")["items"]
    assert item["type"] == "number"
    more = {"type": "property", "name": "seats", "test": {"op": "greater", "value": 3}}
    found = client("read").post("/api/users", json={"filter": more}).json()["items"]
    assert [one["external_id"] for one in found] == ["ada"]

    results = client.send(
        {"type": "identify", "userId": "bob", "traits": {"seats": 7}},
        {"type": "identify", "userId": "ada", "traits": {"seats": "6"}},
    )["results"]
    assert [[one["name"] for one in result.get("refused", ())] for result in results] == [
        [],
        ["seats"],
    ]
    assert values(client, *sent, name="seats") == [5, 7, 2.5]

    retype(client, "user.property", "seats", "string")
    assert values(client, *sent, name="seats") == ["5", "7", "2.50"]
    assert retype(client, "user.property", "seats", "string")["position"] == ""


def test_a_key_has_values_counted_for_so_many_changes_of_type_at_once(client: Clients) -> None:
    client.send(identify(seats="5"))
    places, found = client.annals.admission, client.annals.api_keys.find(client.keys["admin"])
    assert found is not None
    key, _ = found
    for _ in range(BOUNDS[Demand.PREVIEW].by_key):
        asyncio.run(places.take(Demand.PREVIEW, key))
    asked = {"scope": "user.property", "name": "seats", "type": "number", "preview": True}
    problem(client("admin").post("/api/catalogue/type", json=asked), 429, "too-many")
    places.give_back(Demand.PREVIEW, key)
    assert client("admin").post("/api/catalogue/type", json=asked).json()["fit"] == 1


def test_the_mrr_of_all_follows_the_type_of_its_property(client: Clients) -> None:
    sent = {"a": ["5"], "b": ["x"], "c": ["7.50"]}
    client.send(*({"type": "group", "groupId": id, "traits": {"mrr": n}} for id, n in sent.items()))

    def mrr() -> list[Any]:
        rows = client.see("/api/accounts", sort="external_id")["items"]
        return [one["mrr"] for one in rows]

    assert mrr() == [None, None, None]
    retype(client, "account.property", "mrr", "number")
    assert mrr() == ["5", None, "7.5"]
    sums = client.see("/api/accounts/bars")
    assert "12.5" in str(sums)


def test_the_type_of_what_a_definition_tests_is_not_changed_and_the_refusal_names_it(
    client: Clients,
) -> None:
    client.send(identify(plan="5", seats=5, renewal_date="2026-05-01"))
    client.see("/api/users")
    several = is_property("seats", op="greater", value=1)
    known = is_property("plan", op="is_set")
    segment = {"kind": "user", "name": "Several", "condition": {"type": "all", "of": [several]}}
    made(client, "/api/segments", segment)
    made(client, "/api/segments", {"kind": "user", "name": "Known", "condition": known})

    def refusal(name: str, type: str, scope: str = "user.property", status: int = 409) -> Json:
        asked = {"scope": scope, "name": name, "type": type}
        return problem(client("admin").post("/api/catalogue/type", json=asked), status)

    assert "“Several”" in refusal("seats", "string")["detail"]
    assert "the settings" in refusal("renewal_date", "number")["detail"]
    assert refusal("seets", "string", status=400)["place"] == "/name"
    assert refusal("role", "string", "membership.property", status=400)["place"] == "/scope"
    retype(client, "user.property", "plan", "number")
    found = made(client, "/api/segments", {**segment, "name": "Many"})
    assert found
    as_text = {"kind": "user", "name": "S", "condition": is_property("plan", op="is", value="5")}
    problem(client("admin").post("/api/segments", json=as_text), 400)


def test_who_has_no_fitting_value_any_more_leaves_what_asked_for_one(client: Clients) -> None:
    client.send(identify(plan="pro"))
    client.see("/api/users")
    known = {"kind": "user", "name": "Known", "condition": is_property("plan", op="is_set")}
    segment = client.taken(client("admin").post("/api/segments", json=known))["id"]

    def members() -> int:
        return len(client.see(f"/api/segments/{segment}/members")["items"])

    until(lambda: members() == 1)
    retype(client, "user.property", "plan", "number")
    until(lambda: members() == 0)
    retype(client, "user.property", "plan", "string")
    until(lambda: members() == 1)


def test_a_back_test_reads_values_of_before_as_ones_of_the_new_type(client: Clients) -> None:
    client.send(identify(seats="5"))
    retype(client, "user.property", "seats", "number")
    client.see(user("ada"))
    more = is_property("seats", op="greater", value=3)
    draft = {"type": "segment", "kind": "user", "name": "Large", "condition": more}
    body = result_of(client, draft)
    assert by_day(body)[-1] == {"in": 1}
