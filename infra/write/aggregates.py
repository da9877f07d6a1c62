"""The eventsourcing library's interfaces over our log: recorder, mapper and repository.

The library gives aggregates their life cycle; the tables, the sealing and the batching are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
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

from domain.commands import Position
from domain.errors import Altered, UnreadableEvent, VersionConflict
from domain.events.event import Event
from domain.events.recorded import RecordedEvent, SealedEvent, event_of
from domain.events.topics import StreamKind, stream_kind
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects.account import Account
from domain.subjects.history import new_subject, replay
from domain.subjects.subject import SNAPSHOT_EVERY
from domain.subjects.user import User
from infra.keys.sealing import SCHEMA_VERSION, Sealer
from infra.log.event_log import EventLog
from projections.kernel import pg_arrays
from projections.kernel.gaps import Gap, parted

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

DELETE_SNAPSHOTS = "DELETE FROM log.snapshots WHERE log_partition = ANY(%b) AND stream = ANY(%b)"


@dataclass(frozen=True)
class StoredRow(StoredEvent):
    """The library's stored event, with the row of the log that it stands for."""

    row: SealedEvent


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
        opened = self._sealer.open_events([cast(RecordedEvent, stored_event.row)])
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


def _stored(row: SealedEvent) -> StoredRow:
    return StoredRow(row.stream, row.version or 0, row.topic, row.state, row)


class Loaded(NamedTuple):
    """
    Attributes:
        gaps: of those subjects of whom an event does not open or is not there: its place, or that
            of the first event behind it.
    """

    states: dict[SubjectId, User | Account]
    gaps: dict[SubjectId, Position]


def altered(kind: SubjectKind, gap: Position) -> Altered:
    """The refusal of what would be decided on a state that is not whole."""
    return Altered(
        f"the event of this {kind} at {gap.log_partition}:{gap.position} in the log does not open,"
        " or one before it is missing: nothing is decided on what is left; have the operator"
        " restore it"
    )


class Aggregates(Repository[UUID]):
    """Users and accounts, one by one as the library loads them, or a whole batch in one read."""

    def __init__(self, log: EventLog, sealer: Sealer, pool: ConnectionPool) -> None:
        super().__init__(EventStore(SealingMapper(sealer), LogRecorder(log)))
        self._log = log
        self._sealer = sealer
        self._pool = pool

    def load(self, wanted: Mapping[SubjectId, SubjectKind]) -> dict[SubjectId, User | Account]:
        """The state of each subject, from its newest snapshot and the events after it, in three
        queries however many; one that has not begun has version 0.

        Raises:
            Altered: an event of one of them does not open.
        """
        loaded = self.load_each(wanted)
        for id, gap in loaded.gaps.items():
            raise altered(wanted[id], gap)
        return loaded.states

    def load_each(self, wanted: Mapping[SubjectId, SubjectKind]) -> Loaded:
        """As `load`, and of those of whom an event does not open, what the others come to."""
        states = {id: new_subject(kind, id) for id, kind in wanted.items()}
        snapshots = self._snapshots(list(wanted))
        for kind in SubjectKind:
            states |= self._opened_snapshots(
                kind, [one for one in snapshots if wanted[one[0]] is kind]
            )
        histories = self._log.read_streams({id: state.version for id, state in states.items()})
        found = self._sealer.open_each([row for rows in histories.values() for row in rows])
        gaps = _missing(histories, states)
        grouped: dict[SubjectId, list[Event]] = {}
        for one in found:
            stream = one.row.stream
            if isinstance(one, Gap):
                gaps[stream] = min(gaps.get(stream, _place(one.row)), _place(one.row))
            elif one.payload is not None:
                grouped.setdefault(stream, []).append(event_of(one, one.payload))
        for id in gaps:
            events, last = grouped.pop(id, []), histories[id][-1].version
            states[id] = _as_far_as_it_goes(states[id], events, last)
        for id, history in grouped.items():
            states[id] = replay(states[id], history)
        self._save([states[id] for id, past in grouped.items() if len(past) >= SNAPSHOT_EVERY])
        return Loaded(states, gaps)

    def _opened_snapshots(
        self, kind: SubjectKind, snapshots: Sequence[tuple[SubjectId, int, bytes]]
    ) -> dict[SubjectId, User | Account]:
        """Without those that do not open: events tell all that they do."""
        try:
            return self._sealer.open_states(kind, snapshots)
        except (UnreadableEvent, msgspec.MsgspecError):
            if len(snapshots) == 1:
                return {}
        middle = len(snapshots) // 2
        halves = (snapshots[:middle], snapshots[middle:])
        return {
            id: state for half in halves for id, state in self._opened_snapshots(kind, half).items()
        }

    def at_version(self, id: SubjectId, kind: SubjectKind, version: int) -> User | Account:
        """A subject as it was at a version, by the library's own replay.

        Raises:
            AggregateNotFoundError: there is no such subject, or it had not begun.
        """

        def project(initial: Any, events: Any) -> Any:
            state = replay(initial or new_subject(kind, id), events)
            return state if state.version else None

        return cast(User | Account, self.get(id, version=version, projector_func=project))

    def forget(self, subjects: Sequence[SubjectId]) -> None:
        """Deletes the snapshots of erased subjects."""
        with self._pool.connection() as conn:
            conn.execute(DELETE_SNAPSHOTS, pg_arrays.placed(subjects))

    def kinds(self, subjects: Sequence[SubjectId]) -> dict[SubjectId, StreamKind | None]:
        """What each subject is that the log has events of: by its first event, or by the next ones
        where that does not open; None where no event of its aggregate opens."""
        kinds: dict[SubjectId, StreamKind | None] = {}
        kinds |= self._opened_kinds(self._log.read_first(subjects))
        rest = [id for id in subjects if id not in kinds]
        if rest:
            there = dict.fromkeys(self._log.there(rest), 0)
            rows = [row for each in self._log.read_streams(there).values() for row in each]
            kinds |= dict.fromkeys(there) | self._opened_kinds(rows)
        return kinds

    def _opened_kinds(self, rows: Sequence[RecordedEvent]) -> dict[SubjectId, StreamKind]:
        kinds: dict[SubjectId, StreamKind] = {}
        opened, _ = parted(self._sealer.open_each(rows))
        for one in opened:
            with suppress(KeyError):  # a topic that is none, of an erased subject
                kinds.setdefault(one.row.stream, stream_kind(one.row.topic))
        return kinds

    def _snapshots(self, subjects: Sequence[SubjectId]) -> list[tuple[SubjectId, int, bytes]]:
        if not subjects:
            return []
        with self._pool.connection() as conn:
            asked = (*pg_arrays.placed(subjects), SCHEMA_VERSION)
            return conn.execute(SELECT_SNAPSHOTS, asked, binary=True).fetchall()

    def _save(self, states: Sequence[User | Account]) -> None:
        if states:
            rows = [
                (log_partition(one.id), one.id, one.version, SCHEMA_VERSION, sealed)
                for one, sealed in zip(states, self._sealer.seal_states(states), strict=True)
            ]
            with self._pool.connection() as conn:
                conn.cursor().executemany(SAVE_SNAPSHOT, rows)


def _place(row: RecordedEvent) -> Position:
    return Position(row.log_partition, row.position)


def _missing(
    histories: Mapping[SubjectId, Sequence[RecordedEvent]],
    states: Mapping[SubjectId, User | Account],
) -> dict[SubjectId, Position]:
    """Of those whose versions do not follow one another: the first row behind what is missing."""
    missing: dict[SubjectId, Position] = {}
    for id, rows in histories.items():
        version = states[id].version
        if rows and rows[-1].version != version + len(rows):
            missing[id] = next(
                _place(row) for n, row in enumerate(rows, version + 1) if row.version != n
            )
    return missing


def _as_far_as_it_goes(
    state: User | Account, events: Sequence[Event], version: int | None
) -> User | Account:
    """What events come to of which some are missing, without those that rest on these; at the
    version of the last that there is."""
    for event in events:
        with suppress(LookupError):
            state = state.evolve(event)
    return msgspec.structs.replace(state, version=version or state.version)
