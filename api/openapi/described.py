"""Corrects the framework's OpenAPI descriptions: of fields that are decoded apart, of unions whose
members overlap, of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from api.openapi import answer_headers, examples, links
from domain.conditions.language import Condition


class DescribedAs:
    """Marks a field that keeps JSON undecoded as being described by a type:
    `Annotated[msgspec.Raw, ...]`."""

    def __init__(self, type: object) -> None:
        self.type = type


SentCondition = Annotated[msgspec.Raw, DescribedAs(Condition)]
"""A condition as JSON: `domain.conditions.validation` decodes it."""

PerhapsCondition = Annotated[msgspec.Raw, DescribedAs(Condition | None)]
"""A condition as JSON, or null; see `json_or_none`."""


def no_condition() -> msgspec.Raw:
    """The default of a field that is a `PerhapsCondition`."""
    return msgspec.Raw(b"null")


def json_or_none(sent: msgspec.Raw) -> bytes | None:
    """Returns: the JSON of a `PerhapsCondition`; None: it is null."""
    json = bytes(sent)
    return None if json.strip() == b"null" else json


class DescribedFields(OpenAPISchemaPlugin):
    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return _mark(field_definition) is not None

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        mark = _mark(field_definition)
        assert mark is not None
        described = FieldDefinition.from_annotation(mark.type)
        return cast(Schema, schema_creator.for_field_definition(described))


def _mark(field: FieldDefinition) -> DescribedAs | None:
    return next((item for item in field.metadata if isinstance(item, DescribedAs)), None)


class Document(JsonRenderPlugin):
    """The document as JSON, with headers, links and examples. A union of integers and other
    numbers is one of numbers there: exactly one of the two would hold of no whole number, which
    is both. A parameter that is a text or a list of them is left out, and never null: the word is
    a text like any other."""

    _rendered: bytes | None = None
    """It takes tens of milliseconds to make, anybody may ask for it, and it never changes."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._rendered is None:
            document = _numbers_joined(openapi_schema)
            _texts_never_null(document)
            answer_headers.tell(document)
            links.link(document)
            examples.show(document)
            self._rendered = super().render(request, document)
        return self._rendered


def _numbers_joined(part: Any) -> Any:
    if isinstance(part, list):
        return [_numbers_joined(item) for item in part]
    if not isinstance(part, dict):
        return part
    joined = {name: _numbers_joined(item) for name, item in part.items()}
    members = joined.get("oneOf")
    if members is not None and {"type": "number"} in members:
        joined["oneOf"] = [item for item in members if item != {"type": "integer"}]
    return joined


def _texts_never_null(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                members = [item for item in schema.get("oneOf", ()) if item != {"type": "null"}]
                if len(members) == 1 and _is_text(members[0]):
                    del schema["oneOf"]
                    parameter["schema"] = members[0] | schema


def _is_text(schema: dict[str, Any]) -> bool:
    """Or a list of texts."""
    return schema.get("type") in ("string", "array") and schema.get("format") != "uuid"


def files(media_types: Iterable[str]) -> type[Operation]:
    """An operation that answers with a text in one of several media types."""
    types = tuple(media_types)

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            answer = cast(OpenAPIResponse, (self.responses or {})["200"])
            text = Schema(type=OpenAPIType.STRING)
            answer.content = {item: OpenAPIMediaType(schema=text) for item in types}

    return Described
