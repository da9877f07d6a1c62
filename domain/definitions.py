"""Definitions: what people save of the workspace itself. Segments today.

Definitions refer to one another (a segment in a segment), and what must hold of all of them
together, such as that none refers back to itself, is one decision. So they are one aggregate with
one history, `domain.segments.Definitions`; each has an id of its own and counts its own versions.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import NewType
from uuid import UUID

import msgspec

from domain.conditions import Condition
from domain.errors import InvalidInput
from domain.identity import SubjectKind

DefinitionId = NewType("DefinitionId", UUID)
"""Random (version 4)."""

MAX_NAME_CHARS = 200


class DefinitionKind(enum.StrEnum):
    """The families of definitions; each has topics of its own in the log."""

    SEGMENT = "segment"


class Segment(msgspec.Struct, frozen=True, tag="segment", omit_defaults=True):
    """Users or accounts under a name.

    Attributes:
        condition: who is in it. None: a static segment, whose list is kept by hand.
    """

    kind: SubjectKind
    name: str
    condition: Condition | None = None


Definition = Segment
"""Any definition: a union, as soon as there are others."""


class Defined(msgspec.Struct, frozen=True):
    """A definition as it stands.

    Attributes:
        version: of this one, from 1.
        by, created_by: the API key that changed it last, that made it.
    """

    id: DefinitionId
    version: int
    definition: Definition
    created_at: datetime
    created_by: UUID
    changed_at: datetime
    by: UUID


def checked_name(value: str, *, place: str = "/name") -> str:
    """Raises: InvalidInput: empty, too long, blank at an end, or with control characters."""
    if not value or len(value) > MAX_NAME_CHARS:
        raise InvalidInput(f"a name has 1 to {MAX_NAME_CHARS} characters", place=place)
    if value != value.strip() or not value.isprintable():
        raise InvalidInput(
            "the name begins or ends with a space, or holds a control character", place=place
        )
    return value
