"""Query: the names that conditions can use, from the read models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

import sqlalchemy as sa

from domain.definitions.types import Definition, DefinitionId, DefinitionKind
from domain.identity import SubjectKind
from domain.name_rules import property_scope
from domain.properties import PropertyType
from domain.workspace.definitions import Definitions
from domain.workspace.references import provides
from projections.kernel.tables import catalogue

NO_ID = UUID(int=0)

STAGES = sa.text("""
SELECT stage.value ->> 'name'
FROM views.definitions d, jsonb_array_elements(d.definition -> 'stages') WITH ORDINALITY AS stage
WHERE d.family = 'stages' AND d.kind = :kind AND d.status = 'active' ORDER BY stage.ordinality""")

NAMED = sa.text("""
SELECT name FROM views.definitions
WHERE family = :family AND kind = :kind AND status = 'active'""")

SEGMENTS = sa.text("SELECT segment, kind FROM views.segments WHERE deleted_at IS NULL")


class KnownNames:
    """A `domain.conditions.validation.Vocabulary` that reads names on demand."""

    def __init__(self, conn: sa.Connection) -> None:
        self._conn = conn

    def properties(self, kind: SubjectKind) -> Mapping[str, PropertyType]:
        """Most used first."""
        rows = self._conn.execute(
            sa.select(catalogue.c.name, catalogue.c.value_type)
            .where(catalogue.c.scope == property_scope(kind), catalogue.c.retired_at.is_(None))
            .order_by(catalogue.c.uses.desc(), catalogue.c.name)
        )
        return {name: PropertyType(type) for name, type in rows}

    def activities(self, activity: str) -> Collection[str]:
        names = sa.select(catalogue.c.name).where(
            catalogue.c.scope == activity, catalogue.c.retired_at.is_(None)
        )
        return set(self._conn.scalars(names))

    def segments(self) -> Mapping[UUID, SubjectKind]:
        return {id: SubjectKind(kind) for id, kind in self._conn.execute(SEGMENTS)}

    def stages(self, kind: SubjectKind) -> Collection[str]:
        """In their order."""
        return list(self._conn.scalars(STAGES, {"kind": kind.value}))

    def scores(self, kind: SubjectKind) -> Collection[str]:
        return self._named(DefinitionKind.SCORE, kind)

    def signals(self, kind: SubjectKind) -> Collection[str]:
        return self._named(DefinitionKind.SIGNAL, kind)

    def _named(self, family: DefinitionKind, kind: SubjectKind) -> Collection[str]:
        return set(self._conn.scalars(NAMED, {"family": family.value, "kind": kind.value}))


class NamesNow(KnownNames):
    """A vocabulary with the definitions of the log: a definition can be used at once.

    Args:
        draft: its own names count as known, as they will be once it is active.
    """

    def __init__(
        self, conn: sa.Connection, definitions: Definitions, draft: Definition | None = None
    ) -> None:
        super().__init__(conn)
        self._definitions = definitions
        self._own = set() if draft is None else provides(DefinitionId(NO_ID), draft)

    def segments(self) -> Mapping[UUID, SubjectKind]:
        return {id: segment.definition.kind for id, segment in self._definitions.segments.items()}

    def stages(self, kind: SubjectKind) -> Collection[str]:
        own = self._of_draft(DefinitionKind.STAGES, kind)
        return own or self._definitions.known(DefinitionKind.STAGES, kind)

    def _named(self, family: DefinitionKind, kind: SubjectKind) -> Collection[str]:
        return self._definitions.known(family, kind) | self._of_draft(family, kind)

    def _of_draft(self, family: DefinitionKind, kind: SubjectKind) -> set[str]:
        return {
            definition.name
            for definition in self._own
            if (definition.family, definition.kind) == (family, kind)
        }
