"""Links of the OpenAPI document: how to go on with the id that an answer gives."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

PARAMETER = "{id}"
IN_ITSELF, IN_A_PAGE = "$response.body#/id", "$response.body#/items/0/id"


def link(document: Document) -> None:
    """Puts links into a document: from an answer with an `id`, to the operations
    at paths that go on with `/{id}`; from a page of items with one each, to those that read."""
    paths: dict[str, Document] = document["paths"]
    for path, operations in paths.items():
        below = [
            (method, operation["operationId"])
            for other, methods in paths.items()
            if other.startswith(f"{path}/{PARAMETER}")
            for method, operation in methods.items()
            if sum(part["in"] == "path" for part in operation.get("parameters", ())) == 1
        ]
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                where = _id_of(document, answer) if status.startswith("2") and below else None
                if where is not None:
                    answer["links"] = {
                        id: {"operationId": id, "parameters": {"id": where}}
                        for method, id in below
                        if where == IN_ITSELF or method == "get"
                    }


def _id_of(document: Document, answer: Document) -> str | None:
    """Where an answer has the id to go on with."""
    content = answer.get("content", {}).get("application/json", {})
    fields = _fields(document, content.get("schema", {}))
    if "id" in fields:
        return IN_ITSELF
    items = fields.get("items", {}).get("items", {})
    return IN_A_PAGE if "id" in _fields(document, items) else None


def _fields(document: Document, schema: Document) -> Document:
    name = schema.get("$ref", "").rpartition("/")[2]
    named: Document = document["components"]["schemas"][name] if name else schema
    fields: Document = named.get("properties", {})
    return fields
