"""The examples of the OpenAPI document: each operation has one that is true."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from tests.api.story import STORY, told
from tests.serving import Clients

BINARY = "application/zip"


@pytest.fixture
def document(client: Clients) -> dict[str, Any]:
    found: dict[str, Any] = client(None).get("/schema/openapi.json").json()
    return found


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value."""
    whole = {**schema, "components": document["components"]}
    checked = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return [error.message for error in checked.iter_errors(value)]


def test_each_operation_has_examples_and_each_is_what_its_schema_says(
    document: dict[str, Any],
) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            for one in operation.get("parameters", ()):
                assert "example" in one, (place, one["name"])
                assert not faults(document, one["schema"], one["example"]), (place, one["name"])
            for media in operation.get("requestBody", {}).get("content", {}).values():
                assert not faults(document, media["schema"], media["example"]), place
            texts = [
                media
                for status, answer in operation["responses"].items()
                for kind, media in answer.get("content", {}).items()
                if status.startswith("2") and kind != BINARY
            ]
            shown = [media for media in texts if "example" in media]
            assert shown or not texts, place
            for media in shown:
                assert not faults(document, media["schema"], media["example"]), place


def test_each_example_is_answered_as_the_document_says(
    client: Clients, document: dict[str, Any]
) -> None:
    paths, seen = document["paths"], set()
    for step, _, body, status, media_type, answer in told(client):
        place = f"{step.method} {step.path}"
        operation = paths[step.path][step.method]
        assert status == step.status, (place, answer)
        if media_type is not None:
            media = operation["responses"][str(status)]["content"][media_type]
            assert not faults(document, media["schema"], answer), place
        if body is not None and place not in seen:
            media = operation["requestBody"]["content"]["application/json"]
            assert media["example"].keys() == body.keys(), f"{place}: make examples"
        seen.add(place)
    assert seen == {f"{method} {path}" for path, methods in paths.items() for method in methods}
    assert len(STORY) >= len(seen)
