"""What became of somebody over time, over HTTP: timeline, stages, Overview."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Clients, account, problem, until, user


def at(minute: int) -> str:
    return f"2026-03-04T{minute // 60:02}:{minute % 60:02}:00Z"


def identify(id: str, minute: int = 0, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "timestamp": at(minute), "traits": traits}


def track(id: str, event: str, minute: int = 0) -> dict[str, Any]:
    return {"type": "track", "userId": id, "event": event, "timestamp": at(minute)}


def happened(client: Clients, **asked: Any) -> list[tuple[str, str | None]]:
    items = client.pages(user("ada", "/timeline"), limit=2, **asked)
    return [(one["type"], one["name"]) for one in items]


def test_a_timeline_is_narrowed_by_type_name_and_time_and_turned_round(client: Clients) -> None:
    client.send(
        identify("ada", 0, plan="free"),
        track("ada", "opened", 1),
        {"type": "screen", "userId": "ada", "name": "Cart", "timestamp": at(2)},
        track("ada", "closed", 3),
        identify("ada", 4, plan="pro"),
    )
    assert happened(client, type="event") == [("event", "closed"), ("event", "opened")]
    assert happened(client, type=["screen", "identity"]) == [
        ("screen", "Cart"),
        ("registered", None),
    ]
    assert happened(client, name=["opened", "Cart"]) == [("screen", "Cart"), ("event", "opened")]
    assert happened(client, name="plan", order="oldest") == [("properties_changed", None)] * 2
    span = {"from": at(1), "until": at(3)}
    assert happened(client, **span) == [("screen", "Cart"), ("event", "opened")]
    assert len(happened(client, until="2026-03-04")) == 6
    assert happened(client, until="2026-03-03") == []
    whole = happened(client)
    assert happened(client, order="oldest") == whole[::-1]
    [change] = client.see(user("ada", "/timeline"), name="plan", **{"from": at(4)})["items"]
    assert change["changes"] == [{"name": "plan", "before": "free", "after": "pro"}]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"type": "nonsense"}, "/type"),
        ({"type": ["event", ""]}, "/type"),
        ({"name": ""}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"name": "x" * 2_049}, "/name"),
        ({"name": ["x"] * 21}, "/name"),
        ({"from": "yesterday"}, "/from"),
        ({"from": "2026-02-30"}, "/from"),
        ({"from": "2026-03-04T00:00:00"}, "/from"),
        ({"until": "9999-12-31"}, "/until"),
        ({"from": "2026-03-05", "until": "2026-03-03"}, "/until"),
        ({"order": "sideways"}, "/order"),
        ({"total": "perhaps"}, "/total"),
        ({"cursor": "x"}, "/cursor"),
    ],
)
def test_nonsense_is_refused_at_its_place(
    standing: Clients, query: dict[str, Any], place: str
) -> None:
    standing.send(track("ada", "opened"))
    assert problem(standing.get(user("ada", "/timeline"), **query), 400)["place"] == place


def test_stages_and_scores_of_a_definition_show_below_a_user(client: Clients) -> None:
    is_pro = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
    client.send(identify("ada", plan="free"))
    client.see(user("ada"))  # and with her the name of the property
    for definition in (
        {
            "type": "stages",
            "stages": [{"name": "paying", "type": "paying", "condition": is_pro}],
        },
        {"type": "score", "rules": [{"name": "pays", "weight": 2, "condition": is_pro}]},
    ):
        body = {"kind": "user", "name": "fit"} | definition
        made = client.taken(client("admin").post("/api/definitions", json=body))
        client.taken(client("admin").post(f"/api/definitions/{made['id']}/activate"))
    client.send(identify("ada", plan="pro"))
    until(lambda: client.see(user("ada"))["stage"] == "paying")
    until(lambda: [one["value"] for one in client.see(user("ada"))["scores"]] == [100.0])
    [marker] = client.see(user("ada"))["scores"][0]["rules"]
    assert (marker["name"], marker["weight"], marker["held"]) == ("pays", 2, True)
    stages = client.see(user("ada", "/stages"))
    assert [(one["stage"], one["left_at"]) for one in stages["spells"]] == [("paying", None)]
    assert [(one["stage"], one["visits"]) for one in stages["summary"]] == [("paying", 1)]
    assert stages["backdated"] is False
    assert happened(client, type="stage") == [("stage_entered", "paying")]
    assert ("score_changed", "fit") in happened(client, name="fit")


def test_the_overview_of_both_kinds_shows_what_there_is(client: Clients) -> None:
    client.send(
        {"type": "group", "groupId": "acme", "userId": "ada", "traits": {"seats": 3}},
        {"type": "track", "userId": "ada", "event": "opened", "context": {"groupId": "acme"}},
    )
    seen = client.see(account("acme", "/overview"))
    assert [(one["name"], one["value"]) for one in seen["properties"]] == [("seats", 3)]
    assert [(one["name"], one["count"], one["days"][-1]) for one in seen["events"]] == [
        ("opened", 1, 1)
    ]
    assert client.see(user("ada", "/overview"))["events"][0]["name"] == "opened"
    for path in (user("nobody", "/overview"), user("nobody", "/stages")):
        problem(client.get(path), 404)
