"""Whatever is asked, the answer is as the OpenAPI document says: schemathesis asks.

Conditions are recursive and have laws of their own (tests/projections/conditions/test_compiler.py),
so that here a few leaves stand for all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from domain.access import ApiScope
from tests.api.test_scopes import NOBODY_ASKED, scopes_of
from tests.serving import Clients

if TYPE_CHECKING:
    import schemathesis

SECONDS = os.environ.get("ANNALS_TEST_SCHEMA_SECONDS")
"""How long each test of the long run may take."""
LEAVES = ("AllOf", "PropertyIs", "StageIs")
ENDLESS = r"/changes$"
KNOWN = {"users": "external%3Aada", "accounts": "external%3Aacme"}
OWN = (ApiScope.WRITE, ApiScope.ADMIN, ApiScope.COMPLY, ApiScope.READ, ApiScope.AUDIT)
"""Whose key an operation is asked with, the first that it opens to."""
TURNS = [[one] for one in ApiScope] if SECONDS else [[*ApiScope]]
"""The long run asks all with each; the short one has the scopes take turns."""


@pytest.fixture
def document(client: Clients) -> dict[str, Any]:
    """With conditions that end: groups hold leaves."""
    client.send(
        {"type": "identify", "userId": "ada", "traits": {"name": "Ada", "plan": "pro"}},
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"mrr": 5}},
        {"type": "track", "userId": "ada", "event": "opened", "properties": {"page": 1}},
    )
    whole: dict[str, Any] = client(None).get("/schema/openapi.json").json()
    for name, schema in whole["components"]["schemas"].items():
        groups = {"AllOf", "OneOf", "Not", "OfAccounts", "OfUsers"}
        _cut(schema, LEAVES[1:] if name in groups else LEAVES)
    return whole


def _cut(part: Any, leaves: tuple[str, ...]) -> None:
    for inner in part.values() if isinstance(part, dict) else part:
        if isinstance(inner, dict | list):
            _cut(inner, leaves)
    members = part.get("oneOf", ()) if isinstance(part, dict) else ()
    names = [one.get("$ref", "").rpartition("/")[2] for one in members]
    if "AllOf" in names:
        part["oneOf"] = [
            one for name, one in zip(names, members, strict=True) if name in leaves or not name
        ]


def failures(
    client: Clients,
    document: dict[str, Any],
    scopes: Sequence[ApiScope],
    examples: int,
    well: set[str],
    **phases: bool,
) -> Iterator[str]:
    """Asks all operations and says what is wrong with the answers.

    Args:
        examples: of each operation, or of ways through several.
        well: takes the operations that answered well.
        scopes: of the keys, in turn; none: each operation is asked with one that it opens to.
    """
    # It tunes hypothesis for all tests of a process, so that it comes no sooner than it is needed.
    import schemathesis
    from schemathesis import engine
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events

    names = ("examples", "coverage", "fuzzing", "stateful")
    config = SchemathesisConfig.from_dict(
        {
            "generation": {
                "mode": "positive" if scopes or phases.get("stateful") else "all",
                "max-examples": examples,
                "with-security-parameters": False,  # `ignored_auth` leaves the key out
                "database": "none",
                "no-shrink": True,
            },
            "phases": {one: {"enabled": phases.get(one, False)} for one in names},
            # Whether a segment exists, and what two fields say together, is in no schema.
            "checks": {
                "positive_data_acceptance": {"enabled": False},
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
            },
            # In a batch each message is judged alone, and a bad one refused within the answer.
            "operations": [
                {
                    "include-path-regex": "/(batch|import)$",
                    "checks": {"negative_data_rejection": {"enabled": False}},
                },
                *(
                    {"include-path-regex": f"^/api/{kind}/.id.", "parameters": {"path.id": id}}
                    for kind, id in KNOWN.items()
                    if not phases.get("coverage")
                ),
            ],
            "continue-on-failure": True,
            "request-timeout": 60,
            **({"max-time": float(SECONDS)} if SECONDS else {"seed": 1}),
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.config.base_url = client.url
    turn = cycle(scopes)

    @schema.auth(refresh_interval=None)
    class _ApiKey:
        def get(self, case: schemathesis.Case, _: object) -> str | None:
            if scopes:
                return client.keys[next(turn)]
            if case.operation.path in NOBODY_ASKED:
                return None
            open_to = scopes_of(case.operation.method, case.operation.path)
            return client.keys[next(one for one in OWN if one in open_to)]

        def set(self, case: schemathesis.Case, key: str | None, _: object) -> None:
            if key is not None:
                case.headers["Authorization"] = f"Bearer {key}"

    for event in engine.from_schema(schema.exclude(path_regex=ENDLESS)).execute():
        if isinstance(event, events.ScenarioFinished):
            for id, sent in event.recorder.interactions.items():
                if sent.response is not None and sent.response.status_code < 300:
                    well.add(event.recorder.cases[id].value.operation.label)
            for id, checks in event.recorder.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        case = event.recorder.cases[id].value
                        failure = check.failure_info.failure
                        asked = (case.path_parameters, case.query, case.body)  # no key is shown
                        yield f"{case.operation.label}: {failure.title}\n{failure.message}\n{asked}"
        elif isinstance(event, events.NonFatalError | events.FatalError):
            yield str(event)


def test_with_a_key_that_opens_it_each_operation_answers_as_documented(
    client: Clients, document: dict[str, Any]
) -> None:
    examples = max(settings().max_examples // 15, 1)
    well = set[str]()
    found = list(failures(client, document, (), examples, well, fuzzing=True))
    assert not found, "\n\n".join(found[:20])
    assert len(well) > 50
    assert client.see("/api/status")["parked"] == 0


def test_who_goes_on_with_what_an_answer_gives_is_answered_as_documented(
    client: Clients, document: dict[str, Any]
) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                media["schema"] = _like(media["example"])
    well = set[str]()
    examples = max(settings().max_examples // 2, 1)
    found = list(failures(client, document, (), examples, well, stateful=True))
    assert not found, "\n\n".join(found[:20])
    assert len(well) > 10
    assert client.see("/api/status")["parked"] == 0


def _like(body: dict[str, Any]) -> dict[str, Any]:
    """A schema of bodies that are as the example but for their name, which nothing else has."""
    fields: dict[str, Any] = {name: {"const": value} for name, value in body.items()}
    if "name" in fields:
        fields["name"] = {"type": "string", "pattern": "^[a-z]{12}$"}
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


@pytest.mark.parametrize("scopes", TURNS, ids=" ".join)
def test_with_a_key_of_any_scope_all_operations_answer_as_documented(
    client: Clients, document: dict[str, Any], scopes: Sequence[ApiScope]
) -> None:
    examples = max(settings().max_examples // 30, 1)
    found = list(failures(client, document, scopes, examples, set(), fuzzing=True))
    assert not found, "\n\n".join(found[:20])
    assert client.see("/api/status")["parked"] == 0


@pytest.mark.skipif(SECONDS is None, reason="takes minutes: make test-schema")
def test_every_boundary_of_the_document_is_one_of_the_server(
    client: Clients, document: dict[str, Any]
) -> None:
    found = list(failures(client, document, (), 1, set(), coverage=True))
    assert not found, "\n\n".join(found[:20])
