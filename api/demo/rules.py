"""The definitions of each demo source: stages, health, scores, signals, segments.

They are sent as any admin would send them, over HTTP, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

KNOWN_AFTER = 500
"""Messages of a source after which every property and event that its rules ask for is known."""

Json = dict[str, Any]


class Rules(NamedTuple):
    """
    Attributes:
        stages: of users or accounts, in order; those of several sources make one list a kind.
        definitions: health profiles, scores and signals.
        settings: the workspace's.
    """

    stages: list[tuple[str, Json]]
    definitions: list[Json]
    segments: list[Json]
    settings: Json


def define(client: httpx.Client, rules: Sequence[Rules]) -> None:
    """Defines and activates everything, unless a definition exists already.

    Args:
        client: with a key of scope admin; the names in the rules must be projected already.

    Raises:
        httpx.HTTPError: a request was refused, or the service cannot be reached.
    """
    if _taken(client.get("/api/definitions"))["items"]:
        return
    for source_rules in rules:
        _taken(client.put("/api/settings", json=source_rules.settings))
    stages = [stage for source_rules in rules for stage in source_rules.stages]
    for kind in ("account", "user"):
        of_kind = [stage for of, stage in stages if of == kind]
        if of_kind:
            _activate(client, {"type": "stages", "kind": kind, "name": "Life", "stages": of_kind})
    for source_rules in rules:
        for definition in source_rules.definitions:
            _activate(client, definition)
        for segment in source_rules.segments:
            _taken(client.post("/api/segments", json=segment))


def _activate(client: httpx.Client, definition: Json) -> None:
    id = _taken(client.post("/api/definitions", json=definition))["id"]
    _taken(client.post(f"/api/definitions/{id}/activate"))


def _taken(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


def _stage(kind: str, name: str, of: str, condition: Json) -> tuple[str, Json]:
    return kind, {"name": name, "type": of, "condition": condition}


def _health(kind: str, name: str, stages: list[str], good: Json, bad: Json) -> Json:
    conditions = {"good": good, "bad": bad}
    return {"type": "health_profile", "kind": kind, "name": name, "stages": stages} | conditions


def _score(kind: str, name: str, *rules: tuple[str, int, Json]) -> Json:
    parts = [{"name": rule, "weight": weight, "condition": of} for rule, weight, of in rules]
    return {"type": "score", "kind": kind, "name": name, "rules": parts}


def _signal(kind: str, name: str, condition: Json) -> Json:
    return {"type": "signal", "kind": kind, "name": name, "condition": condition}


def _segment(kind: str, name: str, condition: Json) -> Json:
    return {"kind": kind, "name": name, "condition": condition}


def _is(name: str, value: object) -> Json:
    return {"type": "property", "name": name, "test": {"op": "is", "value": value}}


def _is_set(name: str) -> Json:
    return {"type": "property", "name": name, "test": {"op": "is_set"}}


def _not(condition: Json) -> Json:
    return {"type": "not", "of": condition}


def _in_account(stage: str) -> Json:
    where = {"type": "stage", "stages": [stage]}
    return {"type": "accounts", "quantifier": {"op": "any"}, "where": where}


def _did(name: str, times: int, days: int | None = None) -> Json:
    """At least so many times, ever or within some days."""
    count = {"op": "at_least", "times": times}
    condition = {"type": "activity", "activity": "event", "name": name, "count": count}
    return (
        condition if days is None else condition | {"period": {"type": "last_days", "days": days}}
    )


COMPANY = Rules(
    stages=[
        _stage("account", "Churned", "churned", _is("plan", "cancelled")),
        _stage("account", "Trial", "trial", _is("plan", "trial")),
        _stage("account", "Free", "free", _is("plan", "free")),
        _stage("account", "Customer", "paying", _is_set("plan")),
        _stage("user", "Customer", "paying", _in_account("Customer")),
        _stage("user", "Trial", "trial", _in_account("Trial")),
    ],
    definitions=[
        _health(
            "account",
            "Customers",
            ["Customer"],
            good=_did("invoice sent", 3, 30),
            bad=_not(_did("signed in", 1, 30)),
        ),
        _score(
            "account",
            "Activation",
            ("Sends invoices", 3, _did("invoice sent", 1, 90)),
            ("Connected an app", 2, _did("integration connected", 1, 365)),
        ),
        _signal("account", "Upsell", _did("usage limit reached", 1, 60)) | {"reentry_hours": 168},
        _health(
            "user",
            "At work",
            ["Customer", "Trial"],
            good=_did("signed in", 1, 30),
            bad=_not(_did("signed in", 1, 120)),
        ),
        _score(
            "user",
            "Engagement",
            ("Signs in", 2, _did("signed in", 2, 30)),
            ("Sends invoices", 2, _did("invoice sent", 1, 30)),
            ("Reports", 1, _did("report exported", 1, 90)),
        ),
        _signal("user", "Inviting others", _did("teammate invited", 2, 30)),
    ],
    segments=[
        _segment("user", "Power users", _did("invoice sent", 5, 30)),
        _segment(
            "account",
            "Renewing soon",
            {
                "type": "property",
                "name": "renewal_date",
                "test": {"op": "in_next_days", "days": 60},
            },
        ),
    ],
    settings={
        "currency": "EUR",
        "backdated_stages": True,
        "links": [
            {
                "kind": "account",
                "name": "Billing",
                "url": "https://billing.example/customers/{external_id}",
            },
            {"kind": "user", "name": "Write to", "url": "mailto:{email}"},
        ],
    },
)

WIKIPEDIA = Rules(
    stages=[
        _stage("account", "Busy", "other", _did("page edited", 1_000)),
        _stage("account", "Growing", "other", _did("page edited", 100)),
        _stage("account", "Small", "other", _did("page edited", 1)),
        _stage("user", "Robot", "other", _is("robot", True)),
        _stage("user", "Regular", "other", _did("page edited", 10)),
        _stage("user", "Newcomer", "trial", _did("page edited", 1)),
    ],
    definitions=[
        _health(
            "user",
            "Regulars",
            ["Regular"],
            good=_did("page edited", 50),
            bad=_not(_did("page edited", 15)),
        ),
        _score(
            "user",
            "Contribution",
            ("Edited", 1, _did("page edited", 1)),
            ("Edits often", 2, _did("page edited", 10)),
            ("Edits a lot", 3, _did("page edited", 100)),
        ),
        _signal("account", "A crowd", _did("page edited", 5_000)),
    ],
    segments=[
        _segment(
            "user",
            "Busy people",
            {"type": "all", "of": [_did("page edited", 50), _not(_is("robot", True))]},
        )
    ],
    settings={"backdated_stages": True},
)

SHOP = Rules(
    stages=[
        _stage("user", "Buyer", "paying", _did("order completed", 1)),
        _stage("user", "Shopper", "trial", _did("product added to cart", 1)),
        _stage("user", "Visitor", "free", _is_set("lifecycle")),
    ],
    definitions=[
        _health(
            "user",
            "Buyers",
            ["Buyer"],
            good=_did("order completed", 2),
            bad=_did("payment failed", 1),
        ),
        _score(
            "user",
            "Interest",
            ("Searches", 1, _did("products searched", 5)),
            ("Fills a cart", 2, _did("product added to cart", 1)),
            ("Orders", 3, _did("order completed", 1)),
        ),
        _signal("user", "Payment trouble", _did("payment failed", 1)),
    ],
    segments=[_segment("user", "Loyal buyers", _did("order completed", 3))],
    settings={"backdated_stages": True},
)
