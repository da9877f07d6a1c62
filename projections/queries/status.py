"""Queries: how far the read models are behind the log, and the names in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from projections.counters.requests import CounterNumbers, in_number
from projections.kernel.idle import WorkerState
from projections.kernel.paging import Page
from projections.models.sweeps import Sweep, under_way

CHECKPOINTS = sa.text("SELECT log_partition, position FROM views.checkpoints WHERE projector = :p")
PARKED = sa.text("""
SELECT projector, count(*) FROM views.parked WHERE state <> 'skipped'
GROUP BY projector ORDER BY projector""")
PROJECTORS = sa.text("""
SELECT count(*) FROM views.workers
WHERE projector = :p AND seen_at > now() - interval '15 seconds'""")
NAMES = sa.text("""
SELECT scope, name, value_type, uses, CASE WHEN uses > 0 THEN first_at END,
       CASE WHEN uses > 0 THEN last_at END, retired_at, retired_by
FROM views.catalogue
WHERE scope = ANY(:scopes) AND (retired_at IS NOT NULL) = :retired
ORDER BY uses DESC, scope, name""")

PROPERTY_SCOPES = ["user.property", "account.property", "membership.property"]
ACTIVITY_SCOPES = ["event", "screen", "channel"]


class PositionPastHead(msgspec.Struct, frozen=True):
    """An alarm: a position past the head of its partition, where no row can be.

    Attributes:
        of: `log`: a row of the log itself; else the reader that has read so far: `main` (the read
            models) or `destination:` and an id.
        head: the newest appended position.
    """

    of: str
    log_partition: int
    position: int
    head: int


class ProjectionStatus(msgspec.Struct, frozen=True):
    """
    Attributes:
        recorded: events in the log.
        behind: events that the read models do not show yet.
        parked: events that readers of the log lack until an operator acts.
        parked_by_reader: the same for each reader that lacks any; `main` is the read models.
        deciding: the sweeps over all subjects under way, with their progress.
        counters: of metadata: the number in use and the limit.
        projectors: those alive some seconds ago, in all processes.
        workers: of the answering process.
        past_heads: positions past their heads, at most a minute old; normally none.
    """

    recorded: int
    behind: int
    parked: int
    parked_by_reader: dict[str, int]
    deciding: list[Sweep]
    counters: CounterNumbers
    projectors: int
    workers: list[WorkerState]
    past_heads: list[PositionPastHead]


class NameItem(msgspec.Struct, frozen=True):
    """A name of the catalogue: the count of its uses, and its first and last use (by occurrence).

    Attributes:
        first_at, last_at: null: none of its uses is counted any more; so only for retired names.
        retired_at: null: the name is in use. retired_by: the API key that retired it.
    """

    scope: str
    name: str
    type: str | None
    uses: int
    first_at: datetime | None
    last_at: datetime | None
    retired_at: datetime | None
    retired_by: UUID | None


def status(
    conn: sa.Connection,
    projector: str,
    heads: Mapping[int, int],
    workers: list[WorkerState],
    past_heads: Sequence[PositionPastHead] = (),
) -> ProjectionStatus:
    reached: dict[int, int] = {
        row.log_partition: row.position for row in conn.execute(CHECKPOINTS, {"p": projector})
    }
    behind = sum(head - reached.get(partition, 0) for partition, head in heads.items())
    parked: dict[str, int] = {row[0]: row[1] for row in conn.execute(PARKED)}
    return ProjectionStatus(
        sum(heads.values()),
        max(0, behind),
        sum(parked.values()),
        parked,
        under_way(conn),
        in_number(conn),
        conn.scalar(PROJECTORS, {"p": projector}) or 0,
        workers,
        list(past_heads),
    )


def list_names(conn: sa.Connection, scopes: list[str], *, retired: bool) -> Page[NameItem]:
    """The names of some scopes, in use or retired, most used first. They are few: the catalogue
    is closed."""
    params = {"scopes": scopes, "retired": retired}
    items = [NameItem(*row) for row in conn.execute(NAMES, params)]
    return Page(items, None, len(items))
