"""What a compliance officer does over HTTP: erase one or many, see how far, prove it, hold."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from typing import Any

import httpx
import pytest

from infra.erasure.certificates import verified
from tests.serving import Clients, account, problem, user

ERASE = {"kind": "user", "id": "external:ada", "confirm": "confirm"}
ROUTES = [
    ("POST", "/api/erasures", ERASE),
    ("GET", "/api/erasures", None),
    ("POST", "/api/erasures/scan", {"values": ["somebody"]}),
    ("GET", "/api/erasures/public-key", None),
    ("GET", "/api/erasures/00000000-0000-4000-8000-000000000000", None),
    ("GET", "/api/erasures/00000000-0000-4000-8000-000000000000/subjects", None),
    ("GET", "/api/erasures/00000000-0000-4000-8000-000000000000/certificate", None),
    ("POST", "/api/holds", {"kind": "user", "id": "external:ada", "reason": "lawsuit"}),
    ("GET", "/api/holds", None),
    (
        "POST",
        "/api/holds/00000000-0000-4000-8000-000000000000/release",
        {"reason": "settled"},
    ),
    ("POST", "/api/suppressions/lift", {"kind": "user", "id": "external:ada"}),
]


def identify(id: str, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "traits": traits}


def erase(client: Clients, status: int = 200, key: str | None = None, **fields: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = client("comply").post(
        "/api/erasures", json={"kind": "user", "confirm": "confirm"} | fields, headers=headers
    )
    return client.taken(answer) if status == 200 else problem(answer, status)


def completed(client: Clients, id: str) -> Any:
    deadline = time.monotonic() + 120
    while True:
        erasure = client.see(f"/api/erasures/{id}", scope="comply")
        if erasure["step"] == "completed":
            return erasure
        assert time.monotonic() < deadline, erasure
        time.sleep(0.05)


@pytest.mark.parametrize("scope", ["write", "read", "audit", "admin", None])
def test_case_27_only_the_comply_scope_reaches_what_officers_do(
    standing: Clients, scope: str | None
) -> None:
    standing.send(identify("ada"))
    for method, path, body in ROUTES:
        problem(standing(scope).request(method, path, json=body), 401 if scope is None else 403)
    assert standing.get(user("ada")).status_code == 200


WORDS = [
    "Confirm",
    "CONFIRM",
    " confirm",
    "confirm ",
    "confirm\n",
    "",
    "confirm!",
    "ｃonfirm",
    None,
]


@pytest.mark.parametrize(
    "whom", [{"id": "external:ada"}, {"ids": ["external:ada"]}, {"segment": str(uuid.UUID(int=1))}]
)
def test_case_31_without_the_word_confirm_nothing_is_erased(
    standing: Clients, whom: dict[str, Any]
) -> None:
    standing.send(identify("ada"))
    for word in WORDS:
        assert erase(standing, 400, confirm=word, **whom)["place"] == "/confirm", word
    missing = standing("comply").post("/api/erasures", json={"kind": "user", **whom})
    assert "confirm" in problem(missing, 400)["detail"]
    assert standing.get(user("ada")).status_code == 200
    assert standing.see("/api/erasures", scope="comply")["items"] == []


CRAFTED = {
    "u*": "u*",
    "u%": "u%",
    "u' OR ''='": "u' OR ''='",
    "uаdmin": "uаdmin",  # with a Cyrillic letter
    "uad\nmin": None,
    "uadmin\0": None,
    "uad\u202emin": None,  # which turns the direction of writing
    " \u200b": None,
    "u" * 10_000: None,
}
"""What is asked for, and whom it erases; None: it is refused."""


def test_case_30_a_crafted_identity_erases_exactly_the_one_it_names_or_is_refused(
    client: Clients,
) -> None:
    names = {"uadmin", "u1", *filter(None, CRAFTED.values())}
    client.send(*map(identify, sorted(names)))
    client.see(user("uadmin"))
    for crafted, gone in CRAFTED.items():
        if gone is None:
            erase(client, 400, id=f"external:{crafted}")
        else:
            erase(client, id=f"external:{crafted}")
            names.remove(gone)
        left = client.pages("/api/users", limit=100)
        assert {each["external_id"] for each in left} == names, ascii(crafted)
    assert names == {"uadmin", "u1"}


def test_one_is_erased_at_once_and_proved_in_the_end(client: Clients) -> None:
    client.send(identify("ada", name="Ada"), identify("bob"))
    accepted = erase(client, id="external:ada", reason="art-17")
    assert (accepted["scope"], accepted["reason"], accepted["outcomes"]) == (
        "one",
        "art-17",
        {"erased": 1},
    )
    assert client.get(user("ada")).status_code == 404
    assert client.get(f"/api/users/{accepted['subject']}").status_code == 404
    done = completed(client, accepted["id"])
    assert all(done[f"{step}_at"] for step in ("unreadable", "forgotten", "cleaned", "completed"))
    certificate = client.get(f"/api/erasures/{accepted['id']}/certificate", scope="comply")
    key = client.get("/api/erasures/public-key", scope="comply")
    statement = verified(certificate.content, key.content)
    assert str(statement.erasure) == accepted["id"]
    assert [str(erased.subject) for erased in statement.subjects] == [accepted["subject"]]
    assert len(statement.subjects[0].keys[0]) == 16
    assert "Ada" not in certificate.text
    assert client.get(user("bob")).status_code == 200


def test_a_list_is_erased_and_says_who_was_nobody(client: Clients) -> None:
    client.send(*(identify(f"u{n}", email=f"u{n}@x.example") for n in range(4)))
    ids = ["external:u0", "email:u1@x.example", "external:nobody", "external:u2", "external:u2"]
    accepted = erase(client, ids=ids)
    assert (accepted["nobody"], accepted["unknown"], accepted["outcomes"]) == (
        [2],
        1,
        {"erased": 3},
    )
    assert [client.get(user(f"u{n}")).status_code for n in range(4)] == [404, 404, 404, 200]
    page = client.see(f"/api/erasures/{accepted['id']}/subjects", scope="comply", limit=2)
    rest = client.see(
        f"/api/erasures/{accepted['id']}/subjects", scope="comply", limit=2, cursor=page["next"]
    )
    assert [len(page["items"]), len(rest["items"]), rest["next"]] == [2, 1, None]
    on_hold = client.see(f"/api/erasures/{accepted['id']}/subjects", scope="comply", outcome="held")
    assert on_hold["items"] == []


def test_all_in_a_segment_at_the_time_of_the_request_are_erased(client: Clients) -> None:
    client.send(*(identify(f"u{n}", city="Ghent" if n % 2 else "Aalst") for n in range(6)))
    client.see("/api/users")
    condition = {"type": "property", "name": "city", "test": {"op": "is", "value": "Ghent"}}
    made = client("admin").post(
        "/api/segments", json={"kind": "user", "name": "Ghent", "condition": condition}
    )
    segment = client.taken(made)["id"]
    deadline = time.monotonic() + 60
    while client.see(f"/api/segments/{segment}")["members"] != 3:
        assert time.monotonic() < deadline
    accepted = erase(client, segment=segment)
    assert (accepted["scope"], accepted["segment"]) == ("segment", segment)
    client.send(identify("late", city="Ghent"))
    done = completed(client, accepted["id"])
    assert done["outcomes"] == {"erased": 3}
    assert [client.get(user(f"u{n}")).status_code for n in range(6)] == [200, 404] * 3
    assert client.get(user("late")).status_code == 200
    erase(client, 404, segment=segment, kind="account")


def test_the_same_request_under_its_key_is_one_erasure_and_another_is_refused(
    client: Clients,
) -> None:
    client.send(identify("ada"), identify("bob"))
    first = erase(client, id="external:ada", key="k1")
    again = erase(client, id="external:ada", key="k1")
    assert again["id"] == first["id"]
    assert erase(client, 409, id="external:bob", key="k1")["place"] == "/Idempotency-Key"
    assert erase(client, 400, id="external:bob", key="k" * 300)["place"] == "/Idempotency-Key"
    assert client.see("/api/erasures", scope="comply")["total"] == 1
    assert client.get(user("bob")).status_code == 200


@pytest.mark.parametrize(
    "whom",
    [
        {},
        {"id": "external:ada", "ids": ["external:ada"]},
        {"id": "external:ada", "segment": "00000000-0000-4000-8000-000000000000"},
        {"ids": []},
        {"ids": ["external:ada", "what is this"]},
        {"id": "external:ada", "reason": "b\u00e9cause"},
    ],
)
def test_who_is_meant_is_said_in_one_way_or_refused(standing: Clients, whom: Any) -> None:
    standing.send(identify("ada"))
    erase(standing, 400, **whom)
    assert standing.get(user("ada")).status_code == 200


def test_whoever_was_erased_for_good_is_refused_by_name_in_the_answer_to_the_sender(
    client: Clients,
) -> None:
    client.send(identify("ada"))
    erase(client, id="external:ada", suppress=True)
    results = client.send(identify("ada"), identify("bob"))["results"]
    assert [result["status"] for result in results] == ["refused", "stored"]
    assert (results[0]["code"], results[0]["place"]) == ("suppressed", "/batch/0")
    lift = {"kind": "user", "id": "external:ada"}
    assert client("comply").post("/api/suppressions/lift", json=lift).json() == {"lifted": True}
    assert client.send(identify("ada"))["results"][0]["status"] == "stored"
    problem(client("comply").post("/api/suppressions/lift", json=lift), 404)


def test_a_hold_shows_its_reason_to_whoever_wants_to_erase(client: Clients) -> None:
    client.send({"type": "group", "userId": "ada", "groupId": "acme"})
    hold = {"kind": "account", "id": "external:acme", "reason": "lawsuit-7"}
    placed: httpx.Response = client("comply").post("/api/holds", json=hold)
    id = placed.json()["id"]
    refused = erase(client, 409, kind="account", id="external:acme")
    assert "lawsuit-7" in refused["detail"]
    assert client.get(account("acme")).status_code == 200
    accepted = erase(client, kind="account", ids=["external:acme"])
    assert accepted["outcomes"] == {"held": 1}
    [target] = client.see(f"/api/erasures/{accepted['id']}/subjects", scope="comply")["items"]
    assert (target["outcome"], target["detail"]) == ("held", "lawsuit-7")
    release = client("comply").post(f"/api/holds/{id}/release", json={"reason": "settled"})
    assert release.json()["released_at"]
    [released] = client.see("/api/holds", scope="comply", released=True)["items"]
    assert (released["reason"], released["release_reason"]) == ("lawsuit-7", "settled")
    assert client.see("/api/holds", scope="comply")["items"] == []
    erase(client, kind="account", id="external:acme")
    assert client.get(account("acme")).status_code == 404


def test_erasures_are_listed_newest_first_page_by_page(client: Clients) -> None:
    client.send(*(identify(f"u{n}") for n in range(3)))
    ids = [erase(client, id=f"external:u{n}")["id"] for n in range(3)]
    page = client.see("/api/erasures", scope="comply", limit=2)
    rest = client.see("/api/erasures", scope="comply", limit=2, cursor=page["next"])
    assert [item["id"] for item in page["items"] + rest["items"]] == ids[::-1]
    assert (page["total"], rest["next"]) == (3, None)


def test_what_is_on_file_is_reviewed_page_by_page_and_as_an_archive(client: Clients) -> None:
    client.send(
        identify("ada", name="Ada"),
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
        {"type": "track", "userId": "ada", "event": "login", "properties": {"via": "sso"}},
    )
    review = client.see(user("ada", "/review"), scope="comply", limit=2)
    assert review["file"]["contact"]["name"] == "Ada"
    assert [membership["name"] for membership in review["file"]["memberships"]] == ["Acme"]
    history, following = review["history"]["items"], review["history"]["next"]
    while following is not None:
        page = client.see(user("ada", "/review"), scope="comply", limit=2, cursor=following)
        history += page["history"]["items"]
        following = page["history"]["next"]
    assert len(history) == review["history"]["total"] == 4
    archive = client.get(user("ada", "/review/archive"), scope="comply")
    assert archive.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        whole = json.loads(opened.read("review.json"))
    assert whole["history"] == history
    for path in ("/review", "/review/archive"):
        problem(client.get(user("nobody", path), scope="comply"), 404)
        problem(client.get(user("ada", path), scope="read"), 403)
    assert client.get(account("acme", "/review"), scope="comply").status_code == 200


def test_an_officer_searches_for_values_that_should_be_gone(client: Clients) -> None:
    client.send(identify("ada", name="Planted Ada"))
    client.see(user("ada"))
    ask = {"values": ["Planted Ada", "Nobody at all"]}
    scan = client("comply").post("/api/erasures/scan", json=ask).json()
    assert {finding["value"] for finding in scan["findings"]} == {0}
    assert "table views.contacts" in {finding["place"] for finding in scan["findings"]}
    assert "Planted" not in json.dumps(scan)
    for values, place in (([], "/values"), (["short"], "/values/0"), (["x" * 3000], "/values/0")):
        answer = client("comply").post("/api/erasures/scan", json={"values": values})
        assert problem(answer, 400)["place"] == place


def test_case_23_the_officer_sees_before_and_after_what_names_somebody_and_no_reader_sees_the_name(
    client: Clients,
) -> None:
    client.send(identify("u23", email="ann23@x.example"))
    client.see(user("u23"))
    condition = {
        "type": "attribute",
        "name": "email",
        "test": {"op": "is", "value": "ann23@x.example"},
    }
    body = {"kind": "user", "name": "one", "condition": condition}
    segment = client.taken(client("admin").post("/api/segments", json=body))["id"]
    asked_for = {"kind": "user", "name": "mine", "filter": condition}
    view = client("admin").post("/api/saved-views", json=asked_for).json()["id"]
    named = client.see(user("u23", "/review"), scope="comply")["named_in"]
    assert [(each["what"], each["id"], each["versions"]) for each in named] == [
        ("saved_view", view, []),
        ("segment", segment, [1]),
    ]
    assert erase(client, id="external:u23")["named_in"] == named
    for path in (
        f"/api/segments/{segment}",
        f"/api/definitions/{segment}",
        f"/api/definitions/{segment}/history",
        f"/api/saved-views/{view}",
        "/api/saved-views",
        "/api/definitions",
    ):
        seen = client.get(path).text
        assert "ann23" not in seen, path
        assert "(erased)" in seen, path
