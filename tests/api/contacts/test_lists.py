"""Lists and bars over HTTP: one question by query or by body, and every mistake at its place."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest

from tests.api.contacts.test_contacts import group, identify
from tests.serving import Clients, problem

PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}


def people(client: Clients) -> None:
    client.send(
        *(identify(f"u{n}", n, plan=("pro", "free")[n % 2], size=n, mrr=n) for n in range(9)),
        group("acme", "u1", traits={"mrr": 12.5, "currency": "EUR"}),
    )


def segment(client: Clients, condition: Any) -> str:
    """A segment whose members are all there."""
    client.see("/api/users")
    sent = {"kind": "user", "name": "A segment", "condition": condition}
    made = client("admin").post("/api/segments", json=sent)
    assert made.status_code == 200, made.text
    path = f"/api/segments/{made.json()['id']}"
    deadline = time.monotonic() + 60
    while client("read").get(path).json().get("state") != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    return str(made.json()["id"])


def names(page: Any) -> list[str]:
    return [item["external_id"] for item in page["items"]]


def test_a_list_by_body_is_the_list_by_query(client: Clients) -> None:
    people(client)
    asked = {
        "sort": "-property:size",
        "search": "u",
        "columns": ["size"],
        "limit": 2,
        "total": True,
    }
    by_query = client.see("/api/users", filter=json.dumps(PRO), **asked)
    by_body = client("read").post("/api/users", json=asked | {"filter": PRO}).json()
    assert by_query == by_body
    assert (names(by_body), by_body["total"]) == (["u8", "u6"], 5)
    assert [one["properties"] for one in by_body["items"]] == [{"size": 8}, {"size": 6}]
    more = asked | {"filter": PRO, "cursor": by_body["next"], "total": False}
    following = client("read").post("/api/users", json=more).json()
    assert (names(following), following["total"]) == (["u4", "u2"], None)


def test_bars_agree_with_the_lists_behind_them(client: Clients) -> None:
    people(client)
    in_segment = segment(client, PRO)
    for asked in (
        {},
        {"search": "u3"},
        {"filter": PRO},
        {"segment": in_segment},
        {"segment": in_segment, "filter": {"type": "not", "of": PRO}},
    ):
        page = client("read").post("/api/users", json=asked | {"limit": 500}).json()
        bars = client("read").post("/api/users/bars", json=asked).json()
        query = {key: json.dumps(v) if key == "filter" else v for key, v in asked.items()}
        assert client.see("/api/users/bars", **query) == bars
        assert bars["total"] == page["total"] == len(page["items"])
        assert sum(one["count"] for one in bars["stages"]) == bars["total"]
        assert sum(one["count"] for one in bars["health"]) == bars["total"]
        sums = [float(sum["amount"]) for one in bars["health"] for sum in one["mrr"]]
        assert sum(sums) == sum(float(item["mrr"]) for item in page["items"])
    [_, normal, _] = client.see("/api/accounts/bars")["health"]
    assert normal == {
        "health": "normal",
        "count": 1,
        "mrr": [{"currency": "EUR", "amount": "12.5"}],
    }


def test_a_segment_lists_its_members_and_only_in_its_own_kind(client: Clients) -> None:
    people(client)
    id = segment(client, PRO)
    page = client.see("/api/users", segment=id, sort="external_id")
    assert names(page) == ["u0", "u2", "u4", "u6", "u8"]
    assert problem(client.get("/api/accounts", segment=id), 400)["place"] == "/segment"
    [one] = client("read").get("/api/users/filters").json()["segments"]
    assert one == {"id": id, "name": "A segment", "count": 5}


def test_quick_filters_are_offered_soon_after_a_write(client: Clients) -> None:
    people(client)
    client.see("/api/users")
    deadline = time.monotonic() + 60
    while True:
        found = client("read").get("/api/users/filters").json()
        plans = [one["values"] for one in found["properties"] if one["name"] == "plan"]
        if plans not in ([], [[]]) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert plans == [[{"value": "pro", "count": 5}, {"value": "free", "count": 4}]]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"segment": str(uuid.uuid4())}, "/segment"),
    ({"segment": "x"}, "/segment"),
    ({"filter": PRO | {"name": "plam"}}, "/filter/name"),
    ({"filter": PRO | {"type": "propertee"}}, "/filter/type"),
    ({"filter": PRO | {"test": {"op": "greater", "value": 5}}}, "/filter/test/op"),
    ({"filter": PRO | {"test": {"op": "is", "value": 5}}}, "/filter/test/value"),
    ({"filter": {"type": "all", "of": [PRO, {"type": "stage"}]}}, "/filter/of/1"),
    ({"filter": {"type": "accounts", "quantifier": {"op": "most"}}}, "/filter/quantifier/op"),
    ({"filter": []}, "/filter"),
    ({"filter": "pro"}, "/filter"),
    ({"sort": "property:plam"}, "/sort"),
    ({"sort": "plan"}, "/sort"),
    ({"columns": ["plan", "plam"]}, "/columns/1"),
    ({"search": "a" * 201}, "/search"),
    ({"cursor": "x"}, "/cursor"),
    ({"limit": 0}, "/limit"),
    ({"wait_for": "x"}, "/wait_for"),
]


@pytest.mark.parametrize(("asked", "place"), MISTAKES, ids=[place for _, place in MISTAKES])
def test_every_mistake_is_refused_at_its_place(
    standing: Clients, asked: dict[str, Any], place: str
) -> None:
    people(standing)
    standing.see("/api/users")
    read = standing("read")
    assert problem(read.post("/api/users", json=asked), 400)["place"] == place
    query = {key: json.dumps(v) if key == "filter" else v for key, v in asked.items()}
    assert problem(read.get("/api/users", params=query), 400)["place"] == place
    if asked.keys() & {"segment", "filter", "search", "wait_for"}:
        assert problem(read.post("/api/users/bars", json=asked), 400)["place"] == place
        assert problem(read.get("/api/users/bars", params=query), 400)["place"] == place


@pytest.mark.parametrize("depth", [13, 1_000, 10_000, 100_000])
def test_a_filter_nested_too_deeply_is_refused_and_harms_nobody(
    standing: Clients, depth: int
) -> None:
    deep = '{"type":"not","of":' * depth + '{"type":"all","of":[]}' + "}" * depth
    headers = {"Content-Type": "application/json"}
    for path in ("/api/users", "/api/accounts/bars", "/api/users/export"):
        body = f'{{"filter":{deep}}}'
        answer = standing("read").post(path, content=body, headers=headers)
        assert "nested" in problem(answer, 400)["detail"]
    if depth < 10_000:
        answer = standing("read").get("/api/users", params={"filter": deep})
        if depth < 1_000:
            assert problem(answer, 400)["place"].startswith("/filter")
        else:
            problem(answer, 414)
    assert standing("read").get("/api/users").status_code == 200


@pytest.mark.parametrize("body", ["", "x", "[]", '{"filtre": null}', '{"limit": "x"}', "\xff"])
def test_what_is_no_question_is_refused(standing: Clients, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/api/users", "/api/users/bars", "/api/accounts/export"):
        if path != "/api/users" and body == "":
            continue
        answer = standing("read").post(path, content=body.encode("latin-1"), headers=headers)
        problem(answer, 400)


def test_asking_needs_a_key_that_reads(client: Clients) -> None:
    for path in ("/api/users", "/api/users/bars", "/api/users/filters"):
        problem(client(None).get(path), 401)
        problem(client("write").get(path), 403)
    for path in ("/api/users", "/api/accounts/bars"):
        problem(client(None).post(path, json={}), 401)
        problem(client("write").post(path, json={}), 403)
