"""The table of the pasts that there are, shared by all processes."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

LOST_SECONDS = 60
"""Whoever has not been heard of for so long makes no past any more, and keeps none."""

TOUCH_SECONDS = 10

GIVES_WAY_SECONDS = 600
"""A past that others asked for gives way to a new one once it is unread for so long."""

COLUMNS = f"""id, at, generation, state, done, whole, bounds, error, begun_at, asked_by,
       seen_at < now() - make_interval(secs => {LOST_SECONDS}) AS is_lost,
       used_at < now() - make_interval(secs => {TOUCH_SECONDS}) AS is_untouched,
       used_at < now() - make_interval(secs => {GIVES_WAY_SECONDS}) AS is_unread"""

SELECT_ALL = f"SELECT {COLUMNS} FROM views.pasts ORDER BY used_at, id"

SELECT_ONE = f"SELECT {COLUMNS} FROM views.pasts WHERE id = %s"

SELECT_AT = f"SELECT {COLUMNS} FROM views.pasts WHERE at = %s"

SELECT_IDS = "SELECT id FROM views.pasts"

ADD = f"""
INSERT INTO views.pasts (id, at, generation, asked_by, state) VALUES (%s, %s, %s, %s, 'waiting')
RETURNING {COLUMNS}"""

TOUCH = """
UPDATE views.pasts
SET used_at = now(),
    asked_by = CASE WHEN asked_by @> %(by)s::uuid[] THEN asked_by
                    ELSE asked_by || %(by)s::uuid[] END
WHERE id = %(id)s"""

# Row by row: of two keys that give up the same past at once, the later sees what the first left.
GIVE_UP = """
UPDATE views.pasts SET asked_by = array_remove(asked_by, %s) WHERE id = %s RETURNING asked_by"""

REPORT = """
UPDATE views.pasts SET state = 'filling', done = %s, whole = %s, seen_at = now() WHERE id = %s"""

MAKE_READY = """
UPDATE views.pasts SET state = 'ready', bounds = %s, seen_at = now(), used_at = now()
WHERE id = %s"""

FAIL = "UPDATE views.pasts SET state = 'failed', error = %s, used_at = now() WHERE id = %s"

LIVE_ON = "UPDATE views.pasts SET seen_at = now() WHERE id = ANY(%s)"

FORGET = "DELETE FROM views.pasts WHERE id = ANY(%s)"

FORGET_ALL = "DELETE FROM views.pasts"

FORGET_OLD = """
DELETE FROM views.pasts
WHERE generation <> %s OR seen_at < now() - make_interval(secs => %s)
   OR state = 'ready' AND used_at < now() - make_interval(secs => %s)"""


class PastRow(msgspec.Struct, frozen=True):
    """A past that there is, or will be.

    Attributes:
        state: `waiting`, `filling`, `ready` or `failed`.
        done, whole: events that it has, of how many.
        is_lost: nothing was heard of the process that made it for `LOST_SECONDS`.
        asked_by: the API keys that asked for it and did not give it up, by id.
        is_untouched: nobody read it for `TOUCH_SECONDS`.
        is_unread: nobody read it for `GIVES_WAY_SECONDS`.
    """

    id: uuid.UUID
    at: datetime
    generation: int
    state: str
    done: int
    whole: int
    bounds: list[int] | None
    error: str | None
    begun_at: datetime
    asked_by: list[uuid.UUID]
    is_lost: bool
    is_untouched: bool
    is_unread: bool

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.state == "ready":
            return 1.0
        return self.done / self.whole if self.whole else 0.0
