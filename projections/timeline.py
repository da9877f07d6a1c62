"""Query: all that happened to a subject, newest occurrence first, straight from the log.

No plaintext copy is kept: a page of rows is read by subject and opened on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.commands import Position
from domain.events import ACTIVITY_OF_TOPIC, Tracked
from domain.identity import SubjectId
from projections.batch import Opened, Place
from projections.contact_view import names_of
from projections.paging import Page, decoded, encoded
from projections.reading import Opener, Row

_NEWEST = (datetime(9999, 12, 31, tzinfo=UTC), Position(256, 0))


class TimelineLog(Protocol[Row]):
    """What a timeline asks of the log."""

    def timeline(
        self, streams: Sequence[SubjectId], before: tuple[datetime, Position], limit: int
    ) -> list[Row]: ...
    def timeline_length(self, streams: Sequence[SubjectId]) -> int: ...


class Party(msgspec.Struct, frozen=True):
    """The user or the account of an event; without a name once erased."""

    id: UUID
    external_id: str | None
    name: str | None
    erased: bool


class TimelineItem(msgspec.Struct, frozen=True):
    """One thing that happened.

    Attributes:
        type: event, page, screen, channel, campaign, or what changed (`properties_changed`, ...).
        name: of the activity; null for changes.
        details: metadata of the activity, or what the change says; null where it is erased.
        position: partition and position in the log.
    """

    at: datetime
    recorded_at: datetime
    type: str
    name: str | None
    user: Party | None
    account: Party | None
    details: dict[str, Any] | None
    position: str


def timeline(
    conn: sa.Connection,
    log: TimelineLog[Row],
    opener: Opener[Row],
    streams: Sequence[SubjectId],
    *,
    cursor: str | None,
    limit: int,
) -> Page[TimelineItem]:
    """A page of a timeline.

    Args:
        streams: the subject and those that were merged into it.

    Raises:
        InvalidInput: an unknown cursor.
    """
    before, total = _NEWEST, None
    if cursor is not None:
        at, partition, position, total = decoded("timeline", cursor, datetime, int, int, int)
        before = (at, Position(partition, position))
    if total is None:
        total = log.timeline_length(streams)
    rows = log.timeline(streams, before, limit + 1)
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        following = encoded("timeline", last.occurred_at, last.log_partition, last.position, total)
    opener.refresh()
    opened = opener.open_rows(rows)
    parties = {row.stream for row in rows} | {row.account for row in rows if row.account}
    names = names_of(conn, list(parties))
    return Page([_item(one, names) for one in opened], following, total)


def _item(one: Opened, names: dict[SubjectId, tuple[str | None, str | None]]) -> TimelineItem:
    row: Place = one.row
    kind, _, verb = row.topic.partition(".")
    activity = ACTIVITY_OF_TOPIC.get(row.topic)
    name: str | None = None
    details: dict[str, Any] | None = None
    if isinstance(one.payload, Tracked):
        name, details = one.payload.activity.name, dict(one.payload.activity.metadata)
    elif one.payload is not None:
        details = msgspec.to_builtins(one.payload, str_keys=True)
    elif one.account_part is not None:
        name = one.account_part.name
    stream = _party(row.stream, names, erased=one.payload is None)
    account = None
    if row.account is not None:
        gone = row.account not in names
        if activity is not None:
            gone = one.account_part is None
        account = _party(row.account, names, erased=gone)
    return TimelineItem(
        at=row.occurred_at,
        recorded_at=row.recorded_at,
        type=activity or verb,
        name=name,
        user=stream if kind == "user" else None,
        account=account if kind == "user" else stream,
        details=details,
        position=f"{row.log_partition}:{row.position}",
    )


def _party(
    id: SubjectId, names: dict[SubjectId, tuple[str | None, str | None]], *, erased: bool
) -> Party:
    external_id, name = names.get(id, (None, None))
    return Party(id, external_id, name, erased)
