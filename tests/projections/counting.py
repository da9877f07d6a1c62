"""What tests do with counters of metadata: ask for them, have them counted."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import sqlalchemy as sa

from domain.conditions.language import Condition
from infra.bootstrap.annals import Annals
from projections.counters.requests import require

ASKER = uuid.UUID("0e000000-0000-4000-8000-000000000002")
"""The API key that tests ask questions with."""


def need(conn: sa.Connection, condition: Condition, by: uuid.UUID | None = ASKER) -> None:
    """Asks for what a condition needs, now."""
    require(conn, condition, by=by, at=datetime.now(UTC))


def ready(annals: Annals) -> None:
    """Has all counted that waits for it."""
    filler = annals.filler()
    while filler.step():
        pass
