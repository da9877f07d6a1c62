"""Items of a destination: its events, with the users and accounts as they are now, limited to
the members of its segment.

Nothing of an erased subject gets here: an event whose key is destroyed has no payload, and a
subject without a key has its random id alone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from domain.definitions.destinations import Destination
from domain.events.payloads import MergedInto
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.webhook_items import ERASED, ERASED_TOPICS, is_own_segment, item_data, topics
from projections.kernel import merges

CHECKPOINTS = "SELECT log_partition, position FROM views.checkpoints WHERE projector = %s"

PARTIES = """
SELECT c.subject, c.external_id, c.email, c.domain, c.identities FROM views.contacts c
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON c.log_partition = w.p AND c.subject = w.s"""

MEMBERS = """
SELECT m.subject FROM views.segment_members m
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON m.log_partition = w.p AND m.subject = w.s
WHERE m.segment = %(segment)b"""


Choice = Callable[[Collection[SubjectId]], Collection[SubjectId]]
"""Selects those of some subjects that satisfy a predicate."""


class NotYet(enum.Enum):
    """An item must wait: the read models do not show its subject yet."""

    SHOWN = "not shown yet"


class Party(msgspec.Struct, frozen=True):
    """The user or account of an item. Without outside ids once erased.

    Attributes:
        id: our own, random.
        email: of a user. domain: of an account.
        identities: all outside ids, as `scheme` and `value`.
    """

    id: UUID
    external_id: str | None = None
    email: str | None = None
    domain: str | None = None
    identities: list[dict[str, str]] = msgspec.field(default_factory=list)
    erased: bool = False


class Item(msgspec.Struct, frozen=True):
    """An event in the form that destinations receive.

    Attributes:
        id: of the event; the same at each attempt.
        type: the event's topic, or `contact.erased`.
        position: partition and position in the log.
    """

    id: UUID
    type: str
    occurred_at: datetime
    recorded_at: datetime
    position: str
    user: Party | None
    account: Party | None
    data: dict[str, Any]


def shown(conn: psycopg.Connection, projector: str) -> dict[int, int]:
    """The position of the read models in each partition."""
    return dict(conn.execute(CHECKPOINTS, (projector,)).fetchall())


def candidates(destination: Destination, rows: Iterable[RecordedEvent]) -> list[RecordedEvent]:
    """The events that a destination may get, by their envelopes."""
    wanted = topics(destination)
    of_account = destination.kind is SubjectKind.ACCOUNT
    return [
        row
        for row in rows
        if row.topic in ERASED_TOPICS
        or (
            row.topic in wanted
            and (
                not of_account
                or row.account is not None
                or row.topic.startswith(SubjectKind.ACCOUNT)
            )
        )
    ]


def items(
    conn: psycopg.Connection,
    destination: Destination,
    events: Sequence[tuple[RecordedEvent, OpenedEvent]],
    definitions: Mapping[UUID, str],
    *,
    readable: Choice,
    coming: Choice,
) -> list[Item | NotYet | None]:
    """The item of each event; None: the destination gets none.

    Args:
        definitions: names by id.
        readable: selects the subjects that have a key.
        coming: selects the subjects that the read models do not hold yet, but will.
    """
    streams = {row.stream for row, _ in events}
    streams |= {row.account for row, _ in events if row.account is not None}
    survivors = merges.survivors(conn, streams)
    subjects = {survivors.get(stream, stream) for stream in streams}
    parties = _parties(conn, list(subjects), readable)
    unseen = coming(subjects - parties.keys())
    members: Collection[SubjectId] = ()
    if destination.segment is not None:
        members = _members(conn, destination.segment, list(parties))
    items: list[Item | NotYet | None] = []
    for row, opened in events:
        if row.topic in ERASED_TOPICS:
            items.append(_erased(row))
            continue
        data = item_data(destination, row.stream, opened.payload, definitions)
        stream = survivors.get(row.stream, row.stream)
        account = None if row.account is None else survivors.get(row.account, row.account)
        is_of_user = row.topic.startswith(SubjectKind.USER)
        user, account = (stream, account) if is_of_user else (None, stream)
        about = user if destination.kind is SubjectKind.USER else account
        if data is None or (
            destination.segment is not None
            and about not in members
            and not is_own_segment(destination, opened.payload)
        ):
            items.append(None)
            continue
        if user in unseen or account in unseen:
            items.append(NotYet.SHOWN)
            continue
        if isinstance(opened.payload, MergedInto):
            data = data | {"survivor": stream}
        items.append(
            Item(
                row.event_id,
                row.topic,
                row.occurred_at,
                row.recorded_at,
                f"{row.log_partition}:{row.position}",
                _party(user, parties),
                _party(account, parties),
                data,
            )
        )
    return items


def _erased(row: RecordedEvent) -> Item:
    gone = Party(row.stream, erased=True)
    is_user = row.topic.startswith(SubjectKind.USER)
    return Item(
        row.event_id,
        ERASED,
        row.occurred_at,
        row.recorded_at,
        f"{row.log_partition}:{row.position}",
        gone if is_user else None,
        None if is_user else gone,
        {},
    )


def _party(id: SubjectId | None, parties: Mapping[SubjectId, Party]) -> Party | None:
    return None if id is None else parties.get(id, Party(id, erased=True))


def _parties(
    conn: psycopg.Connection, subjects: Sequence[SubjectId], readable: Choice
) -> dict[SubjectId, Party]:
    """Returns the subjects that exist and have a key."""
    rows = conn.execute(PARTIES, _placed(subjects), binary=True).fetchall()
    shown = readable([SubjectId(row[0]) for row in rows])
    return {SubjectId(row[0]): Party(*row) for row in rows if row[0] in shown}


def _members(
    conn: psycopg.Connection, segment: UUID, subjects: Sequence[SubjectId]
) -> set[SubjectId]:
    partitions, ids = _placed(subjects)
    params = {"partitions": partitions, "subjects": ids, "segment": segment}
    rows = conn.execute(MEMBERS, params, binary=True)
    return {SubjectId(row[0]) for row in rows}


def _placed(subjects: Sequence[SubjectId]) -> tuple[list[int], list[SubjectId]]:
    return [log_partition(subject) for subject in subjects], list(subjects)
