"""Query: the quick filters of a list: values, ranges, stages, health and segments."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.conditions.language import Health
from domain.identity import SubjectKind
from domain.properties import PropertyType
from projections.conditions.known_names import KnownNames
from projections.queries.bars import bars_of_all


class ValueCount(msgspec.Struct, frozen=True):
    """A value, and the number of contacts that have it."""

    value: str | bool
    count: int


class PropertyFilter(msgspec.Struct, frozen=True):
    """
    Attributes:
        values: the most frequent texts, booleans and list items, each of at least three contacts.
        low, high: the least and the greatest number or date; null: there is none.
    """

    name: str
    type: PropertyType
    values: list[ValueCount]
    low: int | float | str | None
    high: int | float | str | None


class StageFilter(msgspec.Struct, frozen=True):
    stage: str | None
    count: int


class HealthFilter(msgspec.Struct, frozen=True):
    health: Health
    count: int


class SegmentFilter(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    count: int


class Filters(msgspec.Struct, frozen=True):
    """
    Attributes:
        as_of: when properties were counted; null: not yet. All else is current.
    """

    as_of: datetime | None
    properties: list[PropertyFilter]
    stages: list[StageFilter]
    health: list[HealthFilter]
    segments: list[SegmentFilter]


AS_OF = sa.text("""
SELECT nullif(as_of, '-infinity') FROM views.filter_states WHERE kind = :kind""")


KEPT_VALUES = sa.text("""
SELECT property, value, count FROM views.filter_values WHERE kind = :kind
ORDER BY count DESC, value COLLATE "C" """)


KEPT_RANGES = sa.text("SELECT property, low, high FROM views.filter_ranges WHERE kind = :kind")


SEGMENTS = sa.text("""
SELECT s.segment, s.name, coalesce((
    SELECT sum(c.members) FROM views.segment_counts c WHERE c.segment = s.segment), 0)::bigint
FROM views.segments s WHERE s.kind = :kind AND s.deleted_at IS NULL ORDER BY s.name, s.segment""")


def filters(conn: sa.Connection, kind: SubjectKind) -> Filters:
    """The quick filters of a list."""
    params = {"kind": kind.value}
    as_of = conn.scalar(AS_OF, params)
    values: dict[str, list[tuple[str, int]]] = {}
    for name, value, count in conn.execute(KEPT_VALUES, params):
        values.setdefault(name, []).append((value, count))
    ranges = {name: (low, high) for name, low, high in conn.execute(KEPT_RANGES, params)}
    bars = bars_of_all(conn, kind)
    return Filters(
        as_of=as_of,
        properties=[
            _property(name, type, values.get(name, []), ranges.get(name))
            for name, type in KnownNames(conn).properties(kind).items()
        ],
        stages=[StageFilter(stage.stage, stage.count) for stage in bars.stages],
        health=[HealthFilter(health.health, health.count) for health in bars.health],
        segments=[SegmentFilter(*row) for row in conn.execute(SEGMENTS, params)],
    )


def _property(
    name: str, type: PropertyType, values: list[tuple[str, int]], range: tuple[str, str] | None
) -> PropertyFilter:
    low, high = (None, None) if range is None else (_bound(type, bound) for bound in range)
    if type is PropertyType.BOOLEAN:
        counts = [ValueCount(value == "true", count) for value, count in values]
    else:
        counts = [ValueCount(value, count) for value, count in values]
    return PropertyFilter(name, type, counts, low, high)


def _bound(type: PropertyType, text: str) -> int | float | str:
    if type is PropertyType.DATE:
        return text
    return msgspec.json.decode(text, type=int | float)
