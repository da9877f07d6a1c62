"""Query: the names that conditions can ask about, as the read models know them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

import sqlalchemy as sa

from domain.identity import SubjectKind
from domain.properties import PropertyType
from projections.tables import bar_counts, catalogue

SEGMENTS = sa.text("SELECT segment, kind FROM views.segments WHERE deleted_at IS NULL")


class KnownNames:
    """A `domain.checking.Vocabulary` that looks up what it is asked for."""

    def __init__(self, conn: sa.Connection) -> None:
        self._conn = conn

    def properties(self, kind: SubjectKind) -> Mapping[str, PropertyType]:
        """Most used first."""
        rows = self._conn.execute(
            sa.select(catalogue.c.name, catalogue.c.value_type)
            .where(catalogue.c.scope == f"{kind}.property")
            .order_by(catalogue.c.uses.desc(), catalogue.c.name)
        )
        return {name: PropertyType(type) for name, type in rows}

    def activities(self, activity: str) -> Collection[str]:
        names = sa.select(catalogue.c.name).where(catalogue.c.scope == activity)
        return set(self._conn.scalars(names))

    def segments(self) -> Mapping[UUID, SubjectKind]:
        return {id: SubjectKind(kind) for id, kind in self._conn.execute(SEGMENTS)}

    def stages(self, kind: SubjectKind) -> Collection[str]:
        b = bar_counts.c
        stages = sa.select(b.stage).where(b.kind == kind.value, b.stage != "").distinct()
        return set(self._conn.scalars(stages))

    def scores(self, kind: SubjectKind) -> Collection[str]:
        """None are kept yet."""
        return ()

    def signals(self, kind: SubjectKind) -> Collection[str]:
        """None are kept yet."""
        return ()
