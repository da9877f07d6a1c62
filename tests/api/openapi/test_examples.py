"""The examples of the OpenAPI document: each operation has one that is true."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema_rs
import pytest

from tests.api.story import STORY, told
from tests.serving import Clients

BINARY = "application/zip"
DOCUMENT = "urn:annals:document"


@pytest.fixture
def document(client: Clients) -> dict[str, Any]:
    found: dict[str, Any] = client(None).get("/schema/openapi.json").json()
    return found


@pytest.fixture
def faults(document: dict[str, Any]) -> Callable[[Any, Any], list[str]]:
    """Says what is wrong with a value of a schema."""
    known = {"components": document["components"]}
    registry = jsonschema_rs.Registry([(DOCUMENT, known)])

    @cache
    def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
        return jsonschema_rs.Draft202012Validator(
            schema.replace('"#/components/', f'"{DOCUMENT}#/components/'),
            validate_formats=True,
            registry=registry,
        )

    def found(schema: Any, value: Any) -> list[str]:
        return [error.message for error in validator(json.dumps(schema)).iter_errors(value)]

    return found


def test_each_operation_has_examples_and_each_is_what_its_schema_says(
    document: dict[str, Any], faults: Callable[[Any, Any], list[str]]
) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            for one in operation.get("parameters", ()):
                assert "example" in one, (place, one["name"])
                assert not faults(one["schema"], one["example"]), (place, one["name"])
            for media in operation.get("requestBody", {}).get("content", {}).values():
                assert not faults(media["schema"], media["example"]), place
            texts = [
                media
                for status, answer in operation["responses"].items()
                for kind, media in answer.get("content", {}).items()
                if status.startswith("2") and kind != BINARY
            ]
            shown = [media for media in texts if "example" in media]
            assert shown or not texts, place
            for media in shown:
                assert not faults(media["schema"], media["example"]), place


def test_each_example_is_answered_as_the_document_says(
    client: Clients, document: dict[str, Any], faults: Callable[[Any, Any], list[str]]
) -> None:
    paths, seen = document["paths"], set()
    for step, _, body, status, media_type, answer in told(client):
        place = f"{step.method} {step.path}"
        operation = paths[step.path][step.method]
        assert status == step.status, (place, answer)
        if media_type is not None:
            media = operation["responses"][str(status)]["content"][media_type]
            assert not faults(media["schema"], answer), place
        if body is not None and place not in seen:
            media = operation["requestBody"]["content"]["application/json"]
            assert media["example"].keys() == body.keys(), f"{place}: make examples"
        seen.add(place)
    assert seen == {f"{method} {path}" for path, methods in paths.items() for method in methods}
    assert len(STORY) >= len(seen)
