"""A stage set by hand over HTTP, and released; and what is refused, where."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Clients, problem, user

PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
STAGES = {
    "type": "stages",
    "kind": "user",
    "name": "Life",
    "stages": [
        {"name": "paying", "type": "paying", "condition": PRO},
        {"name": "trial", "type": "trial", "condition": {"type": "all", "of": []}},
    ],
}
BY_HAND = {"stage": "trial", "reason": "asked for a second look"}
ADA = user("ada", "/stage")


def known(client: Clients) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
    client.see("/api/users")


def with_stages(client: Clients) -> None:
    known(client)
    made = client.taken(client("admin").post("/api/definitions", json=STAGES))
    client.taken(client("admin").post(f"/api/definitions/{made['id']}/activate"))


@pytest.fixture(scope="module")
def staged(standing: Clients) -> Clients:
    """The one server, with stages and a user."""
    with_stages(standing)
    return standing


def refused(client: Clients, body: Any, place: str | None, path: str = ADA) -> str:
    answer = problem(client("admin").post(path, json=body), 404 if place is None else 400)
    if place is not None:
        assert answer["place"] == place
    return str(answer)


def test_a_stage_is_set_by_hand_once_and_released_once(staged: Clients) -> None:
    assert staged.taken(staged("admin").post(ADA, json=BY_HAND))["position"]
    assert staged.taken(staged("admin").post(ADA, json=BY_HAND))["position"] == ""
    assert staged.taken(staged("admin").delete(ADA))["position"]
    assert staged.taken(staged("admin").delete(ADA))["position"] == ""


def test_only_a_stage_that_there_is_can_be_set(client: Clients) -> None:
    known(client)
    assert "there are no stages of users" in refused(client, BY_HAND, "/stage")
    with_stages(client)
    assert "trial" in refused(client, BY_HAND | {"stage": "tria"}, "/stage")
    client.taken(client("admin").post(ADA, json=BY_HAND | {"stage": None}))


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "nu\0l"])
def test_a_reason_is_needed_that_can_be_kept(staged: Clients, reason: str) -> None:
    refused(staged, BY_HAND | {"reason": reason}, "/reason")


def test_nobody_else_can_be_put_into_a_stage(staged: Clients) -> None:
    refused(staged, BY_HAND, None, user("nobody", "/stage"))
    refused(staged, BY_HAND, "/id", "/api/users/nobody/stage")
    problem(staged("write").post(ADA, json=BY_HAND), 403)
    problem(staged("read").delete(ADA), 403)
