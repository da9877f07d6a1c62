"""Queries: how far the read models are behind the log, and what names are in use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
import sqlalchemy as sa

from projections.counter_requests import CounterNumbers, in_number
from projections.paging import Page
from projections.sweeps import Sweep, under_way

CHECKPOINTS = sa.text("SELECT log_partition, position FROM views.checkpoints WHERE projector = :p")
PARKED = sa.text("SELECT count(*) FROM views.parked WHERE projector = :p")
NAMES = sa.text("""
SELECT scope, name, value_type, uses, first_at, last_at FROM views.catalogue
WHERE scope = ANY(:scopes) ORDER BY uses DESC, scope, name""")

PROPERTY_SCOPES = ["user.property", "account.property", "membership.property"]
ACTIVITY_SCOPES = ["event", "screen", "channel"]


class ProjectionStatus(msgspec.Struct, frozen=True):
    """
    Attributes:
        recorded: events in the log.
        behind: events that the read models do not show yet.
        parked: events that could not be applied, and wait for an operator.
        deciding: what decides anew about everybody, and how far it is.
        counters: of metadata, how many there are and may be.
    """

    recorded: int
    behind: int
    parked: int
    deciding: list[Sweep]
    counters: CounterNumbers


class NameItem(msgspec.Struct, frozen=True):
    """A name in use: how often, and when for the first and the last time (by occurrence)."""

    scope: str
    name: str
    type: str | None
    uses: int
    first_at: datetime
    last_at: datetime


def status(conn: sa.Connection, projector: str, heads: Mapping[int, int]) -> ProjectionStatus:
    reached: dict[int, int] = {
        row.log_partition: row.position for row in conn.execute(CHECKPOINTS, {"p": projector})
    }
    behind = sum(head - reached.get(partition, 0) for partition, head in heads.items())
    parked = conn.scalar(PARKED, {"p": projector}) or 0
    return ProjectionStatus(
        sum(heads.values()), max(0, behind), parked, under_way(conn), in_number(conn)
    )


def list_names(conn: sa.Connection, scopes: list[str]) -> Page[NameItem]:
    """All names of some scopes, most used first. There are few: the catalogue is closed."""
    items = [NameItem(*row) for row in conn.execute(NAMES, {"scopes": scopes})]
    return Page(items, None, len(items))
