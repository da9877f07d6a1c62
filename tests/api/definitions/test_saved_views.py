"""Saved views: kept for all who read, changed by who administers, refused where a list would be."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from domain.definitions import saved_views
from infra.write import saved_views as store
from tests.serving import Clients, problem

PATH = "/api/saved-views"
FILTER = {"type": "property", "name": "plan", "test": {"op": "is", "value": "secret plan"}}
VIEW = {
    "kind": "user",
    "name": "Pros",
    "sort": "-property:plan",
    "columns": ["plan"],
    "filter": FILTER,
}


def with_property(client: Clients) -> Clients:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "secret plan"}})
    client.see("/api/users")
    return client


@pytest.fixture
def client(client: Clients) -> Clients:
    return with_property(client)


@pytest.fixture(scope="module")
def shared(standing: Clients) -> Clients:
    """The one server, for tests that pass over the views of others."""
    return with_property(standing)


def saved(client: Clients, **changes: Any) -> Any:
    answer = client("admin").post(PATH, json=VIEW | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_view_is_kept_with_who_made_it_and_lists_what_it_says(shared: Clients) -> None:
    made = saved(shared)
    assert shared("read").get(f"{PATH}/{made['id']}").json() == made
    view = made["view"]
    assert view == VIEW | {"segment": None}
    assert made["made_by"] == made["changed_by"]
    asked = {"sort": view["sort"], "columns": view["columns"], "filter": view["filter"]}
    [item] = shared("read").post("/api/users", json=asked).json()["items"]
    assert (item["external_id"], item["properties"]) == ("ada", {"plan": "secret plan"})


def test_a_view_is_replaced_and_deleted(shared: Clients) -> None:
    made = saved(shared)
    path = f"{PATH}/{made['id']}"
    less = {"kind": "user", "name": "All"}
    changed = shared("admin").put(path, json=less).json()
    assert changed["view"] == less | {
        "sort": "-last_seen",
        "columns": None,
        "segment": None,
        "filter": None,
    }
    assert (changed["id"], changed["made_at"]) == (made["id"], made["made_at"])
    assert changed["changed_at"] > made["changed_at"]
    assert shared("admin").delete(path).json() == changed
    for method in ("GET", "DELETE"):
        problem(shared("admin").request(method, path), 404, "not-found")
    problem(shared("admin").put(path, json=less), 404, "not-found")


def test_views_are_listed_by_name_and_by_kind(client: Clients) -> None:
    for kind, name in (("user", "b"), ("account", "c"), ("user", "a")):
        saved(client, kind=kind, name=name, columns=None, sort="name", filter=None)
    listed = client("read").get(PATH).json()
    assert [one["view"]["name"] for one in listed["items"]] == ["a", "b", "c"]
    assert (listed["total"], listed["next"]) == (3, None)
    users = client("read").get(PATH, params={"kind": "user"}).json()["items"]
    assert [one["view"]["name"] for one in users] == ["a", "b"]
    problem(client("read").get(PATH, params={"kind": "x"}), 400)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"sort": "property:plam"}, "/sort"),
        ({"columns": ["plan", "plam"]}, "/columns/1"),
        ({"segment": str(uuid.uuid4())}, "/segment"),
        ({"filter": {"type": "any", "of": [FILTER | {"name": "plam"}]}}, "/filter/of/0/name"),
        ({"filter": {"type": "accounts"}}, "/filter"),
        ({"filter": 5}, "/filter"),
        ({"kind": "visitor"}, "/kind"),
    ],
)
def test_a_view_that_could_not_be_listed_is_refused_at_its_place(
    shared: Clients, change: dict[str, Any], place: str
) -> None:
    assert problem(shared("admin").post(PATH, json=VIEW | change), 400)["place"] == place
    made = saved(shared)
    answer = shared("admin").put(f"{PATH}/{made['id']}", json=VIEW | change)
    assert problem(answer, 400)["place"] == place
    assert shared("read").get(f"{PATH}/{made['id']}").json() == made


@pytest.mark.parametrize("scope", ["read", "audit", "comply", "write"])
def test_only_an_admin_key_changes_views(shared: Clients, scope: str) -> None:
    made = saved(shared)
    before = shared("read").get(PATH).json()
    one = shared(scope)
    path = f"{PATH}/{made['id']}"
    for answer in (one.post(PATH, json=VIEW), one.put(path, json=VIEW), one.delete(path)):
        problem(answer, 403, "wrong-scope")
    if scope == "write":
        problem(one.get(PATH), 403, "wrong-scope")
    else:
        assert one.get(PATH).json() == before


def test_what_a_filter_names_lies_encrypted(client: Clients, database_url: str) -> None:
    made = saved(client)
    with psycopg.connect(database_url) as conn:
        [(id, sealed)] = conn.execute("SELECT id, sealed FROM log.saved_views").fetchall()
        assert str(id) == made["id"]
        assert b"secret plan" not in sealed
        assert b"Pros" not in sealed


def test_there_are_only_so_many_views(client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_SAVED_VIEWS", 2)
    saved(client), saved(client)
    problem(client("admin").post(PATH, json=VIEW), 409, "conflict")
    assert saved_views.MAX_SAVED_VIEWS > 2
