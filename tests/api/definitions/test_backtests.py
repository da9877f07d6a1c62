"""Back-tests over HTTP and on the command line: what would have been, and nothing recorded."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from api.cli import main
from infra.bootstrap.annals import Annals
from tests.serving import Clients, problem, user

IS_PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
LOGGED_IN = {
    "type": "activity",
    "activity": "event",
    "name": "login",
    "period": {"type": "last_days", "days": 2},
}
SEGMENT = {"type": "segment", "kind": "user", "name": "Active", "condition": LOGGED_IN}
STAGES = {
    "type": "stages",
    "kind": "user",
    "name": "life",
    "stages": [
        {"name": "paying", "type": "paying", "condition": IS_PRO},
        {"name": "trial", "type": "trial", "condition": LOGGED_IN},
    ],
}


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days)).isoformat()


def a_past(client: Clients) -> None:
    """Ada signed up five days ago, logged in three days ago and went pro yesterday; Bob never."""
    client.send(
        {"type": "identify", "userId": "ada", "traits": {"plan": "free"}, "timestamp": days_ago(5)},
        {"type": "identify", "userId": "bob", "traits": {"plan": "free"}, "timestamp": days_ago(2)},
        {"type": "track", "userId": "ada", "event": "login", "timestamp": days_ago(3)},
        {"type": "identify", "userId": "ada", "traits": {"plan": "pro"}, "timestamp": days_ago(1)},
    )
    client.see(user("ada"))


def result_of(client: Clients, definition: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The answer, once it is done."""
    request = {"definition": definition, "days": 7, **more}
    answer = client("read").post("/api/backtest", json=request)
    assert answer.status_code == 202, answer.text
    return done(client, answer.json()["id"])


def done(client: Clients, id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        body: dict[str, Any] = client.see(f"/api/backtest/{id}")
        if body["state"] in ("done", "failed", "cancelled") or time.monotonic() > deadline:
            assert body["state"] == "done", body
            return body
        time.sleep(0.05)


def by_day(body: dict[str, Any]) -> list[dict[str | None, int]]:
    return [
        {one["outcome"]: one["subjects"] for one in day["counts"]} for day in body["result"]["days"]
    ]


def heads(annals: Annals) -> int:
    return sum(annals.log.heads(range(256)).values())


def test_it_says_for_each_day_who_would_have_been_where_and_records_nothing(
    client: Clients,
) -> None:
    a_past(client)
    before = heads(client.annals)
    body = result_of(client, STAGES)
    assert by_day(body) == [
        {},
        {None: 1},
        {None: 1},
        {"trial": 1},
        {"trial": 1, None: 1},
        {"paying": 1, None: 1},
        {"paying": 1, None: 1},
    ]
    result = body["result"]
    assert (result["subjects"], result["of"], result["compared_with"]) == (2, 2, None)
    assert result["today"] == [
        {"outcome": "paying", "subjects": 1},
        {"outcome": None, "subjects": 1},
    ]
    path = f"/api/backtest/{body['id']}/subjects"
    assert [one["external_id"] for one in client.see(path, outcome="paying")["items"]] == ["ada"]
    assert [one["external_id"] for one in client.see(path, outcome="none")["items"]] == ["bob"]
    assert len(client.pages(path, limit=1)) == 2
    assert heads(client.annals) == before
    assert client.see("/api/definitions")["items"] == []


def test_a_draft_is_held_against_what_is_active(client: Clients) -> None:
    a_past(client)
    segment = {k: v for k, v in SEGMENT.items() if k != "type"}
    id = client.taken(client("admin").post("/api/segments", json=segment))["id"]
    later = SEGMENT | {"condition": {"type": "any", "of": [LOGGED_IN, IS_PRO]}}
    for more in ({}, {"compare_with": id}):
        result = result_of(client, later, **more)["result"]
        assert result["compared_with"] == {"id": id, "name": "Active"}
        assert (result["differing"], result["moves"]) == (
            1,
            [{"before": "out", "after": "in", "subjects": 1}],
        )
    body = result_of(client, later)
    path = f"/api/backtest/{body['id']}/subjects"
    [moved] = client.see(path, differing="true")["items"]
    assert (moved["external_id"], moved["before"], moved["outcome"]) == ("ada", "out", "in")
    assert client.see(path, before="in")["items"] == []


def test_a_saved_draft_is_tested_by_its_id_and_rests_on_what_is_active(client: Clients) -> None:
    a_past(client)
    segment = {k: v for k, v in SEGMENT.items() if k != "type"}
    inside = client.taken(client("admin").post("/api/segments", json=segment))["id"]
    score = {
        "type": "score",
        "kind": "user",
        "name": "fit",
        "rules": [
            {"name": "busy", "weight": 1, "condition": {"type": "segment", "segment": inside}},
            {"name": "pro", "weight": 3, "condition": IS_PRO},
        ],
    }
    id = client.taken(client("admin").post("/api/definitions", json=score))["id"]
    answer = client("read").post("/api/backtest", json={"id": id, "days": 4, "sample": None})
    body = done(client, answer.json()["id"])
    assert by_day(body) == [
        {"20-39": 1},
        {"20-39": 1, "0-19": 1},
        {"60-79": 1, "0-19": 1},
        {"60-79": 1, "0-19": 1},
    ]
    items = client.see(f"/api/backtest/{body['id']}/subjects")["items"]
    assert sorted(one["value"] for one in items) == [0.0, 75.0]


def test_a_signal_says_how_often_it_would_have_triggered(client: Clients) -> None:
    a_past(client)
    signal = {
        "type": "signal",
        "kind": "user",
        "name": "idle",
        "condition": LOGGED_IN,
        "goal": IS_PRO,
        "goal_hours": 72,
    }
    days = result_of(client, signal)["result"]["days"]
    assert [(one["triggered"], one["ended"], one["reached"], one["missed"]) for one in days] == [
        (0, 0, 0, 0),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 0, 0, 0),
        (0, 1, 1, 0),
        (0, 0, 0, 0),
    ]


def test_who_was_erased_is_left_out_of_a_result_too(client: Clients) -> None:
    a_past(client)
    body = result_of(client, STAGES)
    client.erase("user", "external:ada")
    client.see("/api/users")
    items = client.see(f"/api/backtest/{body['id']}/subjects")["items"]
    assert [one["external_id"] for one in items] == ["bob"]
    assert result_of(client, STAGES)["result"]["subjects"] == 1


def test_one_is_cancelled_or_forgotten_and_not_there_any_more(client: Clients) -> None:
    a_past(client)
    id = result_of(client, STAGES)["id"]
    assert [one["id"] for one in client.see("/api/backtest")["items"]] == [id]
    assert client("read").delete(f"/api/backtest/{id}").status_code == 204
    problem(client.get(f"/api/backtest/{id}"), 404, "not-found")
    problem(client("read").delete(f"/api/backtest/{id}"), 404, "not-found")


ANYBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        ({}, "/definition"),
        ({"definition": SEGMENT, "id": ANYBODY}, "/definition"),
        ({"definition": SEGMENT, "days": 0}, "/days"),
        ({"definition": SEGMENT, "days": 367}, "/days"),
        ({"definition": SEGMENT, "sample": 0}, "/sample"),
        ({"definition": SEGMENT | {"condition": {"type": "mood"}}}, "/definition/condition/type"),
        ({"definition": SEGMENT | {"name": " "}}, "/definition/name"),
        ({"definition": SEGMENT | {"condition": {
            "type": "segment", "segment": ANYBODY}}}, "/definition/condition/segment"),
        ({"definition": STAGES | {"stages": []}}, "/definition/stages"),
        ({"definition": {"type": "score", "kind": "user", "name": "s", "rules": [
            {"name": "r", "weight": -1, "condition": IS_PRO}]}}, "/definition/rules"),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_refused_at_its_place(
    standing: Clients, request_: dict[str, Any], place: str
) -> None:
    a_past(standing)
    body = problem(standing("read").post("/api/backtest", json=request_), 400, "invalid-input")
    assert body["place"] == place


def test_what_is_not_there_is_not_compared_with(client: Clients) -> None:
    a_past(client)
    there = {"definition": SEGMENT, "compare_with": ANYBODY}
    problem(client("read").post("/api/backtest", json=there), 404, "not-found")
    problem(client("read").post("/api/backtest", json={"id": ANYBODY}), 404, "not-found")
    problem(client("write").post("/api/backtest", json={"definition": SEGMENT}), 403)


@given(
    st.binary(max_size=40) | st.text(max_size=20).map(lambda one: json.dumps({one: one}).encode())
)
def test_no_body_breaks_it(client: Clients, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client("read").post("/api/backtest", content=body, headers=headers)
    assert answer.status_code == 400, (body, answer.text)


def test_the_command_line_prints_a_table_or_json_and_tells_a_bad_definition_apart(
    annals: Annals, client: Clients, database_url: str, tmp_path: Path
) -> None:
    a_past(client)
    environment = {
        "ANNALS_DATA": str(annals.settings.data),
        "ANNALS_DATABASE_URL": database_url,
    }
    file = tmp_path / "stages.json"
    file.write_text(json.dumps(STAGES))
    run = CliRunner().invoke(main, ["backtest", str(file), "--days", "7"], env=environment)
    assert run.exit_code == 0, run.output
    assert "2 of 2 users were looked at." in run.output
    run = CliRunner().invoke(
        main, ["backtest", str(file), "--days", "7", "--sample", "5", "--json"], env=environment
    )
    assert run.exit_code == 0, run.output
    result = json.loads(run.output[run.output.index("{") :])
    assert len(result["days"]) == 7
    file.write_text(json.dumps(STAGES | {"stages": []}))
    run = CliRunner().invoke(main, ["backtest", str(file)], env=environment)
    assert run.exit_code == 2
    assert "/stages" in run.output
    file.write_text("no JSON")
    assert CliRunner().invoke(main, ["backtest", str(file)], env=environment).exit_code == 2


def test_only_who_began_a_backtest_cancels_it_or_an_admin(client: Clients) -> None:
    a_past(client)
    request = {"definition": SEGMENT, "days": 1}
    ids = [client("audit").post("/api/backtest", json=request).json()["id"] for _ in range(2)]
    for id in ids:
        problem(client("read").delete(f"/api/backtest/{id}"), 403, "not-yours")
        done(client, id)
    for id, scope in zip(ids, ("audit", "admin"), strict=True):
        assert client(scope).delete(f"/api/backtest/{id}").status_code == 204
        problem(client("read").delete(f"/api/backtest/{id}"), 404)
