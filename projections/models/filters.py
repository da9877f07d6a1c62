"""Read model: quick filters: the frequent values of properties with counts, and ranges.

Counting takes seconds at a million contacts, so a worker counts in the background after changes and
stores the time. It keeps a value that at least three contacts have; a rarer one may be a name. An
erasure removes the subject's values at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, ClassVar

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.errors import Refusal, UnreadableEvent
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind, log_partition
from domain.properties import PropertyType
from projections.kernel.batch import Batch
from projections.kernel.idle import Idle

SAMPLE = 50_000
"""Contacts that the search for frequent values samples before it counts."""

VALUES = 50
"""Most values of a property."""

FEWEST = 3
"""Fewest contacts with a value."""

PAUSE_SECONDS = 1.0

REST = 20
"""Pause between two counts, as a multiple of the duration of the last one."""

SELECT_STATE = """
SELECT (SELECT coalesce(sum(position), 0)::bigint FROM views.checkpoints) AS positions,
       s.positions, s.erasures, extract(epoch FROM now() - s.as_of)::float8, s.seconds
FROM (SELECT) one LEFT JOIN views.filter_states s ON s.kind = %s"""

COUNT_CONTACTS = """
SELECT coalesce(sum(count), 0)::bigint FROM views.bar_counts WHERE kind = %s"""

# A value that a list holds twice counts once.
FIND_VALUES = """
WITH counted AS (
    SELECT p.key, i.value, count(*) AS n
    FROM views.contacts c CROSS JOIN jsonb_each(c.properties) p
    JOIN views.catalogue t ON t.scope = %(kind)s || '.property' AND t.name = p.key
     AND t.retired_at IS NULL AND t.value_type IN ('string', 'boolean', 'list')
    CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(p.value)
        WHEN 'array' THEN (SELECT coalesce(jsonb_agg(DISTINCT e), '[]')
                           FROM jsonb_array_elements(p.value) e)
        ELSE jsonb_build_array(p.value) END) i(value)
    WHERE c.kind = %(kind)s AND c.log_partition = ANY(%(partitions)s) AND length(i.value) <= 200
    GROUP BY p.key, i.value HAVING count(*) >= %(fewest)s),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY key ORDER BY n DESC, value) AS place FROM counted)
SELECT key, value, n FROM ranked WHERE place <= %(values)s"""

COUNT_VALUES = """
SELECT %(name)s::text, c.properties ->> %(name)s, count(*) FROM views.contacts c
WHERE c.kind = %(kind)s AND jsonb_typeof(c.properties -> %(name)s) IN ('string', 'boolean')
  AND c.properties ->> %(name)s = ANY(%(found)s)
GROUP BY c.properties ->> %(name)s HAVING count(*) >= %(fewest)s"""

COUNT_ITEMS = """
SELECT %(name)s::text, f.value, count(*)
FROM unnest(%(found)s::text[]) AS f(value)
JOIN views.contacts c ON jsonb_typeof(c.properties -> %(name)s) = 'array'
 AND c.properties -> %(name)s ? f.value
WHERE c.kind = %(kind)s GROUP BY f.value HAVING count(*) >= %(fewest)s"""

FIND_NUMBERS = """
SELECT min(views.number_of(properties, %(name)s))::text,
       max(views.number_of(properties, %(name)s))::text
FROM views.contacts WHERE kind = %(kind)s"""

# The value follows its place in the order.
FIND_DATES = """
SELECT split_part(min(d.date), ' ', 2), split_part(max(d.date), ' ', 2)
FROM (SELECT (views.date_in_order(properties, %(name)s, %(zone)s) || ' '
              || (properties ->> %(name)s)) COLLATE "C" AS date
      FROM views.contacts WHERE kind = %(kind)s) d"""

SELECT_TYPES = """
SELECT name, value_type FROM views.catalogue
WHERE scope = %s || '.property' AND retired_at IS NULL ORDER BY name"""

SHARE_FENCE = "SELECT 1 FROM views.fences FOR SHARE"

SELECT_ERASURES = "SELECT erasures FROM views.filter_states WHERE kind = %s"

KEEP_VALUES = """
INSERT INTO views.filter_values (kind, property, value, count)
SELECT %(kind)s, p, v, n
FROM unnest(%(properties)s::text[], %(values)s::text[], %(counts)s::bigint[]) AS w(p, v, n)
ON CONFLICT (kind, property, value) DO UPDATE SET count = excluded.count"""

KEEP_RANGES = """
INSERT INTO views.filter_ranges (kind, property, low, high)
SELECT %(kind)s, p, l, h
FROM unnest(%(properties)s::text[], %(low)s::text[], %(high)s::text[]) AS w(p, l, h)
ON CONFLICT (kind, property) DO UPDATE SET low = excluded.low, high = excluded.high"""

KEEP_STATE = """
INSERT INTO views.filter_states (kind, positions, erasures, as_of, seconds)
VALUES (%(kind)s, %(positions)s, 0, now(), %(seconds)s)
ON CONFLICT (kind) DO UPDATE
SET positions = excluded.positions, as_of = excluded.as_of, seconds = excluded.seconds"""

FORGET_VALUES = """
UPDATE views.filter_values f SET count = f.count - g.n
FROM (SELECT c.kind, p.key, i.value, count(*) AS n
      FROM views.contacts c CROSS JOIN jsonb_each(c.properties) p
      CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(p.value)
          WHEN 'array' THEN (SELECT coalesce(jsonb_agg(DISTINCT e), '[]')
                             FROM jsonb_array_elements(p.value) e)
          ELSE jsonb_build_array(p.value) END) i(value)
      WHERE c.log_partition = ANY(%(partitions)s) AND c.subject = ANY(%(subjects)s)
      GROUP BY 1, 2, 3) g
WHERE f.kind = g.kind AND f.property = g.key AND f.value = g.value"""

FORGET_RARE = "DELETE FROM views.filter_values WHERE count < %s"

# The least and the greatest value each belong to somebody.
FORGET_RANGES = """
DELETE FROM views.filter_ranges f
USING views.contacts c CROSS JOIN jsonb_each(c.properties) p
WHERE c.log_partition = ANY(%(partitions)s) AND c.subject = ANY(%(subjects)s)
  AND f.kind = c.kind AND f.property = p.key
  AND p.value #>> '{}' IN (f.low, f.high)"""

NOTE_ERASURE = """
INSERT INTO views.filter_states (kind, positions, erasures, as_of, seconds)
VALUES (%s, 0, 1, '-infinity', 0)
ON CONFLICT (kind) DO UPDATE
SET erasures = views.filter_states.erasures + 1, positions = 0, seconds = 0"""


log = structlog.get_logger()


class FilterModel:
    """`refresh` fills the tables; the projector applies erasures alone, which cannot wait."""

    tables: ClassVar[Sequence[str]] = ("filter_values", "filter_ranges", "filter_states")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        """Nothing: `refresh` counts anew."""

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """Nothing: `refresh` counts anew."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        """Precedes the deletion of the contacts, whose properties name the values to remove."""
        gone = {
            "partitions": [log_partition(subject) for subject in subjects],
            "subjects": list(subjects),
        }
        conn.execute(FORGET_VALUES, gone)
        conn.execute(FORGET_RARE, (FEWEST,))
        conn.execute(FORGET_RANGES, gone)
        for kind in SubjectKind:
            conn.execute(NOTE_ERASURE, (kind.value,))


def run(
    pool: ConnectionPool, zone: Callable[[], tzinfo], stop: threading.Event, idle: Idle
) -> None:
    """Refreshes the filters until `stop` is set.

    Args:
        zone: returns the present time zone of the workspace.
    """
    while not stop.is_set():
        idle.wait(PAUSE_SECONDS)
        if stop.is_set():
            return
        try:
            refresh(pool, zone)
        except (psycopg.Error, TimeoutError, Refusal, UnreadableEvent) as error:
            log.warning("filters.failed", error=type(error).__name__)


def refresh(pool: ConnectionPool, zone: Callable[[], tzinfo]) -> None:
    """Counts anew for each kind after a change, unless the last count is too recent. `zone`: as of
    `run`."""
    for kind in SubjectKind:
        with pool.connection() as conn:
            row = conn.execute(SELECT_STATE, (kind.value,)).fetchone()
            assert row is not None
            positions, counted_at, erasures, age, seconds = row
            if positions != counted_at and (seconds is None or age > REST * seconds):
                _refresh(conn, kind, positions, erasures, zone())


def _refresh(
    conn: psycopg.Connection,
    kind: SubjectKind,
    positions: int,
    erasures: int | None,
    zone: tzinfo,
) -> None:
    started = time.monotonic()
    types = {name: PropertyType(type) for name, type in conn.execute(SELECT_TYPES, (kind.value,))}
    values, ranges = _values(conn, kind, types), _ranges(conn, kind, types, zone)
    seconds = time.monotonic() - started
    with conn.transaction():
        conn.execute(SHARE_FENCE)
        row = conn.execute(SELECT_ERASURES, (kind.value,)).fetchone()
        if (row[0] if row else None) != erasures:
            return  # an erasure came between: the next refresh counts anew
        conn.execute("DELETE FROM views.filter_values WHERE kind = %s", (kind.value,))
        conn.execute("DELETE FROM views.filter_ranges WHERE kind = %s", (kind.value,))
        conn.execute(
            KEEP_VALUES, _columns(("properties", "values", "counts"), values) | {"kind": kind.value}
        )
        conn.execute(
            KEEP_RANGES, _columns(("properties", "low", "high"), ranges) | {"kind": kind.value}
        )
        state = {"kind": kind.value, "positions": positions, "seconds": seconds}
        conn.execute(KEEP_STATE, state)


def _values(
    conn: psycopg.Connection, kind: SubjectKind, types: Mapping[str, PropertyType]
) -> list[tuple[Any, ...]]:
    row = conn.execute(COUNT_CONTACTS, (kind.value,)).fetchone()
    share = SAMPLE / max(1, row[0] if row else 0)
    params: dict[str, Any] = {"kind": kind.value, "values": VALUES}
    if share >= 1:
        every = params | {"partitions": list(range(LOG_PARTITIONS)), "fewest": FEWEST}
        return conn.execute(FIND_VALUES, every).fetchall()
    some = params | {"partitions": list(range(math.ceil(LOG_PARTITIONS * share))), "fewest": 2}
    frequent: dict[str, list[str]] = {}
    for name, value, _ in conn.execute(FIND_VALUES, some).fetchall():
        frequent.setdefault(name, []).append(value)
    counted: list[tuple[Any, ...]] = []
    for name, values in frequent.items():
        count = COUNT_ITEMS if types.get(name) is PropertyType.LIST else COUNT_VALUES
        exact = {"kind": kind.value, "name": name, "found": values, "fewest": FEWEST}
        counted += conn.execute(count, exact).fetchall()
    return counted


def _ranges(
    conn: psycopg.Connection,
    kind: SubjectKind,
    types: Mapping[str, PropertyType],
    zone: tzinfo,
) -> list[tuple[str, str, str]]:
    statements = {PropertyType.NUMBER: FIND_NUMBERS, PropertyType.DATE: FIND_DATES}
    ranges = []
    for name, type in types.items():
        if type in statements:
            params = {"kind": kind.value, "name": name, "zone": str(zone)}
            row = conn.execute(statements[type], params).fetchone()
            if row is not None and row[0] is not None:
                ranges.append((name, row[0], row[1]))
    return ranges


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}
