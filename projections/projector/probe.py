"""Tells whose fault it is where an event cannot be applied: the event's, or the read models'.

What nobody has sent is applied, and rolled back: a user and an account, in each of the ways that
fill most tables. Where even that fails, it is not the event that is wrong, and nothing is parked
for it. So nobody makes projectors stop by what they send, however much of it cannot be applied.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from psycopg_pool import ConnectionPool

from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import (
    AccountPart,
    MembershipStarted,
    PropertiesChanged,
    Registered,
    Tracked,
)
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, log_partition
from domain.workspace.aggregate import Workspace
from projections.kernel.batch import Batch
from projections.projector.read_models import ReadModels

NAME = "\x7fprobe"
"""Of what the user does: one that no sender can send."""

FORGET_NAME = "DELETE FROM views.names WHERE kind = 'event' AND name = %s"


def prove(pool: ConnectionPool, models: ReadModels, workspace: Workspace) -> None:
    """Applies known events and takes them back.

    Raises:
        Exception: whatever stops the read models.
    """
    batch = Batch(list(_known_events()), {}, workspace)
    try:
        with pool.connection() as conn, conn.transaction(force_rollback=True):
            models.apply(conn, batch)
    finally:
        # Names are taken in transactions of their own.
        with pool.connection() as conn:
            conn.execute(FORGET_NAME, (NAME,))


def _known_events() -> Iterator[OpenedEvent]:
    user, account = SubjectId(uuid.uuid4()), SubjectId(uuid.uuid4())
    at = datetime.now(UTC)
    known = (Identity(Scheme.USER_ID, str(user)),)
    for kind, stream, payload, of in (
        (SubjectKind.ACCOUNT, account, Registered((Identity(Scheme.ACCOUNT_ID, "probe"),)), None),
        (SubjectKind.USER, user, Registered(known), None),
        (SubjectKind.USER, user, PropertiesChanged({"name": "probe"}), None),
        (SubjectKind.USER, user, MembershipStarted({"role": "probe"}), account),
        (SubjectKind.USER, user, Tracked(Activity(ActivityKind.EVENT, NAME)), account),
    ):
        event = Event(kind, stream, None, at, payload, of)
        part = AccountPart(NAME) if isinstance(payload, Tracked) else None
        recorded = RecordedEvent(
            stream=stream,
            version=None,
            event_id=uuid.uuid4(),
            account=of,
            topic=event.topic,
            schema_version=1,
            occurred_at=at,
            state=b"",
            account_state=None,
            log_partition=log_partition(stream),
            position=0,
            recorded_at=at,
            hash=b"",
        )
        yield OpenedEvent(recorded, payload, part)
