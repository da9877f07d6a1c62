"""Counters over HTTP: seen by all who read, refused beyond the bounds, there for a draft's turn."""

from __future__ import annotations

from typing import Any

from projections.counters.filler import FENCE
from projections.kernel import fences
from tests.serving import Clients, problem, until


def paid(least: int) -> dict[str, Any]:
    return {
        "type": "activity",
        "activity": "event",
        "name": "paid",
        "where": [{"name": "sum", "test": {"op": "at_least", "value": least}}],
    }


def preview(client: Clients, scope: str, least: int) -> Any:
    body = {"kind": "user", "condition": paid(least), "sample": 0}
    return client(scope).post("/api/segments/preview", json=body)


def send_paid(client: Clients) -> None:
    sent = {"type": "track", "userId": "ann", "event": "paid", "properties": {"sum": 50}}
    client.send(sent)
    client.see("/api/users")


def test_a_key_that_asks_for_too_much_hears_how_long_to_wait_and_others_are_answered(
    client: Clients,
) -> None:
    send_paid(client)
    refused = [
        answer for n in range(21) if (answer := preview(client, "read", n)).status_code > 500
    ]
    assert refused  # those that are being counted
    answer = preview(client, "read", 1_000)
    said = problem(answer, 429, "too-many")
    assert "20 counters of metadata are there for questions of this API key" in said["detail"]
    assert 3_000 < int(answer.headers["Retry-After"]) <= 3_600
    until(lambda: preview(client, "admin", 40).status_code == 200)
    assert preview(client, "admin", 40).json()["count"] == 1
    until(lambda: preview(client, "read", 7).status_code == 200)
    seen = client.see("/api/counters")
    assert (seen["number"], seen["asked"], seen["key_bound"]) == (21, 21, 20)
    assert client.see("/api/status")["counters"] == {
        name: seen[name] for name in ("number", "asked", "bound", "asked_bound", "key_bound")
    }


def test_what_is_counted_is_listed_with_who_needs_it(client: Clients) -> None:
    send_paid(client)
    segment = {"kind": "user", "name": "Rich", "condition": paid(40)}
    until(lambda: client("admin").post("/api/segments", json=segment).status_code == 200)
    view = {"kind": "user", "name": "Paying", "filter": paid(1)}
    until(lambda: client("admin").post("/api/saved-views", json=view).status_code == 200)
    items = {one["where"][0]["test"]["value"]: one for one in client.see("/api/counters")["items"]}
    [rich], [paying] = items[40]["needed_by"], items[1]["needed_by"]
    assert (rich["family"], rich["name"]) == ("segment", "Rich")
    assert (paying["family"], paying["name"]) == ("saved_view", "Paying")
    assert items[40]["says"] == "event paid with sum is at least 40 occurred"
    assert (items[40]["state"], items[40]["filled"], items[40]["rows"]) == ("ready", 1.0, 1)
    assert items[40]["asked_by"] is None
    assert items[1]["asked_by"] is not None


def test_a_draft_whose_counter_has_gone_is_activated_once_it_is_counted_again(
    client: Clients,
) -> None:
    send_paid(client)
    rules = [{"name": "Paid", "weight": 1, "condition": paid(40)}]
    score = {"type": "score", "kind": "user", "name": "Value", "rules": rules}
    made: list[Any] = []

    def is_made() -> bool:
        made.append(client("admin").post("/api/definitions", json=score))
        return bool(made[-1].status_code == 200)

    until(is_made)
    with client.annals.views.connection() as conn:
        conn.execute("UPDATE views.counters SET last_used = 'epoch'")
    client.annals.counter_keeper().look()
    until(lambda: client.see("/api/status")["counters"]["number"] == 0)
    place = f"/api/definitions/{made[-1].json()['id']}/activate"
    with client.annals.views.connection() as conn, conn.transaction():
        fences.close(conn, FENCE)  # nothing is filled meanwhile
        refused = problem(client("admin").post(place), 503, "not-ready")
    assert "'paid' is being counted" in refused["detail"]
    until(lambda: client("admin").post(place).status_code == 200)
