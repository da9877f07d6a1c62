"""A question about metadata is answered once it has been counted, and says how far that is."""

from __future__ import annotations

import json

from tests.serving import Clients, problem

PAID_MUCH = {
    "type": "activity",
    "activity": "event",
    "name": "paid",
    "where": [{"name": "sum", "test": {"op": "at_least", "value": 50}}],
}


def test_a_filter_by_metadata_is_refused_until_it_is_counted(client: Clients) -> None:
    for name, amount in (("ann", 50), ("bob", 5)):
        sent = {"type": "track", "userId": name, "event": "paid", "properties": {"sum": amount}}
        client.send(sent)
    client.see("/api/users")
    asked = {"filter": json.dumps(PAID_MUCH)}
    answer = client("read").get("/api/users", params=asked)
    refused = problem(answer, 503, "not-ready")
    assert "'paid' is being counted" in refused["detail"]
    assert answer.headers["Retry-After"] == "1"
    listed = client.see("/api/users", **asked)  # asks until it is ready
    assert ([one["external_id"] for one in listed["items"]], listed["total"]) == (["ann"], 1)
    client.send({"type": "track", "userId": "bob", "event": "paid", "properties": {"sum": 51.5}})
    listed = client.see("/api/users", sort="external_id", **asked)
    assert [one["external_id"] for one in listed["items"]] == ["ann", "bob"]
