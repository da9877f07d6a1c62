"""What OpenAPI says of a field that is decoded apart, for errors that name the place."""

from __future__ import annotations

from typing import Annotated, Any, cast

from litestar.openapi.spec import Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from domain.conditions import Condition


class DescribedAs:
    """Marks a field that takes any JSON as being described by a type: `Annotated[Any, ...]`."""

    def __init__(self, type: object) -> None:
        self.type = type


SentCondition = Annotated[Any, DescribedAs(Condition)]
"""A condition as it is sent: `domain.checking` decodes it."""


class DescribedFields(OpenAPISchemaPlugin):
    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return _mark(field_definition) is not None

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        mark = _mark(field_definition)
        assert mark is not None
        described = FieldDefinition.from_annotation(mark.type)
        return cast(Schema, schema_creator.for_field_definition(described))


def _mark(field: FieldDefinition) -> DescribedAs | None:
    return next((one for one in field.metadata if isinstance(one, DescribedAs)), None)
