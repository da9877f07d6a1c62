"""Bounds that the domain checks, as the OpenAPI document says them: one number is behind both.

They only describe. The checks stay where the reason for a refusal can be told in full.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

from litestar.openapi.spec import OpenAPIFormat, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from domain import identity
from domain.definitions import destinations, links, types
from domain.erasure import order
from domain.workspace.consistency import MAX_HOURS, MAX_WEIGHT


class Bounds:
    """Marks a type with keywords of JSON Schema, as `litestar.openapi.spec.Schema` names them."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords


class BoundedFields(OpenAPISchemaPlugin):
    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return _bounds(field_definition) is not None

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        bounds = _bounds(field_definition)
        assert bounds is not None
        bare = FieldDefinition.from_annotation(field_definition.annotation)
        schema = cast(Schema, schema_creator.for_field_definition(bare))
        for keyword, value in bounds.keywords.items():
            setattr(schema, keyword, value)
        return schema


def _bounds(field: FieldDefinition) -> Bounds | None:
    return next((mark for mark in field.metadata if isinstance(mark, Bounds)), None)


SUBJECT_CHARS = identity.MAX_IDENTITY_CHARS + len("external:")

Name = Annotated[str, Bounds(min_length=1, max_length=types.MAX_NAME_CHARS)]
SubjectText = Annotated[str, Bounds(min_length=1, max_length=SUBJECT_CHARS)]
"""A subject: our id, or `external:...`, `email:...`, `domain:...`."""
ReasonCode = Annotated[
    str,
    Bounds(min_length=1, max_length=order.MAX_REASON_CHARS, pattern="^[A-Za-z0-9_.-]+$"),
]
Hours = Annotated[int, Bounds(minimum=1, maximum=MAX_HOURS)]
Weight = Annotated[int, Bounds(minimum=-MAX_WEIGHT, maximum=MAX_WEIGHT)]
LinkUrl = Annotated[str, Bounds(min_length=1, max_length=links.MAX_URL_CHARS)]
PostUrl = Annotated[str, Bounds(min_length=1, max_length=destinations.MAX_URL_CHARS)]
Instant = Annotated[str, Bounds(format=OpenAPIFormat.DATE_TIME)]
"""With a zone."""
Positions = Annotated[str, Bounds(pattern="^([0-9]+:[0-9]+(,[0-9]+:[0-9]+)*)?$")]
"""As answers have them: `partition:position`, by commas."""
Place = Annotated[str, Bounds(pattern="^[0-9]+:[0-9]+$")]
