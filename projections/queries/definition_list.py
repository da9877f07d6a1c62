"""Queries: definitions and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.definitions.types import Definition, DefinitionKind, Status
from domain.errors import NotFound
from domain.identity import SubjectKind
from projections.kernel.paging import Page

LIST = sa.text("""
SELECT id, CAST(definition AS text), version, status, created_at, created_by, changed_at, changed_by
FROM views.definitions
WHERE status <> 'deleted' AND family <> 'settings'
  AND (CAST(:family AS text) IS NULL OR family = :family)
  AND (CAST(:kind AS text) IS NULL OR kind = :kind)
  AND (CAST(:status AS text) IS NULL OR status = :status)
ORDER BY family, kind, name, created_at, id""")

ONE = sa.text("""
SELECT id, CAST(definition AS text), version, status, created_at, created_by, changed_at, changed_by
FROM views.definitions WHERE id = :id AND status <> 'deleted'""")

VERSIONS = sa.text("""
SELECT version, status, at, by, CAST(definition AS text) FROM views.definition_versions
WHERE id = :id ORDER BY version DESC""")

_definition: msgspec.json.Decoder[Definition] = msgspec.json.Decoder(Definition)


class DefinitionItem(msgspec.Struct, frozen=True):
    """A definition as it stands.

    Attributes:
        version: begins at 1; each change of its content or status adds 1.
        created_by, changed_by: API keys, by id.
    """

    id: UUID
    definition: Definition
    version: int
    status: Status
    created_at: datetime
    created_by: UUID
    changed_at: datetime
    changed_by: UUID


class DefinitionVersion(msgspec.Struct, frozen=True):
    """A past version of a definition, and its author.

    Attributes:
        status: `draft`, `active`, `archived` or `deleted`.
        by: the API key, by id.
    """

    version: int
    status: str
    at: datetime
    by: UUID
    definition: Definition


def list_definitions(
    conn: sa.Connection,
    *,
    family: DefinitionKind | None = None,
    kind: SubjectKind | None = None,
    status: Status | None = None,
) -> Page[DefinitionItem]:
    """All definitions without the settings, by family, kind and name. They are few:
    `domain.workspace.editing`."""
    rows = conn.execute(LIST, {"family": family, "kind": kind, "status": status})
    items = [_item(row) for row in rows]
    return Page(items, None, len(items))


def definition(conn: sa.Connection, id: UUID) -> DefinitionItem:
    """Raises: NotFound: no such definition, or not yet."""
    row = conn.execute(ONE, {"id": id}).one_or_none()
    if row is None:
        raise NotFound("there is no such definition")
    return _item(row)


def list_versions(conn: sa.Connection, id: UUID) -> Page[DefinitionVersion]:
    """All versions of a definition, newest first, also of a deleted one.

    Raises:
        NotFound: no such definition, or not yet.
    """
    items = [
        DefinitionVersion(version, status, at, by, _definition.decode(text))
        for version, status, at, by, text in conn.execute(VERSIONS, {"id": id})
    ]
    if not items:
        raise NotFound("there is no such definition")
    return Page(items, None, len(items))


def _item(row: sa.Row[Any]) -> DefinitionItem:
    id, text, version, status, *rest = iter(row)
    return DefinitionItem(id, _definition.decode(text), version, Status(status), *rest)
