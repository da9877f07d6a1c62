"""The definitions of a stored life: every type of condition, test, count, period and quantifier.

Whoever opens the folder in a year must find the same decisions. So what moves with the days asks
for what lies in December 2024 alone: it holds of nobody, on the day of recording and ever after.
The one exception, `TODAY`, is entered on the day before the recording and left when the day begins.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

BOB = "bob@gone.example"
"""Who is named by value in definitions, and erased: that cleans them."""

PERIODS: list[Json] = [
    {"type": name}
    for name in (
        "today",
        "yesterday",
        "this_week",
        "last_week",
        "this_month",
        "last_month",
        "this_quarter",
        "last_quarter",
        "this_year",
        "last_year",
    )
] + [{"type": "last_days", "days": 30}]


def prop(name: str, op: str, **test: Any) -> Json:
    return {"type": "property", "name": name, "test": {"op": op, **test}}


def attribute(name: str, op: str, **test: Any) -> Json:
    return {"type": "attribute", "name": name, "test": {"op": op, **test}}


def did(activity: str, name: str, **fields: Any) -> Json:
    return {"type": "activity", "activity": activity, "name": name, **fields}


def every(*of: Json) -> Json:
    return {"type": "all", "of": list(of)}


def some(*of: Json) -> Json:
    return {"type": "any", "of": list(of)}


def no(of: Json) -> Json:
    return {"type": "not", "of": of}


IS_BOB = attribute("email", "is", value=BOB)
IN_2025 = {"type": "between", "first": "2025-01-01", "last": "2025-12-31"}

PROPERTY_TESTS = some(
    prop("plan", "is", value="pro"),
    every(
        prop("plan", "is_not", value="free"),
        prop("plan", "in", values=["pro", "größer"]),
        prop("plan", "not_in", values=["none"]),
        prop("plan", "contains", value="ro"),
        prop("plan", "starts_with", value="p"),
        prop("tags", "contains", value="early"),
        prop("is_admin", "is", value=True),
    ),
    every(
        prop("seats", "greater", value=1),
        prop("seats", "at_least", value=2.5),
        prop("seats", "less", value=100),
        prop("seats", "at_most", value=99),
        prop("seats", "between", low=3, high=50),
    ),
    every(
        prop("signed_up", "before", at="2025-06-01"),
        prop("signed_up", "after", at="2024-01-01T00:00:00+01:00"),
        prop("signed_up", "more_than_days_ago", days=30),
        no(prop("signed_up", "in_next_days", days=30)),
    ),
    *(prop("signed_up", "in_period", period=period) for period in PERIODS),
    prop("signed_up", "in_period", period={"type": "since", "day": "2024-09-01"}),
    every(prop("nickname", "is_set"), prop("seats", "is_not_set")),
)
ATTRIBUTE_TESTS = some(
    every(attribute("name", "contains", value="Ada"), attribute("email", "is_set")),
    attribute("external_id", "starts_with", value="李"),
    every(
        attribute("first_seen", "before", at="2025-03-01"),
        attribute("last_seen", "after", at="2025-03-01"),
        attribute("registered_at", "is_set"),
    ),
)
ACTIVITY_TESTS = some(
    every(
        did("event", "Paid", count={"op": "at_least", "times": 2}, period=IN_2025),
        did("event", "Paid", count={"op": "at_most", "times": 9}),
        did("page", "acme.example/pricing", count={"op": "exactly", "times": 1}),
        did("screen", "Einstellungen ⚙", count={"op": "occurred"}),
        did("channel", "email", period={"type": "since", "day": "2024-12-01"}),
        did("campaign", "spring"),
        did("event", "Complained", count={"op": "did_not_occur"}),
    ),
    *(did("event", "Fair visited", period=period) for period in PERIODS),
)
METADATA_TESTS = some(
    did(
        "event",
        "Paid",
        where=[
            {"name": "amount", "test": {"op": "at_least", "value": 100}},
            {"name": "currency", "test": {"op": "in", "values": ["EUR", "NOK"]}},
        ],
    ),
    did("event", "Paid", where=[{"name": "due", "test": {"op": "before", "at": "2025-02-01"}}]),
)
TODAY = did("event", "Signed in", period={"type": "today"})


def segment(kind: str, name: str, condition: Json) -> Json:
    return {"kind": kind, "name": name, "condition": condition}


def stages(kind: str, name: str, first: str) -> Json:
    return {
        "type": "stages",
        "kind": kind,
        "name": name,
        "stages": [
            {"name": "gone", "type": "churned", "condition": prop("plan", "is", value="gone")},
            {"name": "paying", "type": "paying", "condition": prop("plan", "is", value="pro")},
            {"name": first, "type": "free", "condition": prop("plan", "is", value="free")},
            {"name": "trial", "type": "trial", "condition": every()},
        ],
    }


def stages_of_users(first: str) -> Json:
    found = stages("user", f"Life with {first}", first)
    found["stages"][2]["condition"] = some(found["stages"][2]["condition"], IS_BOB)
    return found


def health(kind: str, name: str) -> Json:
    stuck = prop("stuck", "is", value=True)
    return {
        "type": "health_profile",
        "kind": kind,
        "name": name,
        "stages": ["paying", None],
        "good": did("event", "Paid", count={"op": "at_least", "times": 2}),
        "bad": some(stuck, IS_BOB) if kind == "user" else stuck,
    }


def score(kind: str, name: str) -> Json:
    rules = [
        {"name": "pays", "weight": 3, "condition": prop("plan", "is", value="pro")},
        {"name": "is well", "weight": 2, "condition": {"type": "health", "health": ["good"]}},
        {"name": "stuck", "weight": -1, "condition": prop("stuck", "is", value=True)},
    ]
    if kind == "user":
        rules.append({"name": "is him", "weight": 1, "condition": IS_BOB})
    return {"type": "score", "kind": kind, "name": name, "rules": rules}


def signal(kind: str, name: str) -> Json:
    stuck = prop("stuck", "is", value=True)
    return {
        "type": "signal",
        "kind": kind,
        "name": name,
        "condition": some(stuck, IS_BOB) if kind == "user" else stuck,
        "reentry_hours": 1,
        "goal": prop("helped", "is", value=True),
        "goal_hours": 1,
    }


def of_decisions(segment_id: str) -> Json:
    return some(
        every(
            {"type": "stage", "stages": ["paying", None]},
            {"type": "health", "health": ["good", "bad"]},
            {"type": "score", "score": "Fit", "test": {"op": "greater", "value": 10}},
            {"type": "segment", "segment": segment_id},
        ),
        {"type": "signal", "signal": "Stuck", "on": True},
    )


def of_accounts(account_id: str) -> Json:
    large = prop("mrr", "greater", value=100)
    return some(
        {"type": "membership", "other": account_id, "role": "owner"},
        {"type": "membership", "ended": True},
        {"type": "accounts", "quantifier": {"op": "any"}, "where": large},
        {"type": "accounts", "quantifier": {"op": "every"}, "where": large},
        {"type": "accounts", "quantifier": {"op": "at_least", "count": 2}, "where": every()},
    )


def of_users() -> Json:
    pro = prop("plan", "is", value="pro")
    return some(
        attribute("domain", "is", value="acme.example"),
        {"type": "users", "quantifier": {"op": "every"}, "where": pro},
        {"type": "users", "quantifier": {"op": "any"}, "where": every(pro, PROPERTY_TESTS)},
        {"type": "users", "quantifier": {"op": "at_least", "count": 3}, "where": every()},
    )


def destination(name: str, segment_id: str | None = None) -> Json:
    return {
        "type": "destination",
        "name": name,
        "url": "https://hooks.crm.example/annals",
        "news": [
            {"about": "event", "names": ["Paid"]},
            {"about": "property", "names": ["plan"]},
            {"about": "stage"},
            {"about": "segment"},
        ],
        "kind": "user",
        "segment": segment_id,
    }


def settings(retention: Json | None = None, *, links: bool = True) -> Json:
    shown: list[Json] = [
        {
            "kind": "user",
            "name": "CRM",
            "url": "https://crm.example/{external_id}?p={properties.plan}",
        },
        {"kind": "account", "name": "Post", "url": "mailto:sales@crm.example?subject={name}"},
        {"kind": "account", "name": "Owner", "url": f"https://crm.example/{{id}}?of={BOB}"},
    ]
    return {
        "mrr_property": "mrr",
        "currency": "EUR",
        "renewal_property": "renewal_date",
        "time_zone": "Europe/Oslo",
        "users": {"properties": ["plan"], "events": ["Paid"]},
        "accounts": {"properties": ["mrr"], "events": ["Paid"]},
        "backdated_stages": True,
        "retention": retention,
        "links": shown if links else [],
    }


VIEW = {
    "kind": "user",
    "name": "Größte zuerst",
    "sort": "-property:seats",
    "columns": ["plan", "seats"],
    "filter": some(IS_BOB, prop("plan", "is", value="pro"), METADATA_TESTS),
}
