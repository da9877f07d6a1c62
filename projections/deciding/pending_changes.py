"""Pending changes: changes of the projector that the process manager has not evaluated yet.

`projections.models.changes` writes a row for each batch, and packs and unpacks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

SELECT_SOME = sa.text("""
SELECT id, changes FROM views.changes_due LIMIT :limit FOR UPDATE SKIP LOCKED""")

SELECT_OTHERS = sa.text("SELECT changes FROM views.changes_due WHERE id <> ALL(:ids)")

DELETE_SOME = sa.text("DELETE FROM views.changes_due WHERE id = ANY(:ids)")

DELETE_ALL = sa.text("DELETE FROM views.changes_due")


class PendingChanges(NamedTuple):
    """The changes of one batch.

    Attributes:
        changes: packed.
    """

    id: UUID
    changes: bytes


def lock_some(conn: sa.Connection, limit: int) -> list[PendingChanges]:
    """The changes of some batches, locked: other workers pass them."""
    return [PendingChanges(*row) for row in conn.execute(SELECT_SOME, {"limit": limit})]


def select_others(conn: sa.Connection, ids: Sequence[UUID]) -> list[bytes]:
    """The changes of all other batches, packed."""
    return list(conn.scalars(SELECT_OTHERS, {"ids": list(ids)}))


def delete(conn: sa.Connection, ids: Sequence[UUID]) -> None:
    conn.execute(DELETE_SOME, {"ids": list(ids)})


def delete_all(conn: sa.Connection) -> None:
    conn.execute(DELETE_ALL)
