"""Requests for counters: questions and definitions register the counters they need, within
limits.

A counter of a question is temporary: it ends after an hour without use
(`projections.counters.keeper`). There are limits in all and by API key. Beyond them a question is
refused, while existing counters still answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.conditions.counters import Counter, counters_of
from domain.conditions.language import Condition
from domain.errors import InvalidInput, NotReady, TooManyAtOnce

MAX_COUNTERS = 500
"""Counters in all, with those that definitions and saved views need."""

MAX_ASKED = 100
"""Counters of questions that no definition needs."""

MAX_ASKED_BY_KEY = 20

UNUSED_FOR = timedelta(hours=1)
"""A counter that no definition needs ends after this time without use."""

USED_AT_MOST_EVERY = timedelta(minutes=1)

FENCE = "counters"

ENSURE_FENCE = sa.text("""
INSERT INTO views.fences (projector) VALUES (:fence) ON CONFLICT DO NOTHING""")

CLOSE_FENCE = sa.text("SELECT 1 FROM views.fences WHERE projector = :fence FOR UPDATE")

SELECT_KNOWN = sa.text("SELECT id, last_used FROM views.counters WHERE id = ANY(:ids)")

# The process manager locks the counters it reads. These are needed, so their last use does not
# matter.
TOUCH = sa.text("""
UPDATE views.counters SET last_used = :at WHERE id IN (
    SELECT id FROM views.counters WHERE id = ANY(:ids) AND last_used < :since
    ORDER BY id FOR UPDATE SKIP LOCKED)""")

IN_NUMBER = sa.text("""
SELECT count(*) AS number,
       count(*) FILTER (WHERE NOT kept AND asked_by IS NOT NULL) AS asked,
       count(*) FILTER (WHERE NOT kept AND asked_by = CAST(:by AS uuid)) AS asked_by_key,
       min(last_used) FILTER (WHERE NOT kept) AS oldest,
       min(last_used) FILTER (WHERE NOT kept AND asked_by IS NOT NULL) AS oldest_asked,
       min(last_used) FILTER (WHERE NOT kept AND asked_by = CAST(:by AS uuid)) AS oldest_by_key
FROM views.counters WHERE state <> 'removing'""")

WAKE_FILLERS = sa.text("NOTIFY annals")
"""Notifies listeners of `infra.postgres.wakeups.CHANNEL`."""

REGISTER = sa.text("""
INSERT INTO views.counters (id, activity, name, tests, kept, asked_by, asked_at, last_used)
VALUES (:id, :activity, :name, :tests, false, :by, :at, :at)""")

UNREADY = sa.text("""
SELECT c.id, f.position, f.upto FROM views.counters c
LEFT JOIN LATERAL (
    SELECT sum(f.position) AS position, sum(f.upto) AS upto
    FROM views.counter_fills f WHERE f.counter = c.id) f ON true
WHERE c.id = ANY(:ids) AND c.state <> 'ready' ORDER BY c.id LIMIT 1""")


class CounterNumbers(msgspec.Struct, frozen=True):
    """The number of counters, and its limits.

    Attributes:
        number: of all, including those that definitions and saved views need.
        asked: of those that questions began.
        bound, asked_bound: the limits of these; `key_bound`: the limit of those begun by one API
            key.
    """

    number: int
    asked: int
    bound: int = MAX_COUNTERS
    asked_bound: int = MAX_ASKED
    key_bound: int = MAX_ASKED_BY_KEY


def in_number(conn: sa.Connection) -> CounterNumbers:
    row = conn.execute(IN_NUMBER, {"by": None}).one()
    return CounterNumbers(row.number, row.asked)


def require(conn: sa.Connection, condition: Condition, *, by: UUID | None, at: datetime) -> None:
    """Ensures that the counters of a condition are ready. Call it before a condition is compiled:
    activity that is not counted yet would seem never to have occurred.

    Args:
        conn: used for reading only; this function registers new counters on it, and commits them.
        by: the API key of a question; None: a definition is about to need it.
        at: now.

    Raises:
        NotReady: a counter is being filled; says how far it is.
        TooManyAtOnce: a limit of counters is reached; says which.
        InvalidInput: it needs more new counters than one question may begin.
    """
    wanted = {counter.id: counter for counter in counters_of(condition)}
    if not wanted:
        return
    known = _known(conn, wanted)
    old = [id for id, used in known.items() if used < at - USED_AT_MOST_EVERY]
    if old:
        conn.execute(TOUCH, {"ids": old, "at": at, "since": at - USED_AT_MOST_EVERY})
    if len(known) < len(wanted):
        conn.execute(ENSURE_FENCE, {"fence": FENCE})
        conn.execute(CLOSE_FENCE, {"fence": FENCE})
        known = _known(conn, wanted)
        _register(conn, [counter for id, counter in wanted.items() if id not in known], by, at)
    conn.commit()
    unready = conn.execute(UNREADY, {"ids": list(wanted)}).first()
    if unready is not None:
        counter, share = wanted[unready.id], share_of(unready.position, unready.upto)
        raise NotReady(
            f"the metadata of {counter.activity} {counter.name!r} is being counted:"
            f" {int(100 * share)} % of the log is read; ask again"
        )


def share_of(position: int | None, upto: int | None) -> float:
    """How much of the log is read, from 0 to 1, for a counter that is not ready."""
    return float((position or 0) / upto) if upto else 0.0


def _known(conn: sa.Connection, ids: Collection[UUID]) -> dict[UUID, datetime]:
    return {row.id: row.last_used for row in conn.execute(SELECT_KNOWN, {"ids": list(ids)})}


def _register(conn: sa.Connection, new: Iterable[Counter], by: UUID | None, at: datetime) -> None:
    """Adds counters, in a transaction that has the fence closed."""
    added = sorted(new, key=lambda counter: counter.id)
    if not added:
        return
    _check_room(conn, len(added), by, at)
    conn.execute(
        REGISTER,
        [
            {
                "id": counter.id,
                "activity": counter.activity,
                "name": counter.name,
                "tests": counter.tests,
                "by": by,
                "at": at,
            }
            for counter in added
        ],
    )
    conn.execute(WAKE_FILLERS)


def _check_room(conn: sa.Connection, new: int, by: UUID | None, at: datetime) -> None:
    """Raises: TooManyAtOnce, InvalidInput."""
    if by is not None and new > MAX_ASKED_BY_KEY:
        raise InvalidInput(
            f"this needs {new} new counters of metadata; a question may ask"
            f" for {MAX_ASKED_BY_KEY}: ask for less at once"
        )
    numbers = conn.execute(IN_NUMBER, {"by": by}).one()
    if numbers.number + new > MAX_COUNTERS:
        raise _too_many(
            f"{numbers.number} counters of metadata are there, of {MAX_COUNTERS} that may be:"
            " archive a definition or delete a saved view that needs some, or ask again when one"
            " has been unused for an hour (GET /api/counters lists them)",
            numbers.oldest,
            at,
        )
    if by is None:
        return
    if numbers.asked_by_key + new > MAX_ASKED_BY_KEY:
        raise _too_many(
            f"{numbers.asked_by_key} counters of metadata are there for questions of this API key,"
            f" of {MAX_ASKED_BY_KEY} that may be: ask again when one has been unused for an hour"
            " (GET /api/counters lists them)",
            numbers.oldest_by_key,
            at,
        )
    if numbers.asked + new > MAX_ASKED:
        raise _too_many(
            f"{numbers.asked} counters of metadata are there for questions, of {MAX_ASKED} that may"
            " be in all: ask again when one has been unused for an hour (GET /api/counters lists"
            " them)",
            numbers.oldest_asked,
            at,
        )


def _too_many(detail: str, oldest: datetime | None, at: datetime) -> TooManyAtOnce:
    """`oldest`: the last use of the counter that ends first."""
    longest = int(UNUSED_FOR.total_seconds())
    seconds = longest if oldest is None else int((oldest + UNUSED_FOR - at).total_seconds()) + 1
    return TooManyAtOnce(detail, retry_after=min(max(seconds, 1), longest))
