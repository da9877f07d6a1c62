"""Segments over HTTP: defined, read, changed, deleted, previewed; and what is refused, where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.pages import blocks
from tests.serving import Clients, problem, user

PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}


def identify(id: str, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "traits": traits}


def define(client: Clients, name: str, kind: str = "user", **how: Any) -> str:
    """Defines a segment; returns its path."""
    body = {"kind": kind, "name": name, **how}
    client.see("/api/users", limit=1)  # what was sent is known by name then
    answer = client.taken(client("admin").post("/api/segments", json=body))
    return f"/api/segments/{answer['id']}"


def inside(path: str) -> dict[str, str]:
    return {"type": "segment", "segment": path.rpartition("/")[2]}


def eventually(look: Callable[[], Any], wanted: Any) -> None:
    """Membership follows a write by itself, after a while."""
    deadline = time.monotonic() + 60
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"{seen} is not {wanted}"
        time.sleep(0.05)


def names(client: Clients, path: str) -> list[str]:
    return sorted(one["external_id"] for one in client.pages(f"{path}/members", limit=2))


def test_a_segment_shows_who_is_in_it_and_follows_what_happens(client: Clients) -> None:
    client.send(identify("ada", plan="pro"), identify("bob", plan="free"), identify("cy"))
    client.see("/api/users")
    path = define(client, "Pros", condition=PRO)
    eventually(lambda: names(client, path), ["ada"])
    client.send(
        identify("ada", plan="free"), identify("bob", plan="pro"), identify("cy", plan="pro")
    )
    eventually(lambda: names(client, path), ["bob", "cy"])
    eventually(lambda: client.see(path)["state"], "ready")
    seen = client.see(path)
    assert (seen["name"], seen["kind"], seen["condition"]) == ("Pros", "user", PRO)
    assert (seen["members"], seen["version"], seen["progress"]) == (2, 1, 1.0)
    assert client.see("/api/segments", kind="user")["items"] == [seen]
    assert client.see("/api/segments", kind="account")["items"] == []


def test_entering_and_leaving_stand_in_the_timeline_with_time_and_cause(client: Clients) -> None:
    client.send(identify("ada", plan="free"))
    client.see("/api/users")
    path = define(client, "Pros", condition=PRO)
    eventually(lambda: client.see(path)["state"], "ready")
    client.send(identify("ada", plan="pro"))
    eventually(lambda: names(client, path), ["ada"])
    client.send(identify("ada", plan="free"))
    eventually(lambda: names(client, path), [])
    timeline = client.see(user("ada", "/timeline"))["items"]
    moves = [one for one in timeline if one["type"].startswith("segment_")]
    assert [one["type"] for one in moves] == ["segment_left", "segment_entered"]
    for one, ordinal in zip(moves, (2, 1), strict=True):
        details = one["details"]
        assert (details["definition"], details["ordinal"]) == (path.rpartition("/")[2], ordinal)
        cause = f"{details['cause']['partition']}:{details['cause']['position']}"
        [event] = [one for one in timeline if one["position"] == cause]
        assert event["type"] == "properties_changed"


def test_a_changed_condition_is_decided_anew_for_all(client: Clients) -> None:
    client.send(identify("ada", plan="pro"), identify("bob", plan="free"))
    client.see("/api/users")
    path = define(client, "Some", condition=PRO)
    eventually(lambda: names(client, path), ["ada"])
    other = {"kind": "user", "name": "Others", "condition": {"type": "not", "of": PRO}}
    client.taken(client("admin").put(path, json=other))
    eventually(lambda: names(client, path), ["bob"])
    seen = client.see(path)
    assert (seen["name"], seen["version"]) == ("Others", 2)
    history = client.see(f"{path}/history")["items"]
    assert [(one["what"], one["name"]) for one in history] == [
        ("changed", "Others"),
        ("defined", "Some"),
    ]
    by = client.annals.api_keys.find(client.keys["admin"])
    assert by is not None
    assert {one["by"] for one in history} == {str(by[0])}


def test_whoever_is_in_a_deleted_segment_leaves_it(client: Clients) -> None:
    client.send(identify("ada", plan="pro"))
    client.see("/api/users")
    path = define(client, "Pros", condition=PRO)
    eventually(lambda: names(client, path), ["ada"])
    client.taken(client("admin").delete(path))
    problem(client.get(path), 404, "not-found")
    problem(client.get(f"{path}/members"), 404, "not-found")
    problem(client("admin").delete(path), 404, "not-found")
    eventually(
        lambda: client.see(user("ada", "/timeline"))["items"][0]["type"],
        "segment_left",
    )
    assert define(client, "Pros", condition=PRO) != path


def test_a_static_segment_holds_who_is_listed(client: Clients) -> None:
    client.send(identify("ada"), identify("bob", email="bob@x.be"), identify("cy"))
    cy = client.see(user("cy"))["id"]
    path = define(client, "Friends", members=["external:ada", "email:BOB@x.be", "external:ada"])
    eventually(lambda: names(client, path), ["ada", "bob"])
    change = {"add": [cy], "remove": ["external:ada", "external:bob"]}
    client.taken(client("admin").post(f"{path}/members", json=change))
    eventually(lambda: names(client, path), ["cy"])
    assert client.see(path)["condition"] is None
    client.erase("user", "external:cy")
    eventually(lambda: names(client, path), [])


def test_one_who_is_merged_stays_in_a_static_segment(client: Clients) -> None:
    client.send(identify("old"), identify("ada"))
    path = define(client, "Friends", members=["external:old"])
    eventually(lambda: names(client, path), ["old"])
    client.send({"type": "alias", "userId": "ada", "previousId": "old"})
    ada = client.see(user("ada"))["id"]
    eventually(lambda: [one["id"] for one in client.pages(f"{path}/members")], [ada])
    change = {"remove": ["external:ada"]}
    client.taken(client("admin").post(f"{path}/members", json=change))
    eventually(lambda: names(client, path), [])


def test_a_segment_inside_itself_is_refused_with_the_way(client: Clients) -> None:
    client.send(identify("ada", plan="pro"))
    client.see("/api/users")
    one = define(client, "One", condition=PRO)
    two = define(client, "Two", condition={"type": "all", "of": [PRO, inside(one)]})
    three = define(client, "Three", condition=inside(two))
    body = {"kind": "user", "name": "One", "condition": {"type": "not", "of": inside(three)}}
    refused = problem(client("admin").put(one, json=body), 400, "invalid-input")
    assert "“One” → “Three” → “Two” → “One”" in refused["detail"]
    assert refused["place"] == "/condition/of/segment"
    myself = {"kind": "user", "name": "One", "condition": inside(one)}
    assert "“One” → “One”" in problem(client("admin").put(one, json=myself), 400)["detail"]


def test_a_segment_that_is_used_inside_others_is_not_deleted(client: Clients) -> None:
    client.send(identify("ada", plan="pro"))
    client.see("/api/users")
    one = define(client, "One", condition=PRO)
    two = define(client, "Two", condition=inside(one))
    refused = problem(client("admin").delete(one), 409, "conflict")
    assert "“Two”" in refused["detail"]
    client.taken(client("admin").delete(two))
    client.taken(client("admin").delete(one))


def test_a_preview_counts_and_shows_some_without_saving(client: Clients) -> None:
    client.send(*(identify(f"u{n}", plan="pro") for n in range(5)), identify("free", plan="free"))
    client.see("/api/users")
    body = {"kind": "user", "condition": PRO, "sample": 2}
    seen = client("read").post("/api/segments/preview", json=body).json()
    assert seen["count"] == 5
    assert len({one["id"] for one in seen["sample"]}) == 2
    assert client.see("/api/segments")["items"] == []


def test_nesting_without_end_is_refused(client: Clients) -> None:
    for depth in (20, 900, 10_000, 100_000):
        condition = '{"type":"not","of":' * depth + '{"type":"all","of":[]}' + "}" * depth
        body = f'{{"kind":"user","condition":{condition}}}'
        headers = {"Content-Type": "application/json"}
        answer = client("read").post("/api/segments/preview", content=body, headers=headers)
        assert "nested" in problem(answer, 400, "invalid-input")["detail"]


@pytest.fixture(scope="module")
def taken(standing: Clients) -> Clients:
    """The one server, with a user and the segment `Taken`."""
    standing.send(identify("ada", plan="pro"))
    define(standing, "Taken", condition=PRO)
    return standing


NAMED = {"kind": "user", "name": "Pros"}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({**NAMED, "condition": {"type": "proprety"}}, "/condition/type"),
        ({**NAMED, "condition": {"type": "not", "of": {**PRO, "name": "x"}}}, "/condition/of/name"),
        ({**NAMED, "condition": {"type": "property", "name": "plan", "test": {"op": "isnt"}}},
         "/condition/test/op"),
        ({**NAMED, "condition": inside("/2f0e1d5e-61a4-4a6e-8a2e-0f6d5a3b7c10")},
         "/condition/segment"),
        ({**NAMED, "condition": PRO, "members": []}, "/members"),
        ({**NAMED, "members": ["external:ada", "external:nobody"]}, "/members/1"),
        ({**NAMED, "members": ["2f0e1d5e-61a4-4a6e-8a2e-0f6d5a3b7c10"]}, "/members/0"),
        ({**NAMED, "members": ["ada"]}, "/members/0"),
        ({**NAMED, "name": "", "condition": PRO}, "/name"),
        ({**NAMED, "name": " x", "condition": PRO}, "/name"),
        ({**NAMED, "name": "Taken", "condition": PRO}, "/name"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_segment_is_refused_where_it_is_wrong(
    taken: Clients, body: dict[str, Any], place: str
) -> None:
    assert problem(taken("admin").post("/api/segments", json=body), 400)["place"] == place
    assert [one["name"] for one in taken.see("/api/segments")["items"]] == ["Taken"]


def test_a_segment_keeps_its_kind_and_whether_a_condition_decides(client: Clients) -> None:
    client.send(identify("ada", plan="pro"))
    client.see("/api/users")
    path = define(client, "Pros", condition=PRO)
    static = define(client, "Friends", members=[])
    for body, place in (
        ({"kind": "account", "name": "Pros", "condition": {"type": "all", "of": []}}, "/kind"),
        ({"kind": "user", "name": "Pros"}, "/condition"),
        ({"kind": "user", "name": "Pros", "members": []}, "/members"),
    ):
        assert problem(client("admin").put(path, json=body), 400)["place"] == place
    body = {"kind": "user", "name": "Friends", "condition": PRO}
    assert problem(client("admin").put(static, json=body), 400)["place"] == "/condition"
    problem(client("admin").post(f"{path}/members", json={"add": ["external:ada"]}), 400)


def test_only_a_key_of_scope_admin_edits_segments(client: Clients) -> None:
    path = define(client, "All", condition={"type": "all", "of": []})
    body = {"kind": "user", "name": "Mine", "condition": {"type": "all", "of": []}}
    for scope in ("read", "write", "comply", "audit"):
        for answer in (
            client(scope).post("/api/segments", json=body),
            client(scope).put(path, json=body),
            client(scope).delete(path),
            client(scope).post(f"{path}/members", json={}),
        ):
            problem(answer, 403, "wrong-scope")
    problem(client("write").get(path), 403, "wrong-scope")
    assert client.see(path)["name"] == "All"


def test_a_segment_of_accounts_can_be_used_in_one_of_users(client: Clients) -> None:
    client.send(
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"plan": "pro"}},
        {"type": "group", "userId": "bob", "groupId": "other", "traits": {"plan": "free"}},
    )
    client.see("/api/users")
    pros = define(client, "Pros", "account", condition=PRO)
    of_pros = {"type": "accounts", "quantifier": {"op": "any"}, "where": inside(pros)}
    path = define(client, "Of pros", condition=of_pros)
    eventually(lambda: names(client, path), ["ada"])
    wrong = {"kind": "user", "name": "Wrong", "condition": inside(pros)}
    refused = problem(client("admin").post("/api/segments", json=wrong), 400)
    assert refused["place"] == "/condition/segment"


def test_the_segments_of_the_page_can_be_defined(client: Clients) -> None:
    client.send(
        identify("ada", plan="trial", email="bob@acme.example"),
        {"type": "track", "userId": "ada", "event": "login"},
    )
    client.send(identify("bob", email="other@acme.example"))
    client.see("/api/users")
    for block in blocks("docs/segments.md", "json"):
        answer = client.taken(client("admin").post("/api/segments", json=json.loads(block)))
        assert client.see(f"/api/segments/{answer['id']}")["name"] == json.loads(block)["name"]


def test_when_something_was_defined_stands_on_record(client: Clients) -> None:
    before = datetime.now(UTC)
    path = define(client, "All", condition={"type": "all", "of": []})
    seen = client.see(path)
    assert before <= datetime.fromisoformat(seen["created_at"]) <= datetime.now(UTC)
    assert seen["created_at"] == seen["changed_at"]


def test_the_history_of_a_segment_opens_after_somebody_whom_it_named_was_erased(
    client: Clients,
) -> None:
    client.send(identify("ada", email="ada@acme.example"))
    test = {"op": "is", "value": "ada@acme.example"}
    path = define(client, "Ada", condition={"type": "attribute", "name": "email", "test": test})
    client.erase("user", "external:ada")
    eventually(
        lambda: client.see(path)["condition"]["test"]["value"] == test["value"],
        False,
    )
    [step] = client.see(f"{path}/history")["items"]
    assert (step["what"], step["condition"]["test"]["value"] == test["value"]) == ("defined", False)
