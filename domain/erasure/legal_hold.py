"""Legal holds: each forbids the erasure of a subject until it is released. Pure."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.identity import SubjectKind


class LegalHold(msgspec.Struct, frozen=True, kw_only=True):
    """A legal hold: forbids an erasure until it is released. Reasons are codes; API keys are
    ids."""

    id: UUID
    subject: UUID
    kind: SubjectKind
    reason: str
    placed_by: str
    placed_at: datetime
    release_reason: str | None
    released_by: str | None
    released_at: datetime | None
