"""Retyping of a property: converts the values of contacts to the new type where they fit.

A contact keeps the value as it was sent (`sent`), and conversion begins from it. So no value is
lost that does not fit, and a rebuild comes to the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa

from domain.events.definitions import PropertyTypeChanged
from domain.identity import SubjectKind
from domain.name_rules import property_scope
from domain.properties import PropertyType, converted
from projections.kernel.batch import Batch
from projections.kernel.merges import ALL_PARTITIONS
from projections.models import bars, mrr
from projections.models.sweeps import DECIDE_ANEW

PIECE = 5_000
"""Contacts of one statement."""

EXAMPLES = 5
"""Contacts named as examples of values that do not fit."""

SELECT_PIECE = """
SELECT log_partition, subject, coalesce(sent -> %(name)s, properties -> %(name)s)::text
FROM views.contacts
WHERE log_partition = ANY(%(all)s) AND kind = %(kind)s
  AND (log_partition, subject) > (%(partition)s, %(subject)s)
  AND (properties ? %(name)s OR sent ? %(name)s)
ORDER BY log_partition, subject LIMIT %(piece)s"""

CONVERT = """
UPDATE views.contacts c
SET properties = w.properties, name = views.name_of(w.properties),
    sent = c.sent || jsonb_build_object(
        %(name)s::text, coalesce(c.sent -> %(name)s, c.properties -> %(name)s)),
    currency = CASE WHEN %(is_currency)s THEN w.currency ELSE c.currency END
FROM (SELECT o.log_partition, o.subject, v.currency,
             CASE WHEN v.value IS NULL THEN o.properties - %(name)s::text
                  ELSE o.properties || jsonb_build_object(%(name)s::text, v.value) END AS properties
      FROM unnest(%(partitions)s::smallint[], %(subjects)s::uuid[], %(values)s::jsonb[],
                  %(currencies)s::text[]) AS v(p, s, value, currency)
      JOIN views.contacts o ON o.log_partition = v.p AND o.subject = v.s
      WHERE o.log_partition = ANY(%(partitions)s)) w
WHERE c.log_partition = w.log_partition AND c.subject = w.subject
  AND c.log_partition = ANY(%(partitions)s)"""

SELECT_VALUES = sa.text("""
SELECT subject, CAST(coalesce(sent -> :name, properties -> :name) AS text)
FROM views.contacts
WHERE log_partition = ANY(:all) AND kind = :kind
  AND (jsonb_exists(properties, :name) OR jsonb_exists(sent, :name))""")

_encode = msgspec.json.Encoder().encode


class Fit(msgspec.Struct, frozen=True):
    """The numbers of contacts whose value fits, and does not fit.

    Attributes:
        examples: ids of some that do not fit.
    """

    fit: int
    unfit: int
    examples: list[UUID]


def apply(conn: psycopg.Connection, batch: Batch) -> None:
    """Converts the properties that a batch retypes, with the fence closed. The types are as of
    now, which may be newer than the batch."""
    changed = {
        (kind, event.payload.name)
        for event in batch.definitions
        if isinstance(event.payload, PropertyTypeChanged)
        for kind in SubjectKind
        if property_scope(kind) is event.payload.scope
    }
    if not changed:
        return
    for kind, name in sorted(changed):
        type = batch.workspace.names.types_of(kind)[name]
        _convert(conn, kind, name, type)
    names = {name for _, name in changed}
    if not names.isdisjoint((batch.workspace.mrr_property, bars.CURRENCY_PROPERTY)):
        mrr.recount(conn, batch.workspace.mrr_property)
    conn.execute(DECIDE_ANEW)


def _convert(conn: psycopg.Connection, kind: SubjectKind, name: str, type: PropertyType) -> None:
    place: tuple[int, UUID] = (-1, UUID(int=0))
    while True:
        params = {
            "name": name,
            "kind": kind.value,
            "all": ALL_PARTITIONS,
            "piece": PIECE,
            "partition": place[0],
            "subject": place[1],
        }
        rows = conn.execute(SELECT_PIECE, params).fetchall()
        if rows:
            _write(conn, name, type, rows)
            place = rows[-1][:2]
        if len(rows) < PIECE:
            return


def _write(
    conn: psycopg.Connection, name: str, type: PropertyType, rows: Sequence[tuple[int, UUID, str]]
) -> None:
    values = [converted(json.loads(text), type) for _, _, text in rows]
    conn.execute(
        CONVERT,
        {
            "name": name,
            "is_currency": name == bars.CURRENCY_PROPERTY,
            "partitions": [row[0] for row in rows],
            "subjects": [row[1] for row in rows],
            "values": [None if value is None else _encode(value).decode() for value in values],
            "currencies": [bars.currency(value) for value in values],
        },
    )


def fit(conn: sa.Connection, kind: SubjectKind, name: str, type: PropertyType) -> Fit:
    """The effect of retyping a property on the read models of today."""
    params: dict[str, Any] = {"name": name, "kind": kind.value, "all": ALL_PARTITIONS}
    fitting = unfit = 0
    examples: list[UUID] = []
    streamed = {"stream_results": True, "max_row_buffer": PIECE}
    with conn.execute(SELECT_VALUES, params, execution_options=streamed) as rows:
        for subject, text in rows:
            if converted(json.loads(text), type) is not None:
                fitting += 1
                continue
            unfit += 1
            if len(examples) < EXAMPLES:
                examples.append(subject)
    return Fit(fitting, unfit, examples)
