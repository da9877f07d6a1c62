"""Events that could not be applied: listed, tried again, skipped; over HTTP and as a command."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from domain.commands import Position
from infra.bootstrap.annals import Annals
from tests.altered import ALTERATIONS, alter
from tests.projections.projector.test_parking import UNFIT, refusing
from tests.projections.read_models import dump, owner
from tests.serving import Clients, problem, start_over, until, user

REASON = "Ada Lovelace's plan is older than the catalogue of plans"


def identify(name: str, plan: str) -> dict[str, object]:
    return {"type": "identify", "userId": name, "traits": {"plan": plan}}


def command(annals: Annals, url: str, *words: str) -> Result:
    environment = {"ANNALS_DATABASE_URL": url, "ANNALS_DATA": str(annals.settings.data)}
    return CliRunner().invoke(main, ["parked", *words], env=environment)


def park(client: Clients, url: str, *names: str) -> list[dict[str, object]]:
    """Has the plans of some users parked, and a sign-in behind each; lists what is parked."""
    with refusing(url, "contacts", UNFIT["contacts"]):
        client.send(*(identify(name, "pro") for name in names))
        client.send(*({"type": "track", "userId": name, "event": "login"} for name in names))
        client.see("/api/users")
        items: list[dict[str, object]] = client.see("/api/parked")["items"]
        assert len(items) == 2 * len(names)
        return items


def failed_of(items: list[dict[str, object]]) -> list[str]:
    return [str(one["position"]) for one in items if one["state"] == "failed"]


def test_what_is_parked_is_listed_by_page_by_reader_and_by_state(
    client: Clients, database_url: str
) -> None:
    items = park(client, database_url, "ada", "bob")
    assert client.pages("/api/parked", limit=1) == items
    assert client.pages("/api/parked", reader="main", limit=3) == items
    assert client.see("/api/parked", reader="counters")["items"] == []
    [first, second] = client.see("/api/parked", state="failed")["items"]
    assert first["error"] == second["error"] == "CheckViolation"
    assert first["topic"] == "user.properties_changed"
    assert first["reader"] == "main"
    waiting = client.see("/api/parked", state="waiting")["items"]
    assert [(one["error"], one["tries"]) for one in waiting] == [(None, 0)] * 2
    assert {one["subject"] for one in waiting} == {first["subject"], second["subject"]}
    assert client.see("/api/status")["parked"] == 4
    assert client.see("/api/status")["parked_by_reader"] == {"main": 4}
    for query in ({"state": "lost"}, {"cursor": "x"}, {"reader": "\0"}, {"limit": 0}):
        problem(client("read").get("/api/parked", params=query), 400)


def test_a_row_of_another_reader_needs_no_more_than_its_place(
    client: Clients, database_url: str
) -> None:
    stored = client.send(identify("ada", "free"))
    client.see("/api/users")
    place = stored["position"].split(",")[0]
    partition, _, position = place.partition(":")
    with owner(database_url) as conn:
        conn.execute(
            "INSERT INTO views.parked (projector, log_partition, position, error)"
            " VALUES ('retention', %s, %s, 'Tampered')",
            (partition, position),
        )
    [one] = client.see("/api/parked", reader="retention")["items"]
    assert (one["topic"] or "").startswith("user.")
    assert one["subject"] == client.see(user("ada"))["id"]
    admin = client("admin")
    retry = admin.post(f"/api/parked/retention/{place}/retry")
    assert "skip it" in problem(retry, 409)["detail"]
    answer = admin.post(f"/api/parked/retention/{place}/skip", json={"reason": REASON})
    assert answer.json() == {"applied": 0, "left": 0, "error": None}
    assert client.see("/api/status")["parked"] == 0
    start_over(client.annals)
    [one] = client.see("/api/parked", state="skipped")["items"]
    assert (one["reader"], one["skip"]["reason"]) == ("retention", REASON)


def test_a_retry_applies_the_whole_stream_or_says_what_is_left(
    client: Clients, database_url: str
) -> None:
    [position] = failed_of(park(client, database_url, "ada"))
    place = f"/api/parked/main/{position.replace(':', '%3A')}"  # as some clients escape it
    admin = client("admin")
    with refusing(database_url, "contacts", "kind <> 'user' OR " + UNFIT["contacts"]):
        assert admin.post(f"{place}/retry").json() == {
            "applied": 0,
            "left": 2,
            "error": "CheckViolation",
        }
    assert admin.post(f"{place}/retry").json() == {"applied": 2, "left": 0, "error": None}
    assert client.see(user("ada", "/events"))["items"][0]["count"] == 1
    assert client.see("/api/parked")["items"] == []
    problem(admin.post(f"{place}/retry"), 404, "not-found")


def test_what_cannot_be_retried_or_skipped_is_told_why(client: Clients, database_url: str) -> None:
    items = park(client, database_url, "ada")
    [position] = failed_of(items)
    [waiting] = [str(one["position"]) for one in items if one["state"] == "waiting"]
    admin = client("admin")
    for reader, place in (("main", "1:999999"), ("main", "x"), ("a\0b", position), ("none", "1:1")):
        address = f"/api/parked/{reader}/{place}".replace("\0", "%00")
        problem(admin.post(f"{address}/retry"), 404)
        problem(admin.post(f"{address}/skip", json={"reason": REASON}), 404)
    skip = f"/api/parked/main/{position}/skip"
    for reason in ("", "  ", "x" * 1_001, "a\0b"):
        assert problem(admin.post(skip, json={"reason": reason}), 400)["place"] == "/reason"
    problem(admin.post(skip, json={}), 400)
    behind = admin.post(f"/api/parked/main/{waiting}/skip", json={"reason": REASON})
    assert "waits behind" in problem(behind, 409)["detail"]
    for scope in ("read", "audit", "comply", "write"):
        problem(client(scope).post(skip, json={"reason": REASON}), 403)
    assert admin.post(skip, json={"reason": REASON}).status_code == 200
    assert "already" in problem(admin.post(skip, json={"reason": "again"}), 409)["detail"]


def test_a_skip_frees_what_waits_and_outlives_a_rebuild(
    client: Clients, annals: Annals, database_url: str
) -> None:
    [position] = failed_of(park(client, database_url, "ada"))
    answer = client("admin").post(f"/api/parked/main/{position}/skip", json={"reason": REASON})
    assert answer.json() == {"applied": 1, "left": 0, "error": None}
    assert client.see(user("ada", "/events"))["items"][0]["count"] == 1
    live = dump(database_url)
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        start_over(annals)
        until(lambda: client.see("/api/status")["behind"] == 0)
        assert dump(database_url) == live
    assert client.see("/api/status")["parked"] == 0
    [one] = client.see("/api/parked", state="skipped")["items"]
    [by] = [key.id for key in annals.api_keys.list() if key.scope == "admin"]
    assert (one["position"], one["skip"]["reason"]) == (position, REASON)
    assert one["skip"]["by"] == str(by)


def test_the_reason_of_a_skip_is_sealed_and_goes_with_whom_it_is_about(
    client: Clients, annals: Annals, database_url: str
) -> None:
    [position] = failed_of(park(client, database_url, "ada"))
    answer = client("admin").post(f"/api/parked/main/{position}/skip", json={"reason": REASON})
    assert answer.status_code == 200
    found = annals.residue_scan.scan([REASON])
    assert [one.place for one in found.findings if one.place.startswith("table")] == []
    client.erase("user", "external:ada")
    client.see("/api/users")
    [one] = client.see("/api/parked", state="skipped")["items"]
    assert one["skip"]["reason"] is None
    assert one["skip"]["by"]


def test_an_erasure_is_never_skipped(client: Clients, annals: Annals, database_url: str) -> None:
    client.send({"type": "group", "userId": "ada", "groupId": "acme"})
    client.see("/api/users")
    with owner(database_url) as conn:
        conn.execute("UPDATE views.memberships SET role = 'owner'")
    with refusing(database_url, "memberships", "role IS NOT NULL"):
        client.erase("user", "external:ada")
        until(lambda: client("read").get("/api/parked").json()["items"] != [])
        [one] = client("read").get("/api/parked").json()["items"]
        assert one["topic"] == "user.erased"
        place = f"/api/parked/main/{one['position']}"
        skip = client("admin").post(f"{place}/skip", json={"reason": REASON})
        assert "erasure" in problem(skip, 409)["detail"]
    assert client("admin").post(f"{place}/retry").json()["left"] == 0
    with owner(database_url) as conn:
        assert conn.execute("SELECT kind FROM views.contacts").fetchall() == [("account",)]


def change_type(client: Clients) -> None:
    client.see("/api/users")
    changed = {"scope": "user.property", "name": "plan", "type": "number"}
    answer = client("admin").post("/api/catalogue/type", json=changed)
    assert answer.status_code == 200, answer.text


def retire(client: Clients) -> None:
    client.see("/api/users")
    names = {"scope": "user.property", "names": ["plan"]}
    answer = client("admin").post("/api/catalogue/retire", json=names)
    assert answer.status_code == 200, answer.text


def choose_mrr(client: Clients) -> None:
    answer = client("admin").put("/api/settings", json={"mrr_property": "plan"})
    assert answer.status_code == 200, answer.text


def decision_parked(client: Clients, url: str, decide: Callable[[Clients], None]) -> str:
    """Has what an admin decides parked; returns where."""
    client.send(identify("ada", "5"))
    client.see("/api/users")
    with (
        refusing(url, "catalogue", "retired_at IS NULL AND value_type <> 'number'"),
        refusing(url, "definitions", "family <> 'settings'"),
    ):
        decide(client)
        until(lambda: client("read").get("/api/parked").json()["items"] != [])
    [one] = client("read").get("/api/parked").json()["items"]
    return str(one["position"])


@pytest.mark.parametrize("decide", [change_type, retire, choose_mrr])
def test_what_the_workspace_decided_is_never_skipped_and_can_be_tried_again(
    client: Clients, annals: Annals, database_url: str, decide: Callable[[Clients], None]
) -> None:
    position = decision_parked(client, database_url, decide)
    place = f"/api/parked/main/{position}"
    skip = client("admin").post(f"{place}/skip", json={"reason": REASON})
    assert "decide it the other way" in problem(skip, 409)["detail"]
    assert client("admin").post(f"{place}/retry").json()["left"] == 0
    live = dump(database_url)
    start_over(annals)
    until(lambda: client.see("/api/status")["behind"] == 0)
    assert dump(database_url) == live


def test_what_the_workspace_decided_is_skipped_where_its_row_does_not_open(
    client: Clients, annals: Annals, database_url: str
) -> None:
    position = decision_parked(client, database_url, change_type)
    partition, _, number = position.partition(":")
    alter(database_url, Position(int(partition), int(number)), ALTERATIONS["state"])
    answer = client("admin").post(f"/api/parked/main/{position}/skip", json={"reason": REASON})
    assert answer.json() == {"applied": 0, "left": 0, "error": None}


def test_a_parked_event_whose_row_is_gone_can_be_skipped_and_says_what_to_do(
    client: Clients, database_url: str
) -> None:
    [position] = failed_of(park(client, database_url, "ada"))
    partition, _, number = position.partition(":")
    with owner(database_url) as conn:
        for reader in ("retention", "counters"):
            conn.execute(
                "INSERT INTO views.parked (projector, log_partition, position, error)"
                " VALUES (%s, %s, %s, 'Tampered')",
                (reader, partition, number),
            )
        gone = conn.execute(
            "DELETE FROM log.events WHERE log_partition = %s AND position = %s",
            (partition, number),
        )
        assert gone.rowcount == 1
    admin = client("admin")
    for reader in ("main", "retention", "counters"):
        retry = admin.post(f"/api/parked/{reader}/{position}/retry")
        assert "skip it" in problem(retry, 409)["detail"]
    [waiting] = [
        str(one["position"])
        for one in client.see("/api/parked", reader="main")["items"]
        if one["state"] == "waiting"
    ]
    retry = admin.post(f"/api/parked/main/{waiting}/retry")
    assert retry.json() == {"applied": 0, "left": 2, "error": "RowLost"}
    skip = admin.post(f"/api/parked/main/{position}/skip", json={"reason": REASON})
    assert skip.json() == {"applied": 1, "left": 0, "error": None}


def test_the_command_lists_retries_and_skips(
    client: Clients, annals: Annals, database_url: str
) -> None:
    items = park(client, database_url, "ada", "bob")
    one, other = failed_of(items)
    told = command(annals, database_url, "list")
    assert told.exit_code == 0
    assert told.output.count("main  ") == 4
    assert "CheckViolation (3 tries)" in told.output
    assert command(annals, database_url, "list", "--reader", "counters").output == ""
    done = command(annals, database_url, "retry", one)
    assert (done.exit_code, done.stdout) == (0, "2 applied, 0 left\n")
    assert command(annals, database_url, "retry", one).exit_code == 1
    assert command(annals, database_url, "skip", other).exit_code == 2
    done = command(annals, database_url, "skip", other, "--reason", REASON)
    assert (done.exit_code, done.stdout) == (
        0,
        f"main goes on without {other}.\n1 applied, 0 left\n",
    )
    assert command(annals, database_url, "list").output == ""
    told = command(annals, database_url, "list", "--state", "skipped")
    assert f"skipped by operator: {REASON}" in told.output
    for words in ((), ("list",), ("retry",), ("skip",)):
        assert "parked" in command(annals, database_url, *words, "--help").output


def test_a_command_whose_retry_fails_says_so(
    client: Clients, annals: Annals, database_url: str
) -> None:
    [position] = failed_of(park(client, database_url, "ada"))
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        failed = command(annals, database_url, "retry", position)
    assert failed.exit_code == 1
    assert "0 applied, 2 left" in failed.output
    assert "CheckViolation" in failed.output
