"""The OpenAPI document says what there is: routes, parameters and problems."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from tests.serving import Clients, account, problem, user

READING = {"400", "401", "403", "404", "503"}
LISTING = {"400", "401", "403", "503"}
THEN = {"wait_for", "as_of"}
PAGED = {"cursor", "limit"} | THEN
SELECTING = {"segment", "filter", "search"} | THEN
BELOW = {
    "timeline": PAGED | {"type", "name", "from", "until", "order", "total"},
    "properties": THEN,
    "stages": THEN,
    "overview": THEN,
    "{tab}": PAGED,
    "{tab}/days": {"name", "days"} | THEN,
}
ROUTES: dict[tuple[str, str], tuple[set[str], set[str]]] = {
    ("get", "/health/live"): (set(), set()),
    ("get", "/health/ready"): (set(), {"503"}),
    ("get", "/api/status"): (set(), {"401", "403", "503"}),
    ("get", "/api/counters"): (set(), {"401", "403", "503"}),
    ("get", "/api/catalogue/properties"): (THEN | {"retired"}, LISTING),
    ("get", "/api/catalogue/events"): (THEN | {"retired"}, LISTING),
    ("post", "/api/catalogue/retire"): (set(), LISTING | {"409", "413"}),
    ("post", "/api/catalogue/restore"): (set(), LISTING | {"409", "413"}),
    ("post", "/api/catalogue/type"): (set(), LISTING | {"409", "413"}),
    ("post", "/api/pasts"): (set(), LISTING | {"413"}),
    ("get", "/api/pasts"): (set(), {"401", "403", "503"}),
    ("get", "/api/pasts/{id}"): ({"id"}, READING),
    ("delete", "/api/pasts/{id}"): ({"id"}, READING),
    ("post", "/api/erasures"): ({"Idempotency-Key"}, READING | {"409", "413"}),
    **{
        ("get", f"/api/{kind}/{{id}}/review{path}"): ({"id", "wait_for"} | names, READING)
        for kind in ("users", "accounts")
        for path, names in (("", {"cursor", "limit"}), ("/archive", set()))
    },
    ("get", "/api/erasures"): ({"cursor", "limit"}, LISTING),
    ("post", "/api/erasures/scan"): (set(), LISTING | {"413"}),
    ("get", "/api/erasures/public-key"): (set(), {"401", "403", "503"}),
    ("get", "/api/erasures/{id}"): ({"id"}, READING),
    ("get", "/api/erasures/{id}/subjects"): ({"id", "outcome", "cursor", "limit"}, READING),
    ("get", "/api/erasures/{id}/certificate"): ({"id"}, READING),
    **{
        ("get", f"/api/{kind}{path}/changes"): asked
        for kind in ("users", "accounts")
        for path, asked in (
            ("", (set(), {"401", "403", "503"})),
            ("/{id}", ({"id"}, READING)),
        )
    },
    ("get", "/api/parked"): ({"reader", "state", "cursor", "limit"}, LISTING),
    ("post", "/api/parked/{reader}/{position}/retry"): ({"reader", "position"}, READING | {"409"}),
    ("post", "/api/parked/{reader}/{position}/skip"): (
        {"reader", "position"},
        READING | {"409", "413"},
    ),
    ("get", "/api/refused-attempts"): ({"cursor", "limit"}, LISTING),
    ("get", "/api/retention/runs"): (set(), {"401", "403", "503"}),
    ("get", "/api/api-keys"): (set(), {"401", "403", "503"}),
    ("post", "/api/api-keys"): (set(), LISTING | {"413"}),
    ("delete", "/api/api-keys/{id}"): ({"id", "last"}, READING | {"409"}),
    ("get", "/api/destinations"): (set(), {"401", "403", "503"}),
    ("post", "/api/destinations"): (set(), LISTING | {"409", "413"}),
    ("get", "/api/destinations/{id}"): ({"id"}, READING),
    ("put", "/api/destinations/{id}"): ({"id"}, READING | {"409", "413"}),
    ("delete", "/api/destinations/{id}"): ({"id"}, READING | {"409"}),
    ("get", "/api/destinations/{id}/history"): ({"id"}, READING),
    ("post", "/api/destinations/{id}/secret"): ({"id"}, READING),
    **{
        ("post", f"/api/destinations/{{id}}/{step}"): ({"id"}, READING | {"409"})
        for step in ("activate", "archive", "pause", "resume", "test")
    },
    ("post", "/api/holds"): (set(), READING | {"413"}),
    ("get", "/api/holds"): ({"released"}, LISTING),
    ("post", "/api/holds/{id}/release"): ({"id"}, READING | {"413"}),
    ("post", "/api/suppressions/lift"): (set(), READING | {"413"}),
    ("delete", "/api/accounts/{id}/users/{user}"): ({"id", "user"}, READING | {"409"}),
    **{
        (method, f"/api/{kind}/{{id}}/stage"): ({"id"}, READING | refused)
        for kind in ("users", "accounts")
        for method, refused in (("post", {"409", "413"}), ("delete", {"409"}))
    },
    **{
        ("get", f"/api/{kind}/{{id}}/why"): (
            {"id", "of", "definition", "position"} | THEN,
            READING | {"409"},
        )
        for kind in ("users", "accounts")
    },
    ("get", "/api/backtest"): (set(), {"401", "403", "503"}),
    ("post", "/api/backtest"): (set(), READING | {"409", "413"}),
    ("get", "/api/backtest/{id}"): ({"id"}, READING),
    ("delete", "/api/backtest/{id}"): ({"id"}, READING),
    ("get", "/api/backtest/{id}/subjects"): (
        {"id", "outcome", "before", "differing", "cursor", "limit"},
        READING,
    ),
    ("get", "/api/segments"): ({"kind"} | THEN, LISTING),
    ("post", "/api/segments"): (set(), LISTING | {"409", "413", "429"}),
    ("post", "/api/segments/preview"): (set(), LISTING | {"413", "429"}),
    ("get", "/api/segments/{id}"): ({"id"} | THEN, READING),
    ("put", "/api/segments/{id}"): ({"id"}, READING | {"409", "413", "429"}),
    ("delete", "/api/segments/{id}"): ({"id"}, READING | {"409", "413"}),
    ("get", "/api/segments/{id}/members"): ({"id"} | PAGED, READING),
    ("post", "/api/segments/{id}/members"): ({"id"}, READING | {"409", "413"}),
    ("get", "/api/segments/{id}/history"): ({"id", "as_of"}, READING),
    ("get", "/api/definitions"): ({"type", "kind", "status"} | THEN, LISTING),
    ("post", "/api/definitions"): (set(), LISTING | {"409", "413", "429"}),
    ("get", "/api/definitions/{id}"): ({"id"} | THEN, READING),
    ("put", "/api/definitions/{id}"): ({"id"}, READING | {"409", "413", "429"}),
    ("delete", "/api/definitions/{id}"): ({"id"}, READING | {"409"}),
    ("get", "/api/definitions/{id}/history"): ({"id"} | THEN, READING),
    ("post", "/api/definitions/{id}/activate"): ({"id"}, READING | {"409", "429"}),
    ("post", "/api/definitions/{id}/archive"): ({"id"}, READING | {"409"}),
    ("get", "/api/settings"): ({"as_of"}, LISTING),
    ("put", "/api/settings"): (set(), LISTING | {"409", "413"}),
    **{
        ("post", path): (set(), LISTING | {"413", "415"})
        for path in ("/v1/batch", "/backend/v1/batch", "/v1/import")
    },
    ("get", "/api/saved-views"): ({"kind"}, LISTING),
    ("get", "/api/saved-views/{id}"): ({"id"}, READING),
    ("post", "/api/saved-views"): (set(), LISTING | {"409", "413", "429"}),
    ("put", "/api/saved-views/{id}"): ({"id"}, READING | {"409", "413", "429"}),
    ("delete", "/api/saved-views/{id}"): ({"id"}, READING),
    **{("get", f"/api/{kind}/filters"): ({"as_of"}, LISTING) for kind in ("users", "accounts")},
    **{
        (method, f"/api/{kind}{path}"): (
            names if method == "post" else names | query,
            LISTING | ({"429"} if method == "get" else {"413", "429"}),
        )
        for kind in ("users", "accounts")
        for path, names, query in (
            ("", set(), SELECTING | {"sort", "columns", "cursor", "limit", "total"}),
            ("/bars", set(), SELECTING),
            ("/export", {"format", "bom"}, SELECTING | {"sort", "columns"}),
        )
        for method in ("get", "post")
    },
    **{("get", f"/api/{kind}/{{id}}"): ({"id"} | THEN, READING) for kind in ("users", "accounts")},
    **{
        ("get", f"/api/{kind}/{{id}}/{tab}"): (
            {"id", *query, *({"tab"} if tab.startswith("{tab}") else ())},
            READING,
        )
        for kind, other in (("users", "accounts"), ("accounts", "users"))
        for tab, query in (BELOW | {other: PAGED}).items()
    },
}


@pytest.fixture(scope="module")
def document(standing: Clients) -> Any:
    answer = standing(None).get("/schema")
    assert answer.status_code == 200
    assert answer.json() == standing(None).get("/schema/openapi.json").json()
    return answer.json()


def test_every_route_is_named_with_its_parameters_and_problems(document: Any) -> None:
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            problems = {
                status: answer
                for status, answer in operation["responses"].items()
                if not status.startswith("2")
            }
            names = {one["name"] for one in operation.get("parameters", [])}
            found[method, path] = (names, set(problems))
            assert operation["summary"]
            assert any(status.startswith("2") for status in operation["responses"])
            for answer in problems.values():
                [(media, content)] = answer["content"].items()
                assert media == "application/problem+json"
                assert content["schema"]["$ref"].endswith("/Problem")
            for name in re.findall(r"\{(\w+)\}", path):
                assert name in names
    assert found == {
        route: (names, problems | ({"429"} if "401" in problems else set()))
        for route, (names, problems) in ROUTES.items()
    }


def test_a_condition_is_described_where_it_is_sent(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for body, field in (
        ("ListQuestion", "filter"),
        ("Question", "filter"),
        ("SavedViewRequest", "filter"),
        ("SegmentRequest", "condition"),
        ("PreviewRequest", "condition"),
        ("StageRequest", "condition"),
        ("HealthProfileRequest", "good"),
        ("ScoreRuleRequest", "condition"),
        ("SignalRequest", "goal"),
    ):
        described = {one.get("$ref") for one in schemas[body]["properties"][field]["oneOf"]}
        assert {f"#/components/schemas/{one}" for one in ("AllOf", "Did", "InSegment")} < described


def test_a_batch_and_the_ways_to_send_a_key_are_described(document: Any) -> None:
    operation = document["paths"]["/v1/batch"]["post"]
    batch = operation["requestBody"]["content"]["application/json"]["schema"]
    assert batch["required"] == ["batch"]
    assert operation["security"] == [{"ApiKey": []}, {"WriteKey": []}, {}]
    assert document["security"] == [{"ApiKey": []}]
    assert set(document["components"]["securitySchemes"]) == {"ApiKey", "WriteKey"}
    assert document["paths"]["/health/ready"]["get"]["security"] == [{}]


def test_no_value_is_of_two_members_of_a_union_of_which_it_has_to_be_of_one(document: Any) -> None:
    def schema(part: Any) -> Any:
        name = part.get("$ref", "").rsplit("/", 1)[-1]
        return document["components"]["schemas"][name] if name else part

    def types(part: Any) -> set[str]:
        if "oneOf" in part:
            return set().union(*(types(schema(one)) for one in part["oneOf"]))
        found = part["type"] if isinstance(part["type"], list) else [part["type"]]
        return {"number" if one == "integer" else one for one in found}

    def tags(part: Any) -> dict[str, str]:
        fields = {name: part["properties"][name] for name in part.get("required", ())}
        return {name: field["const"] for name, field in fields.items() if "const" in field}

    def are_apart(one: Any, other: Any) -> bool:
        if types(one).isdisjoint(types(other)):
            return True
        told, also_told = tags(one), tags(other)
        return any(told[name] != also_told[name] for name in told.keys() & also_told.keys())

    def unions(part: Any) -> list[Any]:
        if isinstance(part, list):
            return [one for inner in part for one in unions(inner)]
        if not isinstance(part, dict):
            return []
        own = [part["oneOf"]] if "oneOf" in part else []
        return own + [one for inner in part.values() for one in unions(inner)]

    found = unions(document)
    assert len(found) > 100
    for members in found:
        for one, other in combinations(map(schema, members), 2):
            assert are_apart(one, other), (one, other)


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_an_export_is_of_a_kind_that_the_document_names(
    standing: Clients, document: Any, format: str
) -> None:
    for method in ("get", "post"):
        body = {"json": {}} if method == "post" else {}
        answer = standing("read").request(
            method, "/api/users/export", params={"format": format}, **body
        )
        said = document["paths"]["/api/users/export"][method]["responses"]["200"]["content"]
        assert set(said) == {"text/csv", "application/x-ndjson"}
        assert answer.headers["content-type"].split(";")[0] in said


def test_every_reference_of_the_document_leads_somewhere(document: Any) -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [one for inner in part for one in references(inner)]
        if not isinstance(part, dict):
            return []
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [one for inner in part.values() for one in references(inner)]

    found = references(document)
    assert found
    for reference in found:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))


def test_what_is_answered_has_the_fields_that_the_document_says(
    standing: Clients, document: Any
) -> None:
    standing.send({"type": "group", "userId": "ada", "groupId": "acme"})
    schemas = document["components"]["schemas"]
    for path, route in ((user("ada"), "/api/users/{id}"), (account("acme"), "/api/accounts/{id}")):
        answered = document["paths"][route]["get"]["responses"]["200"]["content"]
        name = answered["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        assert standing.see(path).keys() == schemas[name]["properties"].keys()


def test_what_is_as_long_as_the_document_allows_is_taken_and_what_is_longer_is_refused(
    standing: Clients, document: Any
) -> None:
    def bound(schema: str, field: str, keyword: str) -> int:
        said = document["components"]["schemas"][schema]["properties"][field]
        return int(next(one[keyword] for one in (said, *said.get("oneOf", ())) if keyword in one))

    id = "u" * (bound("HoldRequest", "id", "maxLength") - len("external:"))
    standing.send({"type": "identify", "userId": id})
    standing.see("/api/users")
    whom = {"kind": "user", "id": f"external:{id}"}
    most = {
        "/api/segments": bound("SegmentRequest", "name", "maxLength"),
        "/api/segments/preview": bound("PreviewRequest", "sample", "maximum"),
        "/api/users/bars": bound("Question", "search", "maxLength"),
        "/api/holds": bound("HoldRequest", "reason", "maxLength"),
        "/api/erasures/scan": bound("ScanRequest", "values", "maxItems"),
        "/api/api-keys": bound("ApiKeyRequest", "name", "maxLength"),
        "/api/users/{id}/stage": bound("StageByHand", "reason", "maxLength"),
    }

    def body(path: str, length: int) -> dict[str, Any]:
        return {
            "/api/segments": {"kind": "user", "name": "n" * length, "members": []},
            "/api/segments/preview": {
                "kind": "user",
                "condition": {"type": "stage", "stages": [None]},
                "sample": length,
            },
            "/api/users/bars": {"search": "s" * length},
            "/api/holds": {**whom, "reason": "r" * length},
            "/api/erasures/scan": {"values": ["absent"] * length},
            "/api/api-keys": {"name": "n" * length, "scope": "read"},
            "/api/users/{id}/stage": {"stage": None, "reason": "r" * length},
        }[path]

    for path, length in most.items():
        for beyond in (0, 1):
            scope = "comply" if path.startswith(("/api/holds", "/api/erasures")) else "admin"
            address = path.replace("/{id}", user(id).removeprefix("/api/users"))
            answer = standing(scope).post(address, json=body(path, length + beyond))
            if beyond:
                problem(answer, 400, "invalid-input")
            elif not path.endswith("/stage"):  # there are none here
                assert answer.status_code == 200, (path, answer.text)


def test_who_is_refused_for_now_or_for_want_of_a_key_is_told_how_to_go_on(
    standing: Clients, document: Any
) -> None:
    responses = document["paths"]["/api/users"]["get"]["responses"]
    for status in ("429", "503"):
        assert responses[status]["headers"]["Retry-After"]["required"]
    refused = standing(None).get("/api/users")
    assert "www-authenticate" in refused.headers
    told = {name.lower() for name in responses["200"]["headers"]}
    assert told == {"ratelimit", "ratelimit-policy"}
    assert told <= set(standing("read").get("/api/users").headers)


def test_a_destination_may_be_sent_without_its_type_and_the_document_says_so(
    standing: Clients, document: Any
) -> None:
    schema = document["components"]["schemas"]["DestinationRequest"]
    assert "type" not in schema["required"]
    body = {"name": "CRM", "url": "https://hooks.crm.example/a", "news": [{"about": "stage"}]}
    for change, status in (({}, 200), ({"type": "destination"}, 200), ({"type": "segment"}, 400)):
        sent = body | {"name": f"CRM {change}"} | change
        assert standing("admin").post("/api/destinations", json=sent).status_code == status
