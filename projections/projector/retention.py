"""What read models forget when tracked activity is no longer kept.

Counts of names stay, unless they are to be dropped; a rebuild has them from the log, where sums
stand for what does not open any more. Counts of metadata go with what they were counted from. Both
go by whole days, which in no time zone reach into what is kept: so a rebuild, which sees only what
is kept, comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from domain.definitions.retention import RetentionBounds
from projections.kernel import fences
from projections.kernel.merges import ALL_PARTITIONS
from projections.models.activity_days import DELETE_UNUSED_NAMES
from projections.models.sweeps import DECIDE_ANEW
from projections.projector.checkpoints import PROJECTOR

# A partition that is not begun yet will be begun with the sums.
BEHIND = """
SELECT EXISTS (
    SELECT FROM views.checkpoints c
    JOIN unnest(%s::bigint[]) WITH ORDINALITY AS l(line, place) ON c.log_partition = l.place - 1
    WHERE c.projector = %s AND c.position > 0 AND c.position < l.line)"""

FORGET_METADATA = "DELETE FROM views.counter_days WHERE log_partition = ANY(%s) AND day < %s"

FORGET_DAYS = "DELETE FROM views.activity_days WHERE log_partition = ANY(%s) AND day < %s"

# Whoever was first seen on a day that is kept was not seen on one that is not.
SEE_ANEW = """
UPDATE views.seen s SET first_seen = d.first_seen, last_seen = d.last_seen
FROM (SELECT o.log_partition, o.subject, min(d.first_at) AS first_seen, max(d.last_at) AS last_seen
      FROM views.seen o LEFT JOIN views.activity_days d
        ON d.log_partition = o.log_partition AND d.subject = o.subject
      WHERE o.log_partition = ANY(%(all)s) AND o.first_seen < %(day)s + interval '2 days'
      GROUP BY 1, 2) d
WHERE s.log_partition = ANY(%(all)s) AND s.log_partition = d.log_partition
  AND s.subject = d.subject
  AND (s.first_seen, s.last_seen) IS DISTINCT FROM (d.first_seen, d.last_seen)"""

# Of a user's event that names an account both have a count, and it was used once. A retired name
# stays in the list, where it can be restored: without uses, as `projections.models.catalogue` has
# it.
COUNT_USES_ANEW = """
WITH uses AS (
    SELECT n.kind, n.name, sum(d.count)::bigint AS uses, min(d.first_at) AS first_at,
           max(d.last_at) AS last_at
    FROM views.activity_days d JOIN views.names n ON n.id = d.name_id
    JOIN views.contacts c ON c.log_partition = d.log_partition AND c.subject = d.subject
    WHERE c.kind = 'user' OR NOT d.in_account GROUP BY 1, 2),
gone AS (
    DELETE FROM views.catalogue k USING views.catalogue s
    WHERE k.scope = s.scope AND k.name = s.name AND k.scope = ANY(%(scopes)s)
      AND s.retired_at IS NULL
      AND NOT EXISTS (SELECT FROM uses u WHERE u.kind = s.scope AND u.name = s.name))
UPDATE views.catalogue k
SET uses = coalesce(u.uses, 0), first_at = coalesce(u.first_at, s.retired_at),
    last_at = coalesce(u.last_at, s.retired_at)
FROM views.catalogue s LEFT JOIN uses u ON u.kind = s.scope AND u.name = s.name
WHERE k.scope = s.scope AND k.name = s.name
  AND (u.name IS NOT NULL OR s.scope = ANY(%(scopes)s) AND s.retired_at IS NOT NULL)"""

CLOSED_SCOPES = ["event", "screen", "channel"]
"""Of activity, those whose names are in the catalogue."""


def close(conn: psycopg.Connection) -> None:
    """Waits until no batch of a projector is under way, and lets none begin until the caller's
    transaction ends."""
    fences.close(conn, PROJECTOR)


def is_behind(conn: psycopg.Connection, lines: Sequence[int]) -> bool:
    """Whether a partition is begun and has not come to its line."""
    row = conn.execute(BEHIND, (list(lines), PROJECTOR)).fetchone()
    return row is not None and bool(row[0])


def forget(conn: psycopg.Connection, bounds: RetentionBounds) -> None:
    """Drops what is not counted any more. Safe to repeat; to be called with projectors closed."""
    params = (ALL_PARTITIONS, bounds.metadata_counted_since)
    changed = conn.execute(FORGET_METADATA, params).rowcount
    dropped = conn.execute(FORGET_DAYS, (ALL_PARTITIONS, bounds.counted_since)).rowcount
    if dropped:
        conn.execute(DELETE_UNUSED_NAMES)
        conn.execute(SEE_ANEW, {"all": ALL_PARTITIONS, "day": bounds.counted_since})
        conn.execute(COUNT_USES_ANEW, {"scopes": CLOSED_SCOPES})
    if changed or dropped:
        conn.execute(DECIDE_ANEW)
