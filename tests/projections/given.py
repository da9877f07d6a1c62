"""Specs of read models: `given(events).then(...)` for a batch, `.then(table=rows)` for tables.

The events are opened already, so that a spec needs neither log nor keys. A spec of tables writes
them in a transaction that is rolled back: all specs of a run share one database.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg_pool import ConnectionPool

from domain.activity import Activity, ActivityKind, Metadata
from domain.conditions.language import Health
from domain.definitions.retention import RetentionBounds
from domain.definitions.types import Definition, DefinitionId, family_of
from domain.events.decisions import (
    HealthChanged,
    OfRebuild,
    ScoreChanged,
    SegmentEntered,
    SegmentLeft,
    SignalEnded,
    SignalTriggered,
    StageEntered,
    StageLeft,
)
from domain.events.definitions import DefinitionChanged, DefinitionDeleted, DefinitionMade
from domain.events.event import Event
from domain.events.payloads import (
    AccountPart,
    ActivitySummed,
    Erased,
    Identified,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    Payload,
    PropertiesChanged,
    Registered,
    StageSet,
    SummedDay,
    Tracked,
)
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import StreamKind
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, log_partition
from domain.workspace.workspace import Workspace
from projections.kernel.batch import EVERYTHING, Batch
from projections.projector.read_models import ReadModels

NOON = datetime(2024, 5, 13, 12, tzinfo=UTC)
TODAY = NOON.date()
ADMIN = uuid.UUID(int=1)
"""The API key that defines."""

_NAMESPACE = uuid.UUID(int=7)


class Subject(NamedTuple):
    """A user or an account of the specs; its id follows from its name."""

    kind: SubjectKind
    name: str

    @property
    def id(self) -> SubjectId:
        return SubjectId(uuid.uuid5(_NAMESPACE, f"{self.kind}:{self.name}"))

    @property
    def identities(self) -> tuple[Identity, ...]:
        is_user = self.kind is SubjectKind.USER
        return (Identity(Scheme.USER_ID if is_user else Scheme.ACCOUNT_ID, self.name),)


ada, ben = Subject(SubjectKind.USER, "ada"), Subject(SubjectKind.USER, "ben")
acme, initech = Subject(SubjectKind.ACCOUNT, "acme"), Subject(SubjectKind.ACCOUNT, "initech")


def days_later(count: int) -> datetime:
    return NOON + timedelta(count)


def definition_id(name: str) -> DefinitionId:
    return DefinitionId(uuid.uuid5(_NAMESPACE, name))


def _about(
    subject: Subject, payload: Payload, at: datetime, account: Subject | None = None
) -> Event:
    return Event(subject.kind, subject.id, None, at, payload, account.id if account else None)


def registered(subject: Subject, *, at: datetime = NOON) -> Event:
    return _about(subject, Registered(subject.identities), at)


def identified(subject: Subject, email: str, *, at: datetime = NOON) -> Event:
    return _about(subject, Identified((Identity(Scheme.EMAIL, email),)), at)


def changed(
    subject: Subject, values: dict[str, Any], *, deleted: Sequence[str] = (), at: datetime = NOON
) -> Event:
    return _about(subject, PropertiesChanged(values, list(deleted)), at)


def tracked(
    subject: Subject,
    name: str,
    *,
    kind: ActivityKind = ActivityKind.EVENT,
    account: Subject | None = None,
    at: datetime = NOON,
    metadata: Metadata | None = None,
) -> Event:
    return _about(subject, Tracked(Activity(kind, name, metadata or {})), at, account)


def summed(
    subject: Subject, name: str, count: int, *, account: Subject | None = None, at: datetime = NOON
) -> Event:
    """Sums of events that retention ended: all at `at`, on its day in UTC."""
    day = SummedDay("event", name, at.date(), count, at, at)
    return _about(subject, ActivitySummed((day,)), at, account)


def joined(
    user: Subject,
    account: Subject,
    properties: dict[str, Any] | None = None,
    *,
    at: datetime = NOON,
) -> Event:
    return _about(user, MembershipStarted(properties or {}), at, account)


def membership_changed(
    user: Subject, account: Subject, values: dict[str, Any], *, at: datetime = NOON
) -> Event:
    return _about(user, MembershipChanged(values), at, account)


def left(user: Subject, account: Subject, *, at: datetime = NOON) -> Event:
    return _about(user, MembershipEnded(), at, account)


def merged(loser: Subject, survivor: Subject, *, at: datetime = NOON) -> Event:
    return _about(loser, MergedInto(survivor.id), at)


def erased(subject: Subject, *, at: datetime = NOON) -> Event:
    return _about(subject, Erased(), at)


def stage_entered(subject: Subject, stage: str, ordinal: int, *, at: datetime = NOON) -> Event:
    decision = StageEntered(definition_id("stages"), ordinal, 1, OfRebuild(), stage=stage)
    return _about(subject, decision, at)


def stage_left(subject: Subject, stage: str, ordinal: int, *, at: datetime = NOON) -> Event:
    decision = StageLeft(definition_id("stages"), ordinal, 1, OfRebuild(), stage=stage)
    return _about(subject, decision, at)


def stage_set(subject: Subject, stage: str | None, reason: str, *, at: datetime = NOON) -> Event:
    return _about(subject, StageSet(stage, reason, ADMIN), at)


def health_changed(
    subject: Subject, before: Health, after: Health, ordinal: int, *, at: datetime = NOON
) -> Event:
    profile = definition_id("health")
    decision = HealthChanged(profile, ordinal, 1, OfRebuild(), before=before, after=after)
    return _about(subject, decision, at)


def scored(
    subject: Subject,
    after: float | None,
    ordinal: int,
    *,
    held: Sequence[str] = (),
    missed: Sequence[str] = (),
    at: datetime = NOON,
) -> Event:
    decision = ScoreChanged(
        definition_id("score"),
        ordinal,
        1,
        OfRebuild(),
        before=None,
        after=after,
        held=list(held),
        missed=list(missed),
    )
    return _about(subject, decision, at)


def triggered(subject: Subject, ordinal: int, *, at: datetime = NOON) -> Event:
    return _about(subject, SignalTriggered(definition_id("signal"), ordinal, 1, OfRebuild()), at)


def signal_ended(subject: Subject, ordinal: int, *, at: datetime = NOON) -> Event:
    return _about(subject, SignalEnded(definition_id("signal"), ordinal, 1, OfRebuild()), at)


def segment_entered(subject: Subject, ordinal: int, *, at: datetime = NOON) -> Event:
    return _about(subject, SegmentEntered(definition_id("segment"), ordinal, 1, OfRebuild()), at)


def segment_left(subject: Subject, ordinal: int, *, at: datetime = NOON) -> Event:
    return _about(subject, SegmentLeft(definition_id("segment"), ordinal, 1, OfRebuild()), at)


def defined(name: str, definition: Definition, *, at: datetime = NOON) -> Event:
    return _of_definition(
        name, definition, DefinitionMade(definition_id(name), definition, ADMIN), at
    )


def redefined(name: str, definition: Definition, *, at: datetime = NOON) -> Event:
    payload = DefinitionChanged(definition_id(name), definition, ADMIN)
    return _of_definition(name, definition, payload, at)


def definition_deleted(name: str, definition: Definition, *, at: datetime = NOON) -> Event:
    return _of_definition(name, definition, DefinitionDeleted(definition_id(name), ADMIN), at)


def _of_definition(name: str, definition: Definition, payload: Payload, at: datetime) -> Event:
    kind: StreamKind = family_of(definition)
    return Event(kind, SubjectId(definition_id(name)), None, at, payload)


class Given(msgspec.Struct, frozen=True):
    """Opened events, and what holds while a batch of them is applied."""

    opened: Sequence[OpenedEvent]
    workspace: Workspace = Workspace()
    survivors: Mapping[Subject, Subject] = {}
    retention_bounds: RetentionBounds = EVERYTHING
    summed_before: datetime | None = None

    def batch(self) -> Batch:
        before = self.summed_before
        return Batch(
            self.opened,
            {loser.id: survivor.id for loser, survivor in self.survivors.items()},
            self.workspace,
            self.retention_bounds,
            {} if before is None else {event.row.log_partition: before for event in self.opened},
        )

    def then(
        self,
        *,
        days: Mapping[tuple[Subject, str, date], int] | None = None,
        uses: Mapping[tuple[str, str], int] | None = None,
        changes: Sequence[tuple[str, Subject]] | None = None,
        definitions: Sequence[str] | None = None,
    ) -> None:
        """What the batch hands to the read models.

        Args:
            days: counts by subject, name of activity and day.
            uses: counts by activity and name.
            changes: verb and subject of each event of an aggregate, in order.
            definitions: topics of the events of definitions, in order.
        """
        batch = self.batch()
        if days is not None:
            assert {
                (tally.subject, day.name, day.day): count.count
                for _, tally in batch.tallies
                for day, count in tally.days.items()
            } == {(subject.id, name, day): count for (subject, name, day), count in days.items()}
        if uses is not None:
            assert {key: use.count for key, use in batch.uses.items()} == uses
        if changes is not None:
            assert [(verb, subject) for _, verb, subject, _, _ in batch.changes] == [
                (verb, subject.id) for verb, subject in changes
            ]
        if definitions is not None:
            assert [event.row.topic for event in batch.definitions] == definitions


def given(*events: Event, erased: Collection[Subject] = (), **holds: Any) -> Given:
    """
    Args:
        erased: subjects whose keys are destroyed: their parts of events do not open.
        holds: fields of `Given`.
    """
    return Given(_opened(events, {subject.id for subject in erased}), **holds)


def _opened(events: Sequence[Event], erased: Collection[SubjectId]) -> list[OpenedEvent]:
    positions: dict[int, int] = {}
    opened: list[OpenedEvent] = []
    for event in events:
        partition = log_partition(event.stream)
        positions[partition] = positions.get(partition, 0) + 1
        row = RecordedEvent(
            stream=event.stream,
            version=None,
            event_id=uuid.uuid4(),
            account=event.account,
            topic=event.topic,
            schema_version=1,
            occurred_at=event.occurred_at,
            state=b"",
            account_state=None,
            log_partition=partition,
            position=positions[partition],
            recorded_at=event.occurred_at,
            hash=b"",
        )
        part = None if event.account in erased else event.account_part
        opened.append(
            OpenedEvent(
                row,
                None if event.stream in erased else event.payload,
                part if isinstance(part, AccountPart) else None,
                part if isinstance(part, ActivitySummed) else None,
            )
        )
    return opened


class Tables:
    """The read models of one database, each spec in a transaction of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._models = ReadModels(pool)

    def after(self, query: str, *batches: Given) -> list[tuple[Any, ...]]:
        """The rows of a query after batches, each of which merges and erases as it says."""
        with self._pool.connection() as conn, conn.transaction(force_rollback=True):
            for batch in batches:
                self._write(conn, batch)
            conn.execute("SET LOCAL timezone = 'UTC'")
            return conn.execute(query.encode()).fetchall()

    def _write(self, conn: psycopg.Connection, batch: Given) -> None:
        before = batch.summed_before
        self._models.write(
            conn,
            batch.opened,
            batch.workspace,
            batch.retention_bounds,
            {} if before is None else {event.row.log_partition: before for event in batch.opened},
            is_fence_closed=True,
        )
