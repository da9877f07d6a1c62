"""Proves that read models work, to tell a faulty event from faulty read models.

The projector applies known events and rolls them back: a user and an account with changes that
write most tables. If these fail, the read models are at fault, and nothing is parked. If they pass,
a sender's events cannot stop the projector, however many fail.
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
from domain.workspace.workspace import Workspace
from projections.kernel.batch import Batch
from projections.projector.read_models import ReadModels

NAME = "\x7fprobe"
"""The name of the probe's activity, which intake refuses."""

FORGET_NAME = "DELETE FROM views.names WHERE kind = 'event' AND name = %s"


def prove(pool: ConnectionPool, models: ReadModels, workspace: Workspace) -> None:
    """Applies known events and rolls them back.

    Raises:
        Exception: the error of the read model.
    """
    batch = Batch(list(_known_events()), {}, workspace)
    try:
        with pool.connection() as conn, conn.transaction(force_rollback=True):
            models.apply(conn, batch)
    finally:
        # `Names` commits in transactions of its own.
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
