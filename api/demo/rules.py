"""What the made-up company decides by: stages, health, scores, signals, segments and settings.

They are sent as any admin would send them, over HTTP, once.
"""

from __future__ import annotations

from typing import Any

import httpx

KNOWN_AFTER = 500
"""Messages of the company after which every property and event that is asked for here is known."""

Json = dict[str, Any]


def define(client: httpx.Client) -> None:
    """Defines and activates everything, unless there is some definition already.

    Args:
        client: with a key of scope admin; what it asks for has to be projected.

    Raises:
        httpx.HTTPError: one was refused, or the service cannot be reached.
    """
    if _taken(client.get("/api/definitions"))["items"]:
        return
    _taken(client.put("/api/settings", json=_SETTINGS))
    for definition in [*_of_accounts(), *_of_users()]:
        id = _taken(client.post("/api/definitions", json=definition))["id"]
        _taken(client.post(f"/api/definitions/{id}/activate"))
    for segment in _segments():
        _taken(client.post("/api/segments", json=segment))


def _taken(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


_SETTINGS: Json = {
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
}


def _of_accounts() -> list[Json]:
    return [
        _stages(
            "account",
            ("Churned", "churned", _plan("cancelled")),
            ("Trial", "trial", _plan("trial")),
            ("Free", "free", _plan("free")),
            ("Customer", "paying", {"type": "property", "name": "plan", "test": {"op": "is_set"}}),
        ),
        {
            "type": "health_profile",
            "kind": "account",
            "name": "Customers",
            "stages": ["Customer"],
            "good": _did("invoice sent", 3, 30),
            "bad": _not(_did("signed in", 1, 30)),
        },
        {
            "type": "score",
            "kind": "account",
            "name": "Activation",
            "rules": [
                _rule("Sends invoices", 3, _did("invoice sent", 1, 90)),
                _rule("Connected an app", 2, _did("integration connected", 1, 365)),
            ],
        },
        {
            "type": "signal",
            "kind": "account",
            "name": "Upsell",
            "condition": _did("usage limit reached", 1, 60),
            "reentry_hours": 24 * 7,
        },
    ]


def _of_users() -> list[Json]:
    customers = {"type": "stage", "stages": ["Customer"]}
    trials = {"type": "stage", "stages": ["Trial"]}
    return [
        _stages(
            "user",
            ("Customer", "paying", _in_account(customers)),
            ("Trial", "trial", _in_account(trials)),
        ),
        {
            "type": "health_profile",
            "kind": "user",
            "name": "At work",
            "stages": ["Customer", "Trial"],
            "good": _did("signed in", 1, 30),
            "bad": _not(_did("signed in", 1, 120)),
        },
        {
            "type": "score",
            "kind": "user",
            "name": "Engagement",
            "rules": [
                _rule("Signs in", 2, _did("signed in", 2, 30)),
                _rule("Sends invoices", 2, _did("invoice sent", 1, 30)),
                _rule("Reports", 1, _did("report exported", 1, 90)),
            ],
        },
        {
            "type": "signal",
            "kind": "user",
            "name": "Inviting others",
            "condition": _did("teammate invited", 2, 30),
        },
    ]


def _segments() -> list[Json]:
    return [
        {
            "kind": "user",
            "name": "Power users",
            "condition": _did("invoice sent", 5, 30),
        },
        {
            "kind": "account",
            "name": "Renewing soon",
            "condition": {
                "type": "property",
                "name": "renewal_date",
                "test": {"op": "in_next_days", "days": 60},
            },
        },
    ]


def _stages(kind: str, *stages: tuple[str, str, Json]) -> Json:
    told = [{"name": name, "type": of, "condition": condition} for name, of, condition in stages]
    return {"type": "stages", "kind": kind, "name": "Life", "stages": told}


def _rule(name: str, weight: int, condition: Json) -> Json:
    return {"name": name, "weight": weight, "condition": condition}


def _plan(value: str) -> Json:
    return {"type": "property", "name": "plan", "test": {"op": "is", "value": value}}


def _not(condition: Json) -> Json:
    return {"type": "not", "of": condition}


def _in_account(condition: Json) -> Json:
    return {"type": "accounts", "quantifier": {"op": "any"}, "where": condition}


def _did(name: str, times: int, days: int) -> Json:
    return {
        "type": "activity",
        "activity": "event",
        "name": name,
        "count": {"op": "at_least", "times": times},
        "period": {"type": "last_days", "days": days},
    }
