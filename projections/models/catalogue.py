"""Read model: the names of properties and activity in use, with counts and times, and the
retired names, used or not, so that an admin can restore them.

A row without uses holds the time of its retirement in place of times of use.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import psycopg

from domain.events.definitions import NamesRestored, NamesRetired, PropertyTypeChanged
from domain.events.payloads import (
    MembershipChanged,
    MembershipStarted,
    Payload,
    PropertiesBackdated,
    PropertiesChanged,
)
from domain.identity import SubjectId
from domain.name_rules import Retired
from domain.properties import PropertyType, Value, day_in
from projections.kernel.batch import Batch

COUNT_USES = """
INSERT INTO views.catalogue AS c
       (scope, name, value_type, uses, first_at, last_at, retired_at, retired_by)
SELECT * FROM unnest(%(scopes)b::text[], %(names)b::text[], %(types)b::text[], %(uses)b::bigint[],
                     %(first_at)b::timestamptz[], %(last_at)b::timestamptz[],
                     %(retired_at)b::timestamptz[], %(retired_by)b::uuid[])
ON CONFLICT (scope, name) DO UPDATE
SET uses = c.uses + excluded.uses,
    value_type = CASE WHEN c.value_type = 'date' AND excluded.value_type = 'string'
                      THEN excluded.value_type ELSE coalesce(c.value_type, excluded.value_type) END,
    first_at = CASE c.uses WHEN 0 THEN excluded.first_at
                    ELSE least(c.first_at, excluded.first_at) END,
    last_at = CASE c.uses WHEN 0 THEN excluded.last_at
                   ELSE greatest(c.last_at, excluded.last_at) END"""

RULE = """
UPDATE views.catalogue c
SET value_type = coalesce(v.type, c.value_type), retired_at = v.at, retired_by = v.by
FROM unnest(%(scopes)b::text[], %(names)b::text[], %(types)b::text[], %(retired_at)b::timestamptz[],
            %(retired_by)b::uuid[])
     AS v(scope, name, type, at, by)
WHERE c.scope = v.scope AND c.name = v.name"""

ADD_RETIRED = """
INSERT INTO views.catalogue AS c
       (scope, name, value_type, uses, first_at, last_at, retired_at, retired_by)
SELECT v.scope, v.name, v.type, 0, v.at, v.at, v.at, v.by
FROM unnest(%(scopes)b::text[], %(names)b::text[], %(types)b::text[], %(retired_at)b::timestamptz[],
            %(retired_by)b::uuid[])
     AS v(scope, name, type, at, by)
WHERE v.at IS NOT NULL
ON CONFLICT (scope, name) DO UPDATE SET first_at = excluded.first_at, last_at = excluded.last_at
WHERE c.uses = 0"""

DELETE_UNUSED = "DELETE FROM views.catalogue WHERE uses = 0 AND retired_at IS NULL"

RULE_COLUMNS = ("scopes", "names", "types", "retired_at", "retired_by")
USE_COLUMNS = (
    "scopes",
    "names",
    "types",
    "uses",
    "first_at",
    "last_at",
    "retired_at",
    "retired_by",
)

# Pages and campaigns are open-ended: they are counted by subject alone.
_OPEN_ENDED = {"page", "campaign"}


class CatalogueModel:
    tables: ClassVar[Sequence[str]] = ("catalogue",)

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        uses: dict[tuple[str, str], tuple[str | None, int, datetime, datetime]] = {
            key: (None, use.count, use.first_at, use.last_at)
            for key, use in batch.uses.items()
            if key[0] not in _OPEN_ENDED
        }
        for kind, _, _, account, event in batch.changes:
            payload, at = event.payload, event.row.occurred_at
            match payload:
                case PropertiesChanged(values) | PropertiesBackdated(values) if account is None:
                    scope = f"{kind}.property"
                case (
                    MembershipStarted(values, taken_from=None)
                    | MembershipChanged(values)
                    | PropertiesBackdated(values)
                ):
                    scope = "membership.property"
                case _:
                    continue
            for name, value in values.items():
                key = (scope, name)
                type, count, first, last = uses.get(key, (None, 0, at, at))
                type = type if type == PropertyType.STRING.value else _type_of(value)
                uses[key] = (type, count + 1, min(first, at), max(last, at))
        rules = batch.workspace.names
        if uses:
            rows = [
                (*key, rules.type_of(*key) or kind, *use, *_since(rules.retired_since(*key)))
                for key, (kind, *use) in sorted(uses.items())
            ]
            conn.execute(COUNT_USES, _by_column(USE_COLUMNS, rows))
        ruled = sorted({name for event in batch.definitions for name in _ruled(event.payload)})
        if ruled:
            # As the workspace is now, which may be newer than the batch.
            rows = [
                (scope, name, rules.type_of(scope, name), *_since(rules.retired_since(scope, name)))
                for scope, name in ruled
            ]
            params = _by_column(RULE_COLUMNS, rows)
            conn.execute(RULE, params)
            conn.execute(ADD_RETIRED, params)
            conn.execute(DELETE_UNUSED)

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """Names belong to the workspace, not to a subject."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        """Names are no personal data."""


def _by_column(
    columns: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> dict[str, list[object]]:
    return dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))


def _ruled(payload: Payload | None) -> list[tuple[str, str]]:
    """The names that an admin retired, restored or retyped, each with its scope."""
    match payload:
        case NamesRetired(scope, names) | NamesRestored(scope, names):
            return [(scope.value, name) for name in names]
        case PropertyTypeChanged(scope, name):
            return [(scope.value, name)]
        case _:
            return []


def _since(retired: Retired | None) -> tuple[datetime | None, UUID | None]:
    return (None, None) if retired is None else (retired.at, retired.by)


def _type_of(value: Value) -> str:
    """The type of a value's property. The text of a day can be either: a property with other texts
    is a string, whichever comes first."""
    if isinstance(value, bool):
        return PropertyType.BOOLEAN.value
    if isinstance(value, datetime) or day_in(value) is not None:
        return PropertyType.DATE.value
    if isinstance(value, int | float):
        return PropertyType.NUMBER.value
    return (PropertyType.LIST if isinstance(value, list) else PropertyType.STRING).value
