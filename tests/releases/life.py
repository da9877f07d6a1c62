"""A small whole life, sent over HTTP: whatever a data folder can hold stands in it once.

Told in two parts. The first happens on the day before, so that a goal can be missed, a signal come
back and a day begin without anybody waiting for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.releases import definitions as d
from tests.releases.definitions import BOB, Json
from tests.releases.server import Server

ADA, GRACE, LI, DORA, FAY = (f"external:{id}" for id in ("ada", "grace", "李-1", "dora", "fay"))
ACME, GLOBEX, KAISHA = "external:acme", "external:globex", "external:株式会社"


def _identify(user: str | None, at: str, **traits: Any) -> Json:
    return {"type": "identify", "userId": user, "timestamp": at, "traits": traits}


def _group(
    user: str | None, account: str, at: str, role: Json | None = None, **traits: Any
) -> Json:
    context = {} if role is None else {"relationship": role}
    sent = {"type": "group", "groupId": account, "timestamp": at, "traits": traits}
    return sent | {"context": context} | ({} if user is None else {"userId": user})


def _track(user: str, event: str, at: str, account: str | None = None, **metadata: Any) -> Json:
    context = {} if account is None else {"groupId": account}
    sent = {"type": "track", "event": event, "timestamp": at, "properties": metadata}
    return sent | {"userId": user, "context": context}


def _of_account(account: str, call: str, at: str, **fields: Any) -> Json:
    """Something that an account did by itself."""
    context = {"groupId": account, **fields.pop("context", {})}
    return {"type": call, "anonymousId": account, "timestamp": at, "context": context, **fields}


SPRING = {
    "campaign": {"name": "spring", "source": "newsletter", "medium": "email"},
    "page": {"referrer": "https://news.example/"},
}
PRICING = {"properties": {"url": "https://acme.example/pricing?ref=7"}, "context": SPRING}

FIRST: list[Json] = [
    _identify(
        "ada",
        "2024-02-01T09:00:00Z",
        name="Ada Ødegård 🦉",
        email="Ada@Acme.example",
        plan="free",
        seats=3,
        signed_up="2024-02-01",
        is_admin=True,
        tags=["early", "größer"],
        code=17,
        fax="1",
        stuck=False,
        helped=False,
    ),
    _identify(None, "2024-02-02T09:00:00Z", name="Grace", email="grace@globex.example", seats=1),
    _identify("grace", "2024-02-03T09:00:00Z", plan="free", stuck=False, nickname=""),
    _identify(
        "李-1", "2024-03-01T00:00:00+08:00", name="李小龍", plan="größer", seats=2**40, code=4
    ),
    _identify("bob", "2024-03-02T00:00:00Z", name="Bob Gone", email=BOB, plan="pro"),
    _identify("carl", "2024-03-03T00:00:00Z", name="Carl Gone", email="carl@gone.example"),
    _identify("eve", "2024-03-04T00:00:00Z", name="Eve Back", email="eve@back.example"),
    _identify("dora", "2024-03-05T00:00:00Z", name="Dora Held", plan="gone"),
    _identify("fay", "2024-03-06T00:00:00Z", name="Fay Listed", seats=99.5),
    _identify("visitor-7", "2024-03-07T00:00:00Z", visits=7, plan="none"),
    _group(
        "ada",
        "acme",
        "2024-02-01T10:00:00Z",
        {"role": "member"},
        name="Acme",
        domain="acme.example",
        mrr=249.5,
        currency="EUR",
        renewal_date="2024-12-31",
        plan="free",
        stuck=False,
        helped=False,
    ),
    _group("bob", "acme", "2024-03-02T10:00:00Z", {"role": "owner"}),
    _group("carl", "acme", "2024-03-03T10:00:00Z"),
    _group(
        "grace", "globex", "2024-03-03T11:00:00Z", {"role": "admin"}, name="Globex", mrr="99.50"
    ),
    _group("visitor-7", "globex", "2024-03-07T11:00:00Z", {"role": "guest"}),
    _group(
        "visitor-7", "株式会社", "2024-03-07T12:00:00Z", {"role": "owner"}, name="株式会社アニュ"
    ),
    _group(None, "umbrella-2", "2024-03-08T12:00:00Z", name="Umbrella", domain="umbrella.example"),
    _group(None, "umbrella", "2024-03-08T13:00:00Z", plan="free", mrr=5),
    _group("fay", "hooli", "2024-03-09T13:00:00Z", {"role": "owner"}, name="Hooli Gone"),
    # Ended by retention: what is dropped, and what is summed.
    _track("ada", "Paid", "2023-05-01T12:00:00Z", "acme", amount=1, currency="EUR"),
    _track("ada", "Paid", "2024-03-10T12:00:00Z", "acme", amount=2, currency="EUR"),
    _track("grace", "Signed in", "2024-03-11T12:00:00Z"),
    _of_account("acme", "track", "2024-03-12T12:00:00Z", event="Renewed"),
    # What stays.
    _track("ada", "Fair visited", "2024-12-10T12:00:00Z", "acme", stand="B 4"),
    _track("ada", "Paid", "2025-01-10T12:00:00Z", "acme", amount=99.5, currency="EUR"),
    _track(
        "ada", "Paid", "2025-02-10T12:00:00Z", "acme", amount=250, currency="NOK", due="2025-01-31"
    ),
    _track("bob", "Paid", "2025-02-11T12:00:00Z", "acme", amount=900, currency="EUR", ok=True),
    _track("carl", "Paid", "2025-02-12T12:00:00Z", "acme", amount=10, currency="EUR"),
    _track("visitor-7", "Paid", "2025-02-13T12:00:00Z", "globex", amount=100, currency="EUR"),
    _track("李-1", "Complained", "2025-02-14T12:00:00Z", why="太貴了"),
    _track("ada", "Old event", "2025-02-15T12:00:00Z"),
    {"type": "page", "userId": "ada", "timestamp": "2025-02-16T12:00:00Z", **PRICING},
    {
        "type": "screen",
        "userId": "ada",
        "name": "Einstellungen ⚙",
        "timestamp": "2025-02-17T12:00:00Z",
        "context": {"groupId": "acme"},
    },
    _of_account("acme", "track", "2025-03-01T12:00:00Z", event="Paid", properties={"amount": 5}),
    _of_account("acme", "page", "2025-03-02T12:00:00Z", **PRICING),
    _of_account("acme", "screen", "2025-03-03T12:00:00Z", name="Billing"),
    {"type": "track", "userId": "ada", "event": "Signed in"},
]
SECOND: list[Json] = [
    _identify("ada", "2025-04-01T09:00:00Z", plan="pro", nickname="Countess", fax=None),
    _identify("grace", "2025-04-02T09:00:00Z", plan="pro", email="grace@globex.example"),
    _identify(None, "2025-04-03T09:00:00Z", email="li@kaisha.example", name="Bruce"),
    _identify("李-1", "2025-04-04T09:00:00Z", email="li@kaisha.example"),
    _identify("dora", "2025-04-04T10:00:00Z", email="Dora@Held.example"),
    _group("ada", "acme", "2025-04-05T09:00:00Z", {"role": "owner", "since": 2024}, plan="pro"),
    _group(None, "globex", "2025-04-06T09:00:00Z", plan="pro", domain="globex.example"),
    _group(None, "umbrella", "2025-04-07T09:00:00Z", domain="umbrella.example"),
    {
        "type": "alias",
        "userId": "ada",
        "previousId": "visitor-7",
        "timestamp": "2025-04-08T09:00:00Z",
    },
]
SIGNED_IN = {"type": "track", "userId": "ada", "event": "Signed in"}


def _numbered(messages: list[Json], part: str) -> list[Json]:
    return [{"messageId": f"{part}-{n}", **message} for n, message in enumerate(messages)]


def first_part(annals: Server) -> dict[str, str]:
    """Everything up to the day before. Returns ids, by name, that the second part needs."""
    annals.send(_numbered(FIRST, "first"))
    annals.put("/api/settings", d.settings(links=False))
    ids = _defined(annals)
    annals.settle()
    for kind, people in (("users", (ADA, GRACE)), ("accounts", (ACME, GLOBEX))):
        for one in people:
            _is(annals, kind, one, stuck=True)
    annals.settle()
    annals.send(_numbered(SECOND, "second"))
    for kind, one in (("users", ADA), ("accounts", ACME)):
        _is(annals, kind, one, helped=True)
    for kind, one in (("users", GRACE), ("accounts", GLOBEX)):
        _is(annals, kind, one, stuck=False)
    annals.settle()
    for kind, one in (("users", GRACE), ("accounts", GLOBEX)):
        _is(annals, kind, one, stuck=True)
    annals.settle()
    for kind, one in (("users", GRACE), ("accounts", KAISHA)):
        set_by_hand = {"stage": "paying", "reason": "Zugesagt, mündlich"}
        annals.post(f"/api/{kind}/{{id}}/stage", set_by_hand, id=one)
    annals.settle()
    annals.delete("/api/users/{id}/stage", id=GRACE)
    annals.delete("/api/accounts/{id}/stage", id=KAISHA)
    annals.post("/api/accounts/{id}/stage", {"stage": None, "reason": "under review"}, id=KAISHA)
    annals.delete("/api/accounts/{id}/users/{user}", "write", id=GLOBEX, user=GRACE)
    annals.settle()
    return ids


def _is(annals: Server, kind: str, one: str, **values: bool) -> None:
    id = one.removeprefix("external:")
    if kind == "users":
        annals.send([{"type": "identify", "userId": id, "traits": values}])
    else:
        annals.send([{"type": "group", "groupId": id, "traits": values}])


def _defined(annals: Server) -> dict[str, str]:
    make, ids = annals.made, dict[str, str]()
    acme = annals.get("/api/accounts/{id}", id=ACME)["id"]
    for kind in ("user", "account"):
        stages = (
            d.stages_of_users if kind == "user" else lambda first: d.stages("account", "A", first)
        )
        old = _active(annals, stages("young"))
        annals.put(f"/api/definitions/{old}", stages("junior"))
        new = stages("free")
        ids[f"stages of {kind}s"] = _active(annals, new | {"name": f"Life of {kind}s"})
        profile = d.health(kind, "Well")
        ids[f"health of {kind}s"] = _active(annals, profile)
        ids[f"score of {kind}s"] = _active(annals, d.score(kind, "Fit"))
        ids[f"signal of {kind}s"] = _active(annals, d.signal(kind, "Stuck"))
        for one in (profile, d.score(kind, "Fat"), d.signal(kind, "Stack"), stages("x")):
            draft = make("/api/definitions", one | {"name": f"Draft of a {one['type']}"})
            annals.delete(f"/api/definitions/{draft}")
            gone = _active(annals, one | {"name": f"Gone {one['type']}", **_elsewhere(one)})
            annals.put(f"/api/definitions/{gone}", one | {"name": "Gone", **_elsewhere(one)})
            if one["type"] != "stages":
                annals.post(f"/api/definitions/{gone}/archive")
        # The list of stages that holds is the first again.
        ids[f"stages of {kind}s"] = _active(annals, new | {"name": f"Life of all {kind}s"})
    for name, condition in {
        "Every test": d.PROPERTY_TESTS,
        "Attributes": d.ATTRIBUTE_TESTS,
        "Activity": d.ACTIVITY_TESTS,
        "Metadata": d.METADATA_TESTS,
        "Here today": d.TODAY,
        "Of accounts": d.of_accounts(acme),
        "Him": d.some(d.IS_BOB, d.attribute("external_id", "is", value="bob")),
    }.items():
        ids[name] = make("/api/segments", d.segment("user", name, condition))
    ids["Decisions"] = make(
        "/api/segments", d.segment("user", "Decisions", d.of_decisions(ids["Every test"]))
    )
    ids["Of users"] = make("/api/segments", d.segment("account", "Of users", d.of_users()))
    him = d.segment("user", "Him or dora", d.some(d.IS_BOB, d.prop("plan", "is", value="gone")))
    annals.put(f"/api/segments/{ids['Him']}", him)
    for kind, members in (("user", [LI, FAY, "external:bob"]), ("account", [ACME])):
        listed = make("/api/segments", {"kind": kind, "name": "指名", "members": members})
        more = {"add": [DORA] if kind == "user" else [GLOBEX], "remove": members[:1]}
        annals.post(f"/api/segments/{listed}/members", more)
        ids[f"list of {kind}s"] = listed
        gone = make("/api/segments", d.segment(kind, "Gone", d.every()))
        annals.settle()
        annals.delete(f"/api/segments/{gone}")
    view = make("/api/saved-views", d.VIEW)
    annals.put(f"/api/saved-views/{view}", d.VIEW | {"segment": ids["Activity"]})
    gone = make("/api/saved-views", d.VIEW | {"name": "Gone"})
    annals.delete(f"/api/saved-views/{gone}")
    annals.put("/api/settings", d.settings())
    sent = make("/api/destinations", d.destination("CRM", ids["Every test"]))
    annals.post(f"/api/destinations/{sent}/activate")
    annals.post(f"/api/destinations/{sent}/pause")
    annals.put(f"/api/destinations/{sent}", d.destination(f"CRM of {BOB}"))
    annals.post(f"/api/destinations/{sent}/secret")
    gone = make("/api/destinations", d.destination("Archived"))
    annals.post(f"/api/destinations/{gone}/activate")
    annals.post(f"/api/destinations/{gone}/archive")
    draft = make("/api/destinations", d.destination("Draft"))
    annals.delete(f"/api/destinations/{draft}")
    return ids


def _active(annals: Server, definition: Json) -> str:
    id = annals.made("/api/definitions", definition)
    annals.post(f"/api/definitions/{id}/activate")
    return id


def _elsewhere(definition: Json) -> Json:
    """A stage has one profile: another one is for another stage."""
    return {"stages": ["gone"]} if definition["type"] == "health_profile" else {}


def second_part(annals: Server, ids: dict[str, str], end_old_activity: Callable[[], None]) -> None:
    """The day after: what the clock brought about, what is ended, and what is forgotten."""
    annals.settle()
    for kind, one in (("users", GRACE), ("accounts", GLOBEX)):
        _is(annals, kind, one, helped=True)
    for months, counts in ((36, "drop"), (24, "keep")):
        annals.put("/api/settings", d.settings({"months": months, "counts": counts}))
        end_old_activity()
    annals.put("/api/settings", d.settings())
    annals.settle()
    for scope, names in (("event", ["Old event"]), ("user.property", ["fax", "visits"])):
        annals.post("/api/catalogue/retire", {"scope": scope, "names": names})
    annals.post("/api/catalogue/restore", {"scope": "user.property", "names": ["visits"]})
    typed = {"scope": "user.property", "name": "code", "type": "string"}
    annals.post("/api/catalogue/type", typed)
    for scope in ("write", "read", "audit", "comply", "admin"):
        key = annals.made("/api/api-keys", {"name": f"Schlüssel: {scope}", "scope": scope})
        if scope == "audit":
            annals.delete(f"/api/api-keys/{key}")
    _forgotten(annals, ids)
    back = _identify("eve", "2025-06-01T00:00:00Z", name="Eve Anew", email="eve@back.example")
    annals.send([back | {"messageId": "back-0"}])
    annals.settle()


def _forgotten(annals: Server, ids: dict[str, str]) -> None:
    for id, reason in ((DORA, "case-17"), (FAY, "case-18")):
        hold = {"kind": "user", "id": id, "reason": reason}
        held = annals.post("/api/holds", hold, "comply")["id"]
    annals.post(f"/api/holds/{held}/release", {"reason": "closed"}, "comply")
    confirmed = {"confirm": "confirm", "reason": "art-17"}
    asked: list[Json] = [
        {"kind": "user", "id": f"email:{BOB}", "suppress": True},
        {"kind": "user", "id": "external:carl"},
        {"kind": "user", "ids": ["external:eve", DORA, "external:nobody"], "suppress": True},
        {"kind": "account", "id": "external:hooli"},
        {"kind": "user", "segment": ids["list of users"]},
    ]
    for n, whom in enumerate(asked):
        headers = {"Idempotency-Key": f"ticket-{n}"}
        erasure = annals.post("/api/erasures", whom | confirmed, "comply", headers=headers)["id"]
        annals.until(f"/api/erasures/{erasure}", lambda it: it["completed_at"] is not None)
    for name in ("external:eve", "email:eve@back.example"):
        annals.post("/api/suppressions/lift", {"kind": "user", "id": name}, "comply")
