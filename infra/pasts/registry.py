"""The table of pasts, shared by all processes: the state, the progress and the API keys of each.

Few pasts are kept. A new one takes the place of the one longest unread, of those that may give way.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from domain.errors import NotFound, TooManyAtOnce, Unavailable
from projections.kernel import fences

KEPT = 3
"""Pasts, at most."""

BY_KEY = 2
"""Pasts, at most, that are made for one API key at the same time."""

LOST_SECONDS = 60
"""A process that was not heard of for so long makes no past any more, and keeps none."""

IDLE_SECONDS = 3_600
"""A past that is unread for so long is dropped."""

TOUCH_SECONDS = 10

GIVES_WAY_SECONDS = 600
"""A past that others asked for gives way to a new one once it is unread for so long."""

FENCE = "pasts"

COLUMNS = f"""id, at, generation, state, done, whole, bounds, error, begun_at, asked_by,
       seen_at < now() - make_interval(secs => {LOST_SECONDS}) AS is_lost,
       used_at < now() - make_interval(secs => {TOUCH_SECONDS}) AS is_untouched,
       used_at < now() - make_interval(secs => {GIVES_WAY_SECONDS}) AS is_unread"""

SELECT_ALL = f"SELECT {COLUMNS} FROM views.pasts ORDER BY used_at, id"

SELECT_BY_ID = f"SELECT {COLUMNS} FROM views.pasts WHERE id = %(id)s"

SELECT_BY_INSTANT = f"SELECT {COLUMNS} FROM views.pasts WHERE at = %(at)s"

SELECT_IDS = "SELECT id FROM views.pasts"

ADD = f"""
INSERT INTO views.pasts (id, at, generation, asked_by, state)
VALUES (%(id)s, %(at)s, %(generation)s, %(by)s, 'waiting') RETURNING {COLUMNS}"""

TOUCH = """
UPDATE views.pasts
SET used_at = now(),
    asked_by = CASE WHEN asked_by @> %(by)s::uuid[] THEN asked_by
                    ELSE asked_by || %(by)s::uuid[] END
WHERE id = %(id)s"""

# Row by row: of two keys that give up a past at once, the later sees the result of the first.
GIVE_UP = """
UPDATE views.pasts SET asked_by = array_remove(asked_by, %(by)s) WHERE id = %(id)s
RETURNING asked_by"""

REPORT = """
UPDATE views.pasts SET state = 'filling', done = %(done)s, whole = %(whole)s, seen_at = now()
WHERE id = %(id)s"""

SET_READY = """
UPDATE views.pasts SET state = 'ready', bounds = %(bounds)s, seen_at = now(), used_at = now()
WHERE id = %(id)s"""

SET_FAILED = """
UPDATE views.pasts SET state = 'failed', error = %(error)s, used_at = now() WHERE id = %(id)s"""

SET_SEEN = "UPDATE views.pasts SET seen_at = now() WHERE id = ANY(%(ids)s)"

FORGET = "DELETE FROM views.pasts WHERE id = ANY(%(ids)s)"

FORGET_ALL = "DELETE FROM views.pasts"

FORGET_OLD = """
DELETE FROM views.pasts
WHERE generation <> %(generation)s OR seen_at < now() - make_interval(secs => %(lost)s)
   OR state = 'ready' AND used_at < now() - make_interval(secs => %(idle)s)"""


class PastRow(msgspec.Struct, frozen=True):
    """A past that exists, or is being made.

    Attributes:
        state: `waiting`, `filling`, `ready` or `failed`.
        done, whole: events projected so far, and in all.
        is_lost: its process has given no sign of life for `LOST_SECONDS`.
        asked_by: the ids of the API keys that asked for it and did not give it up.
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


class Begun(msgspec.Struct, frozen=True):
    """
    Attributes:
        is_new: whether the past must be made; else it exists or is being made.
        replaced: the pasts that it replaces.
    """

    row: PastRow
    is_new: bool
    replaced: Sequence[uuid.UUID] = ()


class PastRegistry:
    """Safe for use from many threads.

    Args:
        views: of the live read models.
    """

    def __init__(self, views: ConnectionPool) -> None:
        self._views = views

    def begin(self, at: datetime, by: uuid.UUID | None, generation: int) -> Begun:
        """The past of an instant, added where there is none.

        Args:
            by: the API key that asks, by id.
            generation: of the keys; a past of another generation is outdated.

        Raises:
            Unavailable: `KEPT` pasts are kept, and others read them.
            TooManyAtOnce: `KEPT` pasts are being made, or `BY_KEY` for this API key.
        """
        with self._views.connection() as conn, conn.transaction():
            fences.close(conn, FENCE)
            cursor = conn.cursor(row_factory=class_row(PastRow))
            rows = cursor.execute(SELECT_ALL).fetchall()
            current = [row for row in rows if _is_current(row, generation)]
            for row in current:
                if row.at == at:
                    _touch(conn, row.id, by)
                    return Begun(row, is_new=False)
            kept = _with_room(current, by)
            replaced = [row.id for row in rows if row not in kept]
            conn.execute(FORGET, {"ids": replaced})
            params = {"id": uuid.uuid4(), "at": at, "generation": generation, "by": _keys(by)}
            added = cursor.execute(ADD, params).fetchone()
            assert added is not None
            return Begun(added, is_new=True, replaced=replaced)

    def find(self, id: uuid.UUID) -> PastRow | None:
        return next(iter(self._select(SELECT_BY_ID, {"id": id})), None)

    def of_instant(self, at: datetime) -> PastRow | None:
        return next(iter(self._select(SELECT_BY_INSTANT, {"at": at})), None)

    def get(self, id: uuid.UUID) -> PastRow:
        """Raises: NotFound: there is none, or none any more."""
        row = self.find(id)
        if row is None:
            raise NotFound("there is no such past (any more); ask for it again")
        return row

    def all(self) -> list[PastRow]:
        """The one longest unread first."""
        return self._select(SELECT_ALL, {})

    def ids(self) -> set[uuid.UUID]:
        with self._views.connection() as conn:
            return {id for (id,) in conn.execute(SELECT_IDS)}

    def touch(self, id: uuid.UUID, by: uuid.UUID | None) -> None:
        """Stores that a past is read, and by which API key."""
        with self._views.connection() as conn:
            _touch(conn, id, by)

    def give_up(self, id: uuid.UUID, by: uuid.UUID) -> bool:
        """Takes an API key from a past; forgets the past, and returns True, where it was the last
        one."""
        with self._views.connection() as conn:
            row = conn.execute(GIVE_UP, {"by": by, "id": id}).fetchone()
            if row is None or row[0]:
                return False
            conn.execute(FORGET, {"ids": [id]})
            return True

    def report(self, id: uuid.UUID, done: int, whole: int) -> bool:
        """Stores how far a past is; False: it is forgotten."""
        return bool(self._execute(REPORT, {"done": done, "whole": whole, "id": id}))

    def set_ready(self, id: uuid.UUID, bounds: list[int]) -> None:
        self._execute(SET_READY, {"bounds": bounds, "id": id})

    def set_failed(self, id: uuid.UUID, error: str) -> None:
        self._execute(SET_FAILED, {"error": error, "id": id})

    def set_seen(self, ids: Collection[uuid.UUID]) -> None:
        """Stores that the process which makes or keeps some pasts lives."""
        self._execute(SET_SEEN, {"ids": list(ids)})

    def forget(self, ids: Collection[uuid.UUID]) -> None:
        self._execute(FORGET, {"ids": list(ids)})

    def forget_all(self) -> None:
        self._execute(FORGET_ALL, {})

    def forget_old(self, generation: int) -> None:
        """Forgets pasts that are outdated, idle, or of a process that is no more."""
        params = {"generation": generation, "lost": LOST_SECONDS, "idle": IDLE_SECONDS}
        self._execute(FORGET_OLD, params)

    def _select(self, query: str, params: Mapping[str, object]) -> list[PastRow]:
        with self._views.connection() as conn:
            return conn.cursor(row_factory=class_row(PastRow)).execute(query, params).fetchall()

    def _execute(self, statement: str, params: Mapping[str, object]) -> int:
        with self._views.connection() as conn:
            return conn.execute(statement, params).rowcount


def _touch(conn: psycopg.Connection, id: uuid.UUID, by: uuid.UUID | None) -> None:
    conn.execute(TOUCH, {"id": id, "by": _keys(by)})


def _keys(by: uuid.UUID | None) -> list[uuid.UUID]:
    return [] if by is None else [by]


def _is_current(row: PastRow, generation: int) -> bool:
    return row.generation == generation and not row.is_lost and row.state != "failed"


def _with_room(current: Sequence[PastRow], by: uuid.UUID | None) -> list[PastRow]:
    """The pasts that stay when another one is made. Raises: TooManyAtOnce, Unavailable."""
    making = [row for row in current if row.state != "ready"]
    if by is not None and sum(by in row.asked_by for row in making) >= BY_KEY:
        raise TooManyAtOnce(
            f"{BY_KEY} other pasts are being made for this API key: wait until one is ready",
            retry_after=10,
        )
    kept = list(current)
    while len(kept) >= KEPT:
        kept.remove(_giving_way(kept, by))
    return kept


def _giving_way(kept: Sequence[PastRow], by: uuid.UUID | None) -> PastRow:
    """The past that gives way to another one: the one longest unread, of those that nobody else
    asked for, or that are unread for a while. Raises: TooManyAtOnce, Unavailable: none can."""
    ready = [row for row in kept if row.state == "ready"]
    if not ready:
        raise TooManyAtOnce(
            f"{KEPT} other pasts are being made: wait until one is ready", retry_after=10
        )
    for row in ready:
        if row.is_unread or set(row.asked_by) <= {by}:
            return row
    raise Unavailable(
        f"{KEPT} pasts are kept, and others read them: try again in {GIVES_WAY_SECONDS // 60}"
        " minutes"
    )
