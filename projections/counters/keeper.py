"""The keeper: keeps the counters that definitions and saved views need, and ends unused ones.

The needed counters are derived from the definitions each time: no reference count can drift. A
counter of a question ends after an hour without use, or when there are too many. The keeper deletes
rows in pieces. It begins a needed counter that is missing, as after a restore.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
import psycopg
from psycopg_pool import ConnectionPool

from domain.conditions.counters import Counter
from domain.definitions.types import Definition
from domain.workspace.references import counters_of_definition
from projections.counters.requests import FENCE, MAX_COUNTERS, UNUSED_FOR
from projections.kernel import fences, merges

LOOK_SECONDS = 15.0
"""Seconds between two checks of the needed counters."""

PIECE_ROWS = 5_000
"""Rows deleted in one transaction."""

PIECES_AT_ONCE = 20
"""Pieces that an erasure deletes before other work has a turn."""

# Read models may be older than the definitions, and their counters are still in use.
SELECT_SHOWN = "SELECT definition::text FROM views.definitions WHERE status = 'active'"

BEGIN = """
INSERT INTO views.counters (id, activity, name, tests, kept, asked_at, last_used)
SELECT id, activity, name, tests, true, %(now)s, %(now)s
FROM unnest(%(ids)s::uuid[], %(activities)s::text[], %(names)s::text[], %(tests)s::text[])
     AS v(id, activity, name, tests)
ON CONFLICT DO NOTHING"""

KEEP = """
UPDATE views.counters SET kept = true WHERE id = ANY(%s) AND NOT kept AND state <> 'removing'"""

KEEP_NO_MORE = """
UPDATE views.counters SET kept = false, asked_by = NULL, last_used = %s
WHERE kept AND id <> ALL(%s)"""

# Deletes the tests at once: they can name a person.
END_UNUSED = """
UPDATE views.counters
SET state = 'removing', activity = '', name = '', tests = '', asked_by = NULL
WHERE NOT kept AND state <> 'removing' AND last_used <= %s"""

END_NAMING = """
UPDATE views.counters
SET state = 'removing', activity = '', name = '', tests = '', asked_by = NULL
WHERE NOT kept AND state <> 'removing'
  AND (position('@' IN tests) > 0 OR position('@' IN name) > 0)"""

SELECT_NAMING = """
SELECT 1 FROM views.counters WHERE position('@' IN tests) > 0 OR position('@' IN name) > 0
LIMIT 1"""

# Ends the longest unused first.
END_SURPLUS = """
UPDATE views.counters
SET state = 'removing', activity = '', name = '', tests = '', asked_by = NULL
WHERE id IN (
    SELECT id FROM views.counters WHERE NOT kept AND state <> 'removing'
    ORDER BY last_used DESC, id
    OFFSET greatest(%s - (SELECT count(*) FROM views.counters WHERE kept), 0))"""

SELECT_ENDED = "SELECT id FROM views.counters WHERE state = 'removing' ORDER BY id LIMIT 1"

DELETE_PIECE = """
WITH piece AS (
    SELECT log_partition, subject, counter, day, in_account, by_subject FROM views.counter_days
    WHERE counter = %(counter)s AND log_partition = ANY(%(all)s) LIMIT %(limit)s),
gone AS (
    DELETE FROM views.counter_days d USING piece s
    WHERE d.log_partition = s.log_partition AND d.subject = s.subject AND d.counter = s.counter
      AND d.day = s.day AND d.in_account = s.in_account AND d.by_subject = s.by_subject
      AND d.log_partition = ANY(%(all)s)
    RETURNING 1)
SELECT count(*) FROM gone"""

DELETE_DAYS = "DELETE FROM views.counter_days WHERE log_partition = ANY(%s) AND counter = %s"

DELETE_FILLS = "DELETE FROM views.counter_fills WHERE log_partition = ANY(%s) AND counter = %s"

DELETE = "DELETE FROM views.counters WHERE id = %s AND state = 'removing'"

_definition: msgspec.json.Decoder[Definition] = msgspec.json.Decoder(Definition)


class CounterKeeper:
    """One instance per process that projects or erases.

    Args:
        needed: returns the counters that definitions and saved views need now; None: the read
            models are of a past, and decide nothing.
        projector: of the read models.
    """

    def __init__(
        self,
        *,
        pool: ConnectionPool,
        needed: Callable[[], Iterable[Counter]] | None,
        projector: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._pool = pool
        self._needed = needed
        self._projector = projector
        self._clock = clock
        self._looked_at: float | None = None

    def step(self) -> bool:
        """Checks the needed counters at intervals, and deletes a piece of ended ones; returns
        whether there was one."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_SECONDS:
            self.look()
            self._looked_at = now
        return self.delete_some()

    def look(self) -> None:
        """Registers needed counters that are missing, and ends unused ones."""
        self._look(names_too=False)

    def forget_names(self) -> bool:
        """Ends also each counter that tests for an e-mail address and is not needed: after an
        erasure nobody can tell whose it was. Its text is deleted on return; returns whether
        all rows are."""
        with self._pool.connection() as conn:
            is_there = conn.execute(SELECT_NAMING).fetchone() is not None
        if is_there:
            self._look(names_too=True)
        return not all(self.delete_some() for _ in range(PIECES_AT_ONCE))

    def _look(self, *, names_too: bool) -> None:
        from_log = None if self._needed is None else set(self._needed())
        with self._pool.connection() as conn, conn.transaction():
            fences.close(conn, FENCE)
            now = self._clock()
            every = set() if from_log is None else from_log | shown(conn)
            needed = {counter.id: counter for counter in every}
            ids = list(needed)
            conn.execute(
                BEGIN,
                {
                    "now": now,
                    "ids": ids,
                    "activities": [counter.activity for counter in needed.values()],
                    "names": [counter.name for counter in needed.values()],
                    "tests": [counter.tests for counter in needed.values()],
                },
            )
            conn.execute(KEEP, (ids,))
            conn.execute(KEEP_NO_MORE, (now, ids))
            conn.execute(END_UNUSED, (now - UNUSED_FOR,))
            conn.execute(END_SURPLUS, (MAX_COUNTERS,))
            if names_too:
                conn.execute(END_NAMING)

    def delete_some(self) -> bool:
        """Deletes some rows of an ended counter; returns whether there was one.

        Merges and erasures wait for a piece. The counter itself is deleted with the fence closed: a
        batch or the filler may have begun to add to it before it ended.
        """
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_ENDED).fetchone()
            if row is None:
                return False
            [id] = row
            fences.ensure(conn, self._projector)
            with conn.transaction():
                fences.share(conn, self._projector)
                params = {"counter": id, "all": merges.ALL_PARTITIONS, "limit": PIECE_ROWS}
                [[deleted]] = conn.execute(DELETE_PIECE, params).fetchall()
            if deleted == PIECE_ROWS:
                return True
            with conn.transaction():
                fences.close(conn, self._projector)
                conn.execute(DELETE_DAYS, (merges.ALL_PARTITIONS, id))
                conn.execute(DELETE_FILLS, (merges.ALL_PARTITIONS, id))
                conn.execute(DELETE, (id,))
        return True


def shown(conn: psycopg.Connection) -> set[Counter]:
    """The counters of the definitions in the read models."""
    return {
        counter
        for (text,) in conn.execute(SELECT_SHOWN)
        for counter in counters_of_definition(_definition.decode(text))
    }
