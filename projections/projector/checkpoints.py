"""Checkpoints: the position that the projector reached in each partition of the log."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from domain.commands import Position
from projections.kernel import pg_arrays

PROJECTOR = "main"
"""Names the projector in checkpoints, fences, workers and parked events."""

ENSURE_CHECKPOINTS = """
INSERT INTO views.checkpoints (projector, log_partition)
SELECT %s, p FROM generate_series(0, 255) p ON CONFLICT DO NOTHING"""

# Raises the fencing token: no worker can write a batch that it read before.
RESET_CHECKPOINTS = """
UPDATE views.checkpoints
SET position = 0, worker = NULL, fencing_token = fencing_token + 1, leased_until = '-infinity'
WHERE projector = %s"""

COUNT_REACHED = """
SELECT count(*) FROM views.checkpoints c
JOIN unnest(%(partitions)b::smallint[], %(positions)b::bigint[]) AS v(p, position)
  ON c.log_partition = v.p AND c.position >= v.position
WHERE c.projector = %(projector)b"""


def ensure(conn: psycopg.Connection) -> None:
    """Adds the checkpoints that are missing, at the beginning of the log."""
    conn.execute(ENSURE_CHECKPOINTS, (PROJECTOR,))


def reset(conn: psycopg.Connection) -> None:
    """Moves all checkpoints to the beginning of the log, and ends all leases."""
    conn.execute(RESET_CHECKPOINTS, (PROJECTOR,))


def reached(conn: psycopg.Connection, positions: Sequence[Position]) -> bool:
    """Whether the read models hold the events at all of these positions."""
    params = {
        "partitions": pg_arrays.smallints([position.log_partition for position in positions]),
        "positions": pg_arrays.bigints([position.position for position in positions]),
        "projector": PROJECTOR,
    }
    row = conn.execute(COUNT_REACHED, params).fetchone()
    return row is not None and row[0] == len(positions)
