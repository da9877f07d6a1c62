"""Why something was decided: the rule in words, what it saw, and what brought it about."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.serving import Clients, account, problem, user

IS_PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
LOGGED_IN = {"type": "activity", "activity": "event", "name": "login"}
OFTEN = LOGGED_IN | {"count": {"op": "at_least", "times": 2}}


def identify(name: str, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": name, "traits": traits}


def track(name: str, event: str) -> dict[str, Any]:
    return {"type": "track", "userId": name, "event": event}


def define(client: Clients, definition: dict[str, Any]) -> str:
    path = "/api/segments" if definition["type"] == "segment" else "/api/definitions"
    sent = {k: v for k, v in definition.items() if k != "type" or path == "/api/definitions"}
    id = str(client.taken(client("admin").post(path, json=sent))["id"])
    if path == "/api/definitions":
        client.taken(client("admin").post(f"{path}/{id}/activate"))
    return id


def decided(client: Clients, path: str, **query: Any) -> dict[str, Any]:
    """The reason, once it has been decided."""
    deadline = time.monotonic() + 60
    while True:
        answer = client.get(path, **query)
        if answer.status_code != 404 or time.monotonic() > deadline:
            assert answer.status_code == 200, answer.text
            body: dict[str, Any] = answer.json()
            return body
        time.sleep(0.05)


def seen(why: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        test["place"]: (test["value"], test["held"])
        for rule in why["rules"]
        for test in rule["tests"]
    }


STAGES = {
    "type": "stages",
    "kind": "user",
    "name": "life",
    "stages": [
        {"name": "paying", "type": "paying", "condition": IS_PRO},
        {"name": "trial", "type": "trial", "condition": OFTEN},
    ],
}


def test_a_stage_says_which_condition_held_what_it_saw_and_which_event_did_it(
    client: Clients,
) -> None:
    client.send(identify("ada", plan="free"), track("ada", "login"))
    client.see(user("ada"))
    id = define(client, STAGES)
    client.send(track("ada", "login"))
    why = decided(client, user("ada", "/why"), of="stage")
    assert (why["what"], why["stage"], why["by_hand"]) == ("stage_entered", "trial", False)
    assert [(rule["name"], rule["held"]) for rule in why["rules"]] == [
        ("paying", False),
        ("trial", True),
    ]
    assert why["rules"][0]["words"] == "plan is pro"
    assert why["rules"][1]["words"] == "event login occurred at least 2 times"
    assert seen(why) == {
        "/stages/0/condition": ("free", False),
        "/stages/1/condition": (2, True),
    }
    assert (why["definition"]["id"], why["definition"]["name"]) == (id, "life")
    assert (why["cause"]["type"], why["cause"].get("name")) in (
        ("event", "login"),
        ("definition", None),  # it had been sent before the first sweep
    )
    same = client.see(user("ada", "/why"), position=why["position"])
    assert same == why
    [entered] = [
        one
        for one in client.see(user("ada", "/timeline"))["items"]
        if one["type"] == "stage_entered"
    ]
    assert entered["position"] == why["position"]


def test_who_was_put_into_a_stage_by_hand_is_said_with_who_and_why(client: Clients) -> None:
    client.send(track("zoe", "login"), identify("ada", plan="pro"))
    client.see(user("ada"))
    define(client, STAGES)
    decided(client, user("ada", "/why"), of="stage")
    client.taken(
        client("admin").post(user("ada", "/stage"), json={"stage": "trial", "reason": "a mistake"})
    )
    deadline = time.monotonic() + 60
    while True:
        why = decided(client, user("ada", "/why"), of="stage")
        if why["by_hand"] or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    cause = why["cause"]
    assert (cause["type"], cause["stage"], cause["reason"]) == ("by_hand", "trial", "a mistake")
    assert cause["by"]
    assert all(rule["held"] is None for rule in why["rules"])


def test_scores_signals_health_and_segments_say_why_too(client: Clients) -> None:
    client.send(
        identify("ada", plan="pro"),
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"seats": 3}},
        track("ada", "login"),
    )
    client.see(user("ada"))
    segment = define(
        client, {"type": "segment", "kind": "user", "name": "Pros", "condition": IS_PRO}
    )
    inside = {"type": "segment", "segment": segment}
    score = define(
        client,
        {
            "type": "score",
            "kind": "user",
            "name": "fit",
            "rules": [
                {"name": "pro", "weight": 1, "condition": inside},
                {"name": "busy", "weight": 3, "condition": OFTEN},
            ],
        },
    )
    signal = define(
        client, {"type": "signal", "kind": "user", "name": "alarm", "condition": {
            "type": "score", "score": "fit", "test": {"op": "at_least", "value": 25}}}
    )  # fmt: skip
    define(
        client,
        {"type": "health_profile", "kind": "account", "name": "h", "stages": [None], "good": {
            "type": "users", "quantifier": {"op": "any"}, "where": IS_PRO}},
    )  # fmt: skip
    why = decided(client, user("ada", "/why"), of="segment", definition=segment)
    assert (why["what"], seen(why)) == ("segment_entered", {"/condition": ("pro", True)})
    why = decided(client, user("ada", "/why"), of="signal", definition=signal)
    assert (why["what"], seen(why)) == ("signal_triggered", {"/condition": (25, True)})
    assert why["rules"][0]["words"] == "score fit is at least 25"
    why = decided(client, user("ada", "/why"), of="score", definition=score)
    assert (why["after"], [rule["words"] for rule in why["rules"]]) == (
        25.0,
        ["in segment Pros", "event login occurred at least 2 times"],
    )
    why = decided(client, account("acme", "/why"), of="health")
    assert (why["before"], why["after"]) == ("normal", "good")
    assert seen(why)["/good"] == (1, True)
    assert "pro" not in str([test["value"] for test in why["rules"][0]["tests"]])


def test_of_two_segments_each_has_its_own_reason(client: Clients) -> None:
    client.send(identify("ada", plan="pro", city="Ghent"))
    client.see(user("ada"))
    ids: list[str] = []
    in_ghent = {"type": "property", "name": "city", "test": {"op": "is", "value": "Ghent"}}
    for name, condition, value in (("Pros", IS_PRO, "pro"), ("Ghent", in_ghent, "Ghent")):
        id = define(
            client, {"type": "segment", "kind": "user", "name": name, "condition": condition}
        )
        why = decided(client, user("ada", "/why"), of="segment", definition=id)
        assert (why["definition"]["id"], seen(why)) == (id, {"/condition": (value, True)})
        ids.append(id)
    why = decided(client, user("ada", "/why"), of="segment", definition=ids[0])
    assert why["definition"]["name"] == "Pros"


def test_the_definition_that_changed_is_named_with_who_changed_it(client: Clients) -> None:
    client.send(track("zoe", "login"), identify("ada", plan="pro"))
    client.see(user("ada"))
    id = define(client, STAGES)
    why = decided(client, user("ada", "/why"), of="stage")
    assert why["cause"]["type"] == "definition"
    by = why["cause"]["definition"]
    assert (by["id"], by["version"], by["status"], bool(by["changed_by"])) == (
        id,
        2,
        "active",
        True,
    )


NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("query", "status", "place"),
    [
        ({}, 400, "/of"),
        ({"of": "stage", "position": "1:1"}, 400, "/of"),
        ({"of": "mood"}, 400, "/of"),
        ({"of": "score"}, 400, "/definition"),
        ({"of": "stage", "definition": NOBODY}, 400, "/definition"),
        ({"position": "here"}, 400, "/position"),
        ({"position": "1:1,2:2"}, 400, "/position"),
        ({"position": "999:1"}, 400, "/position"),
        ({"position": "1:4000000000"}, 404, None),
        ({"of": "signal", "definition": NOBODY}, 404, None),
    ],
)
def test_what_cannot_be_asked_is_refused(
    standing: Clients, query: dict[str, str], status: int, place: str | None
) -> None:
    standing.send(identify("ada"))
    body = problem(standing.get(user("ada", "/why"), **query), status)
    assert body.get("place") == place or place is None


def test_a_decision_about_another_or_an_event_that_is_none_is_not_told(client: Clients) -> None:
    client.send(track("zoe", "login"), identify("ada", plan="pro"), identify("bob", plan="free"))
    client.see(user("ada"))
    define(client, STAGES)
    position = decided(client, user("ada", "/why"), of="stage")["position"]
    problem(client.get(user("bob", "/why"), position=position), 404)
    registered = client.see(user("ada", "/timeline"))["items"][-1]["position"]
    problem(client.get(user("ada", "/why"), position=registered), 404)
    answer: httpx.Response = client.get(user("ada", "/why"), of="stage", scope="write")
    problem(answer, 403)


def test_the_reason_goes_with_the_key(client: Clients) -> None:
    client.send(track("zoe", "login"), identify("ada", plan="pro"))
    client.see(user("ada"))
    define(client, STAGES)
    position = decided(client, user("ada", "/why"), of="stage")["position"]
    id = client.see(user("ada"))["id"]
    client.erase("user", "external:ada")
    problem(client.get(f"/api/users/{id}/why", position=position), 404)
