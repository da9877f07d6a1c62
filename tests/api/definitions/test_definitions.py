"""Definitions over HTTP: from draft to archive, who and when; and what is refused, where."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from tests.pages import blocks
from tests.projections.read_models import owner
from tests.serving import Clients, account, problem

PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
IN_TRIAL = {"type": "stage", "stages": ["trial"]}
STAGES = {
    "type": "stages",
    "kind": "user",
    "name": "Life",
    "stages": [
        {"name": "paying", "type": "paying", "condition": PRO},
        {"name": "trial", "type": "trial", "condition": {"type": "all", "of": []}},
    ],
}
PROFILE = {
    "type": "health_profile",
    "kind": "user",
    "name": "Trial",
    "stages": ["trial", None],
    "good": PRO,
}
SCORE = {
    "type": "score",
    "kind": "user",
    "name": "Fit",
    "rules": [{"name": "pro", "weight": 2, "condition": PRO}],
}
SIGNAL = {
    "type": "signal",
    "kind": "user",
    "name": "Stuck",
    "condition": PRO,
    "reentry_hours": 24,
    "goal": {"type": "not", "of": PRO},
    "goal_hours": 72,
}


def known(client: Clients) -> None:
    """Sends what conditions ask about."""
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro", "born": "1815-12"}})
    client.see("/api/users")


def define(client: Clients, body: dict[str, Any], *, active: bool = True) -> str:
    """Defines something; returns its path."""
    answer = client.taken(client("admin").post("/api/definitions", json=body))
    path = f"/api/definitions/{answer['id']}"
    if active:
        client.taken(client("admin").post(f"{path}/activate"))
    return path


def refused(client: Clients, method: str, path: str, body: Any = None, status: int = 400) -> Any:
    """The problem that a request is refused with."""
    how = {} if body is None else {"json": body}
    return problem(client("admin").request(method, path, **how), status)


def test_a_definition_goes_from_draft_to_active_to_archived_with_who_and_when(
    client: Clients,
) -> None:
    known(client)
    path = define(client, SCORE, active=False)
    assert client.see(path)["status"] == "draft"
    client.taken(client("admin").post(f"{path}/activate"))
    more = SCORE | {"rules": [{"name": "pro", "weight": 3, "condition": PRO}]}
    client.taken(client("admin").put(path, json=more))
    client.taken(client("admin").post(f"{path}/archive"))
    history = client.see(f"{path}/history")["items"]
    assert [(one["version"], one["status"]) for one in history] == [
        (4, "archived"),
        (3, "active"),
        (2, "active"),
        (1, "draft"),
    ]
    assert [one["definition"] for one in history] == [more, more, SCORE, SCORE]
    admin = history[0]["by"]
    assert all(one["by"] == admin for one in history)
    assert [one["at"] for one in history] == sorted((one["at"] for one in history), reverse=True)
    seen = client.see(path)
    assert (seen["version"], seen["status"], seen["changed_by"]) == (4, "archived", admin)
    assert seen["created_at"] == history[-1]["at"]
    assert seen["changed_at"] == history[0]["at"]


def test_what_is_read_can_be_sent_again(client: Clients) -> None:
    known(client)
    for body in (STAGES, PROFILE, SCORE, SIGNAL):
        path = define(client, body)
        seen = client.see(path)
        assert seen["definition"] == body
        again = client.taken(client("admin").put(path, json=seen["definition"]))
        assert again["position"] == ""
        assert client.see(path) == seen


def test_definitions_are_listed_by_type_kind_and_status(client: Clients) -> None:
    known(client)
    stages = define(client, STAGES)
    draft = define(client, SCORE, active=False)
    segment = {"kind": "user", "name": "Pros", "condition": PRO}
    client.taken(client("admin").post("/api/segments", json=segment))

    def listed(**query: str) -> list[str]:
        items = client.see("/api/definitions", **query)["items"]
        return [one["definition"]["name"] for one in items]

    assert listed() == ["Fit", "Pros", "Life"]
    assert listed(type="score") == ["Fit"]
    assert listed(type="segment") == ["Pros"]
    assert listed(status="active") == ["Pros", "Life"]
    assert listed(kind="account") == []
    assert listed(type="stages", kind="user", status="active") == ["Life"]
    client.taken(client("admin").delete(draft))
    assert listed(type="score") == []
    assert client.see(stages)["status"] == "active"
    assert client.get(draft).status_code == 404
    assert [one["status"] for one in client.see(f"{draft}/history")["items"]] == [
        "deleted",
        "draft",
    ]


def test_another_list_of_stages_takes_the_place_of_the_one_before(client: Clients) -> None:
    known(client)
    first = define(client, STAGES)
    other = STAGES | {"name": "Other"}
    second = define(client, other)
    assert (client.see(first)["status"], client.see(second)["status"]) == ("archived", "active")
    of_accounts = define(client, STAGES | {"kind": "account", "stages": [STAGES["stages"][1]]})
    assert client.see(second)["status"] == client.see(of_accounts)["status"] == "active"


def test_what_was_activated_a_moment_ago_can_be_asked_for_and_what_was_not_cannot(
    client: Clients,
) -> None:
    known(client)
    asks = {"kind": "user", "condition": IN_TRIAL, "sample": 0}
    place = refused(client, "POST", "/api/segments/preview", asks)["place"]
    assert place == "/condition/stages/0"
    client("admin").post("/api/definitions", json=STAGES)
    assert refused(client, "POST", "/api/segments/preview", asks)["place"] == place
    define(client, STAGES)
    assert client("read").post("/api/segments/preview", json=asks).status_code == 200
    client.see("/api/definitions")
    assert client.see("/api/users", filter='{"type":"stage","stages":["trial"]}')["total"] == 0


def test_what_is_asked_for_elsewhere_can_neither_go_nor_change_its_name(client: Clients) -> None:
    known(client)
    stages, score = define(client, STAGES), define(client, SCORE)
    asks = {
        "type": "all",
        "of": [IN_TRIAL, {"type": "score", "score": "Fit", "test": {"op": "less", "value": 5}}],
    }
    signal = define(client, SIGNAL | {"condition": asks})
    for answer in (
        refused(client, "POST", f"{stages}/archive", status=409),
        refused(client, "POST", f"{score}/archive", status=409),
        refused(client, "PUT", score, SCORE | {"name": "Fitness"}, status=409),
        refused(client, "PUT", stages, STAGES | {"stages": STAGES["stages"][:1]}, status=409),
    ):
        assert "“Stuck”" in answer["detail"]
    client.taken(client("admin").post(f"{signal}/archive"))
    client.taken(client("admin").post(f"{score}/archive"))
    assert client.see(score)["status"] == "archived"


def test_a_circle_over_all_families_is_refused_with_the_way_round(client: Clients) -> None:
    known(client)
    define(client, STAGES)
    define(client, PROFILE)
    healthy = {"type": "health", "health": ["good"]}
    define(client, SCORE | {"rules": [{"name": "well", "weight": 1, "condition": healthy}]})
    asks = {"type": "not", "of": {"type": "score", "score": "Fit", "test": {"op": "is_set"}}}
    changed = PROFILE | {"bad": asks}
    [path] = [one["id"] for one in client.see("/api/definitions", type="health_profile")["items"]]
    answer = refused(client, "PUT", f"/api/definitions/{path}", changed)
    assert answer["place"] == "/bad/of/score"
    assert "health of users → “Fit” → health of users" in answer["detail"]


def within(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return body | changes


UNKNOWN = {"type": "property", "name": "plann", "test": {"op": "is", "value": "pro"}}
RULE = {"name": "pro", "weight": 2, "condition": PRO}
BAD: list[tuple[Any, str, str]] = [
    ([], "", "object"),
    ({"type": "sooth", "kind": "user", "name": "x"}, "/type", "sooth"),
    ({"kind": "user", "name": "x"}, "", "type"),
    (within(SCORE, kind="group"), "/kind", "group"),
    (within(SCORE, more=1), "", "more"),
    (within(SCORE, name=" Fit"), "/name", "space"),
    (within(SCORE, rules=[]), "/rules", "at least one"),
    (within(SCORE, rules=[RULE | {"weight": "two"}]), "/rules/0/weight", "int"),
    (within(SCORE, rules=[RULE | {"weight": 1.5}]), "/rules/0/weight", "int"),
    (within(SCORE, rules=[RULE | {"weight": 0}]), "/rules/0/weight", "nothing"),
    (within(SCORE, rules=[RULE | {"weight": -1}]), "/rules", "sum to more than 0"),
    (within(SCORE, rules=[RULE, RULE]), "/rules/1/name", "twice"),
    (within(SCORE, rules=[RULE, RULE | {"name": "x", "weight": -2}]), "/rules", "sum to 0;"),
    (
        within(SCORE, rules=[RULE | {"condition": UNKNOWN}]),
        "/rules/0/condition/name",
        "did you mean plan",
    ),
    (within(SCORE, rules=[RULE | {"condition": {"type": "al"}}]), "/rules/0/condition/type", "all"),
    (within(SCORE, rules=[RULE | {"condition": None}]), "/rules/0/condition", "object"),
    (within(STAGES, stages=[]), "/stages", "at least one"),
    (within(STAGES, stages=STAGES["stages"] * 2), "/stages/2/name", "twice"),
    (
        within(STAGES, stages=[{"name": "x", "type": "odd", "condition": PRO}]),
        "/stages/0/type",
        "odd",
    ),
    (
        within(STAGES, stages=[{"name": "x", "type": "free", "condition": IN_TRIAL}]),
        "/stages/0/condition/stages/0",
        "unknown stage",
    ),
    (
        within(
            STAGES,
            stages=[
                *STAGES["stages"],
                {"name": "x", "type": "free", "condition": {"type": "not", "of": IN_TRIAL}},
            ],
        ),
        "/stages/2/condition/of/stages/0",
        "stages of users → stages of users",
    ),
    (within(PROFILE, stages=["trial"]), "/stages/0", "unknown stage of users 'trial'"),
    (within(PROFILE, stages=[]), "/stages", "no stage"),
    (within(PROFILE, stages=[None, None]), "/stages/1", "twice"),
    (within(PROFILE, stages=[None], good=None), "/good", "neither"),
    (within(SIGNAL, reentry_hours=0), "/reentry_hours", "1 to"),
    (within(SIGNAL, goal_hours=None), "/goal_hours", "how many hours"),
    (within(SIGNAL, goal=None), "/goal", "no goal"),
    (within(SIGNAL, goal={"type": "al"}), "/goal/type", "all"),
    (within(PROFILE, bad={"type": "al"}), "/bad/type", "all"),
    (
        within(SIGNAL, condition={"type": "signal", "signal": "Stuck", "on": True}),
        "/condition/signal",
        "“Stuck” → “Stuck”",
    ),
    (
        within(SIGNAL, goal={"type": "segment", "segment": str(uuid.UUID(int=7))}),
        "/goal/segment",
        "no such segment",
    ),
]


def test_what_disagrees_with_itself_is_refused_with_reason_and_place(client: Clients) -> None:
    known(client)
    heads = client.annals.log.heads(range(256))
    for body, place, words in BAD:
        answer = refused(client, "POST", "/api/definitions", body)
        assert (answer.get("place", ""), words in answer["detail"]) == (place, True), (body, answer)
    assert client.annals.log.heads(range(256)) == heads


def test_a_name_and_a_stage_belong_to_one_that_is_active(client: Clients) -> None:
    known(client)
    define(client, STAGES)
    define(client, PROFILE)
    define(client, SCORE)
    twin = define(client, SCORE, active=False)
    assert refused(client, "POST", f"{twin}/activate")["place"] == "/name"
    other = define(client, PROFILE | {"name": "Other", "stages": ["paying", None]}, active=False)
    answer = refused(client, "POST", f"{other}/activate")
    assert (answer["place"], "“Trial”" in answer["detail"]) == ("/stages/1", True)
    assert client.see(other)["status"] == "draft"


@pytest.mark.parametrize("scope", ["read", "write", "audit", "comply"])
def test_only_an_admin_defines(standing: Clients, scope: str) -> None:
    path = f"/api/definitions/{uuid.uuid4()}"
    for method, where in (
        ("POST", "/api/definitions"),
        ("PUT", path),
        ("DELETE", path),
        ("POST", f"{path}/activate"),
        ("POST", f"{path}/archive"),
    ):
        body = {"json": SCORE} if method in ("POST", "PUT") and where[-1] != "e" else {}
        problem(standing(scope).request(method, where, **body), 403, "wrong-scope")


def test_what_there_is_not_cannot_be_changed_and_what_is_over_stays_so(client: Clients) -> None:
    known(client)
    nobody = f"/api/definitions/{uuid.uuid4()}"
    for method, where, body in (
        ("GET", nobody, None),
        ("GET", f"{nobody}/history", None),
        ("PUT", nobody, SCORE),
        ("DELETE", nobody, None),
        ("POST", f"{nobody}/activate", None),
        ("POST", f"{nobody}/archive", None),
    ):
        refused(client, method, where, body, status=404)
    path = define(client, SCORE)
    assert "archive" in refused(client, "DELETE", path, status=409)["detail"]
    client.taken(client("admin").post(f"{path}/archive"))
    refused(client, "POST", f"{path}/activate", status=409)
    refused(client, "PUT", path, SCORE | {"name": "Other"}, status=409)
    refused(client, "DELETE", path, status=409)
    assert refused(client, "PUT", path, SIGNAL)["detail"].startswith("this is a score")


def test_the_definitions_settings_and_mrr_of_the_page_are_as_it_says(client: Clients) -> None:
    *definitions, settings, mrr = (
        json.loads(block) for block in blocks("docs/definitions.md", "json")
    )
    traits = {"mrr": 12.55, "cancelled": False, "renewal_date": "2027-01-01"}
    client.send(
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": traits},
        {"type": "identify", "userId": "ada", "traits": {"role": "champion", "plan": "pro"}},
        {"type": "track", "userId": "ada", "event": "login", "context": {"groupId": "acme"}},
    )
    client.see(account("acme"))
    assert [one["type"] for one in definitions] == ["stages", "health_profile", "score", "signal"]
    for body in definitions:
        path = define(client, body)
        seen = client.see(path)
        assert (seen["status"], seen["definition"]["name"]) == ("active", body["name"])
    client.taken(client("admin").put("/api/settings", json=settings))
    holds = client("read").get("/api/settings").json()
    assert {name: holds[name] for name in settings} == settings
    assert client.see("/api/users/external%3Aada")["mrr"] == mrr


def test_a_property_that_was_sent_a_moment_ago_can_be_asked_about(
    client: Clients, database_url: str
) -> None:
    with owner(database_url) as conn, ThreadPoolExecutor(1) as executor:
        with conn.transaction():
            conn.execute("LOCK TABLE views.checkpoints IN EXCLUSIVE MODE")  # nothing is projected
            client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
            answer = executor.submit(client("admin").post, "/api/definitions", json=SIGNAL)
            assert not wait([answer], timeout=0.2).done
        assert answer.result().status_code == 200, answer.result().text
    unknown = json.loads(json.dumps(SIGNAL).replace("plan", "plam"))
    problem(client("admin").post("/api/definitions", json=unknown), 400)
