"""Read model: the definitions of all families, with every version.

`projections.models.segments` holds segments besides. A change that can change decisions begins a
sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec
import psycopg

from domain.calendar import FIRST_DAY
from domain.definitions.types import (
    Definition,
    DefinitionId,
    DefinitionKind,
    Segment,
    Settings,
    Status,
    Undeciding,
    family_of,
)
from domain.events.decisions import OfDefinition
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
)
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectId
from domain.workspace.references import counters_of_definition
from projections.kernel.batch import Batch
from projections.models import mrr
from projections.models.sweeps import sweep

DELETED = "deleted"
"""The status of a deleted definition in the read model."""

ADD = """
INSERT INTO views.definitions (id, family, kind, name, definition, version, status, created_at,
                               created_by, changed_at, changed_by)
VALUES (%(id)s, %(family)s, %(kind)s, %(name)s, %(definition)s, 1, %(status)s, %(at)s, %(by)s,
        %(at)s, %(by)s)"""

CHANGE = """
UPDATE views.definitions d
SET name = %(name)s, definition = %(definition)s, version = d.version + 1, changed_at = %(at)s,
    changed_by = %(by)s
FROM (SELECT definition, status FROM views.definitions WHERE id = %(id)s FOR UPDATE) before
WHERE d.id = %(id)s
RETURNING d.version, d.status, before.definition - 'name' <> d.definition - 'name'"""

MOVE = """
UPDATE views.definitions
SET status = %(status)s, version = version + 1, changed_at = %(at)s, changed_by = %(by)s
WHERE id = %(id)s RETURNING version, family"""

ADD_VERSION = """
INSERT INTO views.definition_versions (id, version, definition, status, at, by)
SELECT id, version, definition, status, changed_at, changed_by
FROM views.definitions WHERE id = %(id)s"""

CLEAN = """
UPDATE views.definitions SET name = %(name)s, definition = %(definition)s
WHERE id = %(id)s AND version = ANY(%(versions)s) RETURNING version, status"""

CLEAN_VERSIONS = """
UPDATE views.definition_versions SET definition = %(definition)s
WHERE id = %(id)s AND version = ANY(%(versions)s)"""

SELECT_SETTINGS = "SELECT definition::text FROM views.definitions WHERE family = 'settings' LIMIT 1"

# The process manager sweeps the rules that ask the calendar when this day is not today.
FORGET_SWEPT_DAY = "UPDATE views.deciding SET swept_day = %s"

_settings: msgspec.json.Decoder[Settings] = msgspec.json.Decoder(Settings)
_encode = msgspec.json.Encoder().encode


class DefinitionsModel:
    """Definitions and their versions."""

    tables: ClassVar[Sequence[str]] = ("definitions", "definition_versions")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        before = self._settings(conn, batch)
        for event in batch.definitions:
            self._apply(conn, event)
        if before is not None:
            self._settle(conn, batch, before)

    def _settings(self, conn: psycopg.Connection, batch: Batch) -> Settings | None:
        """The settings before a batch that changes them; None: the batch does not."""
        payloads = (event.payload for event in batch.definitions)
        if not any(
            isinstance(payload, DefinitionMade | DefinitionChanged)
            and isinstance(payload.definition, Settings)
            for payload in payloads
        ):
            return None
        row = conn.execute(SELECT_SETTINGS).fetchone()
        return Settings() if row is None else _settings.decode(row[0])

    def _settle(self, conn: psycopg.Connection, batch: Batch, before: Settings) -> None:
        """Applies changed settings. They are as of now, which may be newer than the batch."""
        row = conn.execute(SELECT_SETTINGS).fetchone()
        after = before if row is None else _settings.decode(row[0])
        if after.mrr_property != before.mrr_property:
            mrr.recount(conn, batch.workspace.mrr_property)
        if after.time_zone != before.time_zone:
            conn.execute(FORGET_SWEPT_DAY, (FIRST_DAY,))

    def _apply(self, conn: psycopg.Connection, event: OpenedEvent) -> None:
        at = event.row.occurred_at
        match event.payload:
            case DefinitionMade(id, definition, by):
                conn.execute(ADD, _columns(id, definition, by, at))
            case DefinitionChanged(id, definition, by):
                row = conn.execute(CHANGE, _columns(id, definition, by, at)).fetchone()
                decides = not isinstance(definition, Segment | Settings)
                if row is not None and decides and row[1] == Status.ACTIVE and row[2]:
                    sweep(conn, id, OfDefinition(row[0], id))
            case DefinitionActivated(id, by):
                self._move(conn, id, Status.ACTIVE, by, at)
            case DefinitionArchived(id, by):
                self._move(conn, id, Status.ARCHIVED, by, at)
            case DefinitionCleaned(id, versions, definition):
                params = _content(id, definition) | {"versions": versions}
                row = conn.execute(CLEAN, params).fetchone()
                conn.execute(CLEAN_VERSIONS, params)
                if (
                    row is not None
                    and row[1] == Status.ACTIVE
                    and counters_of_definition(definition)
                ):
                    # The text of the counter changed, so it is filled anew.
                    of = None if isinstance(definition, Segment) else id
                    sweep(conn, id, OfDefinition(row[0], of))
                return
            case DefinitionDeleted(id, by):
                conn.execute(MOVE, {"id": id, "status": DELETED, "at": at, "by": by})
            case _:
                return
        conn.execute(ADD_VERSION, {"id": id})

    def _move(
        self, conn: psycopg.Connection, id: DefinitionId, status: Status, by: UUID, at: datetime
    ) -> None:
        params = {"id": id, "status": status.value, "at": at, "by": by}
        row = conn.execute(MOVE, params).fetchone()
        if row is not None:
            sweep(conn, id, OfDefinition(row[0], id))

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """A definition is not about one subject."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        """A definition is not about one subject."""


def _content(id: UUID, definition: Definition) -> dict[str, object]:
    about = None if isinstance(definition, Undeciding) else definition
    return {
        "id": id,
        "name": about and about.name,
        "definition": _encode(definition).decode(),
    }


def _columns(id: UUID, definition: Definition, by: UUID, at: datetime) -> dict[str, object]:
    family = family_of(definition)
    about = None if isinstance(definition, Undeciding) else definition
    at_once = family in (DefinitionKind.SEGMENT, DefinitionKind.SETTINGS)
    return {
        "id": id,
        "family": family.value,
        "kind": about and about.kind.value,
        "name": about and about.name,
        "definition": _encode(definition).decode(),
        "status": (Status.ACTIVE if at_once else Status.DRAFT).value,
        "by": by,
        "at": at,
    }
