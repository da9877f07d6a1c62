"""Queries: the counters of metadata, their users, and their progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.conditions.counters import Counter
from domain.conditions.language import Did, MetadataIs
from domain.conditions.wording import in_words
from projections.counters.requests import CounterNumbers, in_number, share_of

MOST_ROWS = 10_000
"""Rows of a counter that a list counts, at most."""

SELECT_ALL = sa.text("""
SELECT c.id, c.activity, c.name, c.tests, c.state, c.kept, c.asked_by, c.last_used,
       f.position, f.upto,
       (SELECT count(*) FROM (SELECT FROM views.counter_days d WHERE d.counter = c.id LIMIT :most)
        counted) AS rows
FROM views.counters c
LEFT JOIN LATERAL (SELECT sum(position) AS position, sum(upto) AS upto
                   FROM views.counter_fills f WHERE f.counter = c.id) f ON true
WHERE c.state <> 'removing' ORDER BY c.kept DESC, c.last_used DESC, c.id""")


class NeededBy(msgspec.Struct, frozen=True):
    """A definition or a saved view that needs a counter.

    Attributes:
        family: `segment`, `stages`, `health_profile`, `score`, `signal` or `saved_view`.
    """

    family: str
    id: UUID
    name: str


class CounterItem(msgspec.Struct, frozen=True):
    """A counter of events with certain metadata.

    Attributes:
        says: its meaning in words.
        activity, name: of the counted events.
        where: tests of their metadata; all must hold.
        state: `waiting` for its turn, `filling` from the log, or `ready`.
        filled: the part of the log that is read, from 0 to 1.
        needed_by: keeps the counter; it stays while any needs it.
        asked_by: the API key of the question that began it; null: a definition began it, or it is
            unknown.
        last_used: the time of its last use, to the minute; after an hour without use it ends.
        rows: the number of its rows; 10000 stands for that many and more.
    """

    id: UUID
    says: str
    activity: str
    name: str
    where: tuple[MetadataIs, ...]
    state: str
    filled: float
    needed_by: Sequence[NeededBy]
    asked_by: UUID | None
    last_used: datetime
    rows: int


class CounterList(CounterNumbers, frozen=True, kw_only=True):
    """All counters: needed ones first, then by last use."""

    items: list[CounterItem]


def list_counters(conn: sa.Connection, needed: Mapping[Counter, Sequence[NeededBy]]) -> CounterList:
    items = []
    for row in conn.execute(SELECT_ALL, {"most": MOST_ROWS}):
        counter = Counter(row.activity, row.name, row.tests)
        is_ready = row.state == "ready"
        condition = Did(cast(Any, counter.activity), counter.name, where=list(counter.where))
        items.append(
            CounterItem(
                id=row.id,
                says=in_words(condition),
                activity=row.activity,
                name=row.name,
                where=counter.where,
                state=row.state,
                filled=1.0 if is_ready else share_of(row.position, row.upto),
                needed_by=needed.get(counter, ()),
                asked_by=row.asked_by,
                last_used=row.last_used,
                rows=row.rows,
            )
        )
    return CounterList(**msgspec.structs.asdict(in_number(conn)), items=items)
