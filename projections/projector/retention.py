"""Retention in the read models: deletes counts of tracked activity that retention ends.

Counts of names stay, unless retention drops them as well; a rebuild restores them from sums in the
log. Counts of metadata are deleted with the activity. The limit is a whole day, which no time zone
extends into what is kept: a rebuild, which sees only what is kept, comes to the same.
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

# A partition without a checkpoint begins with the sums.
BEHIND = """
SELECT EXISTS (
    SELECT FROM views.checkpoints c
    JOIN unnest(%s::bigint[]) WITH ORDINALITY AS l(line, place) ON c.log_partition = l.place - 1
    WHERE c.projector = %s AND c.position > 0 AND c.position < l.line)"""

FORGET_METADATA = "DELETE FROM views.counter_days WHERE log_partition = ANY(%s) AND day < %s"

FORGET_DAYS = "DELETE FROM views.activity_days WHERE log_partition = ANY(%s) AND day < %s"

# A first day that was deleted moves to the first day that is kept.
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

# User and account both count a user's event that names the account, and it is one use. A retired
# name stays without uses, so that an admin can restore it.
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
"""Scopes of activity with a closed catalogue."""


def close(conn: psycopg.Connection) -> None:
    """Waits for the batches under way, and keeps new ones out until the transaction ends."""
    fences.close(conn, PROJECTOR)


def is_behind(conn: psycopg.Connection, lines: Sequence[int]) -> bool:
    """Whether a partition that has begun is behind its line."""
    row = conn.execute(BEHIND, (list(lines), PROJECTOR)).fetchone()
    return row is not None and bool(row[0])


def forget(conn: psycopg.Connection, bounds: RetentionBounds) -> None:
    """Deletes what retention ends. Idempotent; needs the fence closed."""
    params = (ALL_PARTITIONS, bounds.metadata_counted_since)
    changed = conn.execute(FORGET_METADATA, params).rowcount
    dropped = conn.execute(FORGET_DAYS, (ALL_PARTITIONS, bounds.counted_since)).rowcount
    if dropped:
        conn.execute(DELETE_UNUSED_NAMES)
        conn.execute(SEE_ANEW, {"all": ALL_PARTITIONS, "day": bounds.counted_since})
        conn.execute(COUNT_USES_ANEW, {"scopes": CLOSED_SCOPES})
    if changed or dropped:
        conn.execute(DECIDE_ANEW)
