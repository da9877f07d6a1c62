"""The eventsourcing library's interfaces over our log: recorder, mapper and repository.

The library gives aggregates their life cycle; the tables, the sealing and the batching are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from eventsourcing.application import Repository
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    AggregateRecorder,
    EventStore,
    IntegrityError,
    Mapper,
    StoredEvent,
)
from psycopg_pool import ConnectionPool

from domain.errors import VersionConflict
from domain.events import Event, StreamKind, stream_kind
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects import SNAPSHOT_EVERY, Account, User, replay, subject
from infra.log import EventLog
from infra.rows import RecordedRow, Row
from infra.sealing import SCHEMA_VERSION, Sealer
from projections import arrays

SELECT_SNAPSHOTS = """
SELECT s.stream, s.version, s.state FROM log.snapshots s
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON s.log_partition = w.p AND s.stream = w.s
WHERE s.schema_version = %b"""

SAVE_SNAPSHOT = """
INSERT INTO log.snapshots (log_partition, stream, version, schema_version, state)
VALUES (%b, %b, %b, %b, %b)
ON CONFLICT (log_partition, stream) DO UPDATE
SET version = excluded.version, schema_version = excluded.schema_version, state = excluded.state
WHERE log.snapshots.version < excluded.version"""

FIRST_TOPICS = """
SELECT e.stream, e.topic FROM log.events e
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.stream = w.s AND e.version = 1"""

DELETE_SNAPSHOTS = "DELETE FROM log.snapshots WHERE log_partition = ANY(%b) AND stream = ANY(%b)"


@dataclass(frozen=True)
class StoredRow(StoredEvent):
    """The library's stored event, with the row of the log that it stands for."""

    row: Row


class SealingMapper(Mapper[UUID]):
    """Events to sealed rows and back, as the library's mapper."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        row = self._sealer.seal_events([cast(Event, domain_event)])[0]
        return _stored(row)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Raises: LookupError: the subject has been erased."""
        assert isinstance(stored_event, StoredRow)
        opened = self._sealer.open_events([cast(RecordedRow, stored_event.row)])
        if not opened:
            raise LookupError("the subject has been erased")
        return cast(DomainEventProtocol[UUID], opened[0])


class LogRecorder(AggregateRecorder):
    """The library's recorder: optimistic concurrency by stream and version, over the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Raises: IntegrityError: one of the versions exists."""
        try:
            self._log.append([cast(StoredRow, stored).row for stored in stored_events])
        except VersionConflict as error:
            raise IntegrityError(error.detail) from None
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = SubjectId(cast(UUID, originator_id))
        rows = self._log.read_streams({stream: gt or 0})[stream]
        chosen = [row for row in rows if lte is None or (row.version or 0) <= lte]
        if desc:
            chosen.reverse()
        return [_stored(row) for row in chosen[:limit]]


def _stored(row: Row) -> StoredRow:
    return StoredRow(row.stream, row.version or 0, row.topic, row.state, row)


class Aggregates(Repository[UUID]):
    """Users and accounts, one by one as the library loads them, or a whole batch in one read."""

    def __init__(self, log: EventLog, sealer: Sealer, pool: ConnectionPool) -> None:
        super().__init__(EventStore(SealingMapper(sealer), LogRecorder(log)))
        self._log = log
        self._sealer = sealer
        self._pool = pool

    def load(self, wanted: Mapping[SubjectId, SubjectKind]) -> dict[SubjectId, User | Account]:
        """The state of each subject, from its newest snapshot and the events after it, in three
        queries however many; one that has not begun has version 0."""
        states = {id: subject(kind, id) for id, kind in wanted.items()}
        snapshots = self._snapshots(list(wanted))
        for kind in SubjectKind:
            states |= self._sealer.open_states(
                kind, [one for one in snapshots if wanted[one[0]] is kind]
            )
        histories = self._log.read_streams({id: state.version for id, state in states.items()})
        events = self._sealer.open_events([row for rows in histories.values() for row in rows])
        grouped: dict[SubjectId, list[Event]] = {}
        for event in events:
            grouped.setdefault(event.stream, []).append(event)
        for id, history in grouped.items():
            states[id] = replay(states[id], history)
        self._save([states[id] for id, past in grouped.items() if len(past) >= SNAPSHOT_EVERY])
        return states

    def at_version(self, id: SubjectId, kind: SubjectKind, version: int) -> User | Account:
        """A subject as it was at a version, by the library's own replay.

        Raises:
            AggregateNotFoundError: there is no such subject, or it had not begun.
        """

        def project(initial: Any, events: Any) -> Any:
            state = replay(initial or subject(kind, id), events)
            return state if state.version else None

        return cast(User | Account, self.get(id, version=version, projector_func=project))

    def forget(self, subjects: Sequence[SubjectId]) -> None:
        """Deletes the snapshots of erased subjects."""
        with self._pool.connection() as conn:
            conn.execute(DELETE_SNAPSHOTS, arrays.placed(subjects))

    def kinds(self, subjects: Sequence[SubjectId]) -> dict[SubjectId, StreamKind]:
        """What each of those that have begun is."""
        with self._pool.connection() as conn:
            rows = conn.execute(FIRST_TOPICS, arrays.placed(subjects), binary=True).fetchall()
        return {SubjectId(stream): stream_kind(topic) for stream, topic in rows}

    def _snapshots(self, subjects: Sequence[SubjectId]) -> list[tuple[SubjectId, int, bytes]]:
        if not subjects:
            return []
        with self._pool.connection() as conn:
            asked = (*arrays.placed(subjects), SCHEMA_VERSION)
            return conn.execute(SELECT_SNAPSHOTS, asked, binary=True).fetchall()

    def _save(self, states: Sequence[User | Account]) -> None:
        if states:
            rows = [
                (log_partition(one.id), one.id, one.version, SCHEMA_VERSION, sealed)
                for one, sealed in zip(states, self._sealer.seal_states(states), strict=True)
            ]
            with self._pool.connection() as conn:
                conn.cursor().executemany(SAVE_SNAPSHOT, rows)
