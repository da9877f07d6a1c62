"""The selection of a question: checks segment and filter against the read models that answer it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa

from domain.conditions import decoding, validation
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from projections.conditions.known_names import KnownNames
from projections.conditions.selection import Selection
from projections.counters.requests import require


def selection(
    conn: sa.Connection,
    kind: SubjectKind,
    *,
    segment: UUID | None,
    filter: bytes | None,
    search: str | None,
    by: UUID,
) -> Selection:
    """Decodes and checks a selection, and asks for the counters that its filter needs.

    Args:
        filter: a condition as JSON; None: all.
        by: the API key that asks, by id.

    Raises:
        InvalidInput: no such segment, or a filter that cannot be asked; says where.
        NotReady: its counters are being filled. TooManyAtOnce: there are too many counters.
    """
    known = KnownNames(conn)
    if segment is not None and known.segments().get(segment) != kind:
        raise InvalidInput(f"there is no such segment of {kind}s", pointer="/segment")
    condition = None
    if filter is not None:
        condition = decoding.decode(filter, "/filter")
        validation.check(condition, kind, known, "/filter")
        require(conn, condition, by=by, at=datetime.now(UTC))
    return Selection(kind, segment, condition, search)
