"""Saved views: the named choice of columns, order and filter of a list, for all readers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.conditions.language import Condition
from domain.identity import SubjectKind

MAX_SAVED_VIEWS = 1_000


class SavedView(msgspec.Struct, frozen=True):
    """
    Attributes:
        columns: the properties shown; None: all.
    """

    kind: SubjectKind
    name: str
    sort: str
    columns: list[str] | None = None
    segment: UUID | None = None
    filter: Condition | None = None


class SavedViewItem(msgspec.Struct, frozen=True):
    """A saved view as it stands. `made_by` and `changed_by` are API keys."""

    id: UUID
    view: SavedView
    made_at: datetime
    made_by: UUID
    changed_at: datetime
    changed_by: UUID
