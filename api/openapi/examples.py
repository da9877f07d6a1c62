"""Examples of the OpenAPI document: of each operation, parameters, a body and an answer.

`examples.json` is recorded from a server that was asked all of them: `make examples`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

Document = dict[str, Any]


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recorded call of an operation.

    Attributes:
        parameters: sent with the call, by name.
        media_type: of the answer; null: it has no text.
    """

    status: int
    parameters: dict[str, Any] = {}
    body: Any = None
    media_type: str | None = None
    answer: Any = None


PARAMETERS: Document = {
    "as_of": "2026-05-03T14:00:00Z",
    "before": "out",
    "bom": True,
    "columns": ["plan", "mrr"],
    "cursor": "eyJhZnRlciI6WyJBZGEiXX0",
    "days": 30,
    "definition": "73796715-4b20-42f4-830b-8fd62aa4ef4d",
    "differing": True,
    "filter": '{"type":"property","name":"plan","test":{"op":"is","value":"pro"}}',
    "format": "csv",
    "from": "2026-05-01",
    "kind": "user",
    "last": False,
    "limit": 50,
    "name": ["Report opened"],
    "of": "stage",
    "order": "newest",
    "outcome": "in",
    "position": "17:42",
    "reader": "main",
    "released": True,
    "retired": True,
    "search": "ada",
    "segment": "73796715-4b20-42f4-830b-8fd62aa4ef4d",
    "sort": "-last_seen",
    "state": "failed",
    "status": "active",
    "total": True,
    "type": ["stage", "health"],
    "until": "2026-05-31",
    "wait_for": "17:42,203:7",
}
"""Of parameters that the recorded request went without."""

OF_PATHS: dict[tuple[str, str], Any] = {
    ("/api/definitions", "type"): "stages",
    ("/api/erasures/{id}/subjects", "outcome"): "waiting",
}
"""Where the same name means something else."""


@cache
def recorded() -> dict[str, Example]:
    """By method and path, like `get /api/users`."""
    text = (Path(__file__).parent / "examples.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Example])


def show(document: Document) -> None:
    """Puts the examples into a document."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            example = recorded().get(f"{method} {path}")
            if example is not None:
                _show(path, operation, example)


def _show(path: str, operation: Document, example: Example) -> None:
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        usual = OF_PATHS.get((path, name), PARAMETERS.get(name))
        value = example.parameters.get(name, usual)
        if value is not None:
            parameter["example"] = value
    if example.body is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.body
    if example.media_type is not None:
        answer = operation["responses"][str(example.status)]
        answer["content"][example.media_type]["example"] = example.answer
