"""Read model: the MRR of each contact, from the property that the workspace chose.

The projector writes it with each contact (`projections.models.contacts`), and recounts all contacts
when the workspace chooses another property.
"""

from __future__ import annotations

import psycopg

from projections.kernel.merges import ALL_PARTITIONS

# Reads amounts as `projections.models.bars.amount` does: a number, or a plain decimal as text.
RECOUNT = r"""
UPDATE views.contacts c SET mrr = n.mrr
FROM (SELECT log_partition, subject,
             CASE jsonb_typeof(properties -> %(property)s)
             WHEN 'number' THEN (properties ->> %(property)s)::numeric
             WHEN 'string' THEN
                 CASE WHEN properties ->> %(property)s ~ '^[+-]?[0-9]{1,30}(\.[0-9]{1,30})?$'
                      THEN (properties ->> %(property)s)::numeric END
             END AS mrr
      FROM views.contacts WHERE log_partition = ANY(%(all)s)) n
WHERE c.log_partition = n.log_partition AND c.subject = n.subject
  AND c.log_partition = ANY(%(all)s) AND c.mrr::text IS DISTINCT FROM n.mrr::text"""

FORGET_BARS = "DELETE FROM views.bar_counts WHERE log_partition = ANY(%s)"

COUNT_BARS = """
INSERT INTO views.bar_counts
       (log_partition, kind, stage, health, currency, count, with_mrr, mrr)
SELECT log_partition, kind, coalesce(stage, ''), health, coalesce(currency, ''), count(*),
       count(mrr), trim_scale(coalesce(sum(mrr), 0))
FROM views.contacts WHERE log_partition = ANY(%s) GROUP BY 1, 2, 3, 4, 5"""


def recount(conn: psycopg.Connection, property: str) -> None:
    """Recomputes the MRR of every contact from a property, and the bars. The fence must be
    closed."""
    conn.execute(RECOUNT, {"property": property, "all": ALL_PARTITIONS})
    conn.execute(FORGET_BARS, (ALL_PARTITIONS,))
    conn.execute(COUNT_BARS, (ALL_PARTITIONS,))
