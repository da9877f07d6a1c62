"""Users and accounts as they are now, from their newest snapshots and the events after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import Altered, UnreadableEvent
from domain.events.event import Event
from domain.events.recorded import RecordedEvent, event_of
from domain.events.topics import StreamKind, stream_kind
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects.account import Account
from domain.subjects.history import new_subject, replay
from domain.subjects.subject import SNAPSHOT_EVERY
from domain.subjects.user import User
from infra.keys.sealing import Sealer
from infra.keys.snapshot_sealing import SNAPSHOT_SCHEMA_VERSION, SnapshotSealer
from infra.log.event_log import EventLog
from projections.kernel import pg_arrays
from projections.kernel.gaps import Gap, parted
from projections.kernel.pg_arrays import Column

SELECT_SNAPSHOTS = """
SELECT s.stream, s.version, s.state FROM log.snapshots s
JOIN unnest(%(partitions)b::smallint[], %(streams)b::uuid[]) AS w(p, s)
  ON s.log_partition = w.p AND s.stream = w.s
WHERE s.schema_version = %(schema_version)b"""

UPSERT_SNAPSHOT = """
INSERT INTO log.snapshots (log_partition, stream, version, schema_version, state)
VALUES (%(partition)b, %(stream)b, %(version)b, %(schema_version)b, %(state)b)
ON CONFLICT (log_partition, stream) DO UPDATE
SET version = excluded.version, schema_version = excluded.schema_version, state = excluded.state
WHERE log.snapshots.version < excluded.version"""

DELETE_SNAPSHOTS = """
DELETE FROM log.snapshots
WHERE log_partition = ANY(%(partitions)b) AND stream = ANY(%(streams)b)"""


class Loaded(NamedTuple):
    """
    Attributes:
        gaps: of each subject with an event that does not open or is missing: the position of the
            event, or of the next row.
    """

    states: dict[SubjectId, User | Account]
    gaps: dict[SubjectId, Position]


def altered(kind: SubjectKind, gap: Position) -> Altered:
    """The refusal of a command that needs a state with a gap."""
    return Altered(
        f"the event of this {kind} at {gap.log_partition}:{gap.position} in the log does not open,"
        " or one before it is missing: commands need all events; have the operator"
        " restore it"
    )


class Aggregates:
    """Loads users and accounts from the log, a whole batch in one read. Safe for use from many
    threads."""

    def __init__(
        self, log: EventLog, sealer: Sealer, snapshots: SnapshotSealer, pool: ConnectionPool
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._snapshot_sealer = snapshots
        self._pool = pool

    def load(self, subjects: Mapping[SubjectId, SubjectKind]) -> dict[SubjectId, User | Account]:
        """The state of each subject, in three queries for all of them; a subject that has not
        begun has version 0.

        Raises:
            Altered: an event of a subject does not open.
        """
        loaded = self.load_each(subjects)
        for id, gap in loaded.gaps.items():
            raise altered(subjects[id], gap)
        return loaded.states

    def load_each(self, subjects: Mapping[SubjectId, SubjectKind]) -> Loaded:
        """As `load`; the state of a subject with gaps follows from its other events."""
        states = {id: new_subject(kind, id) for id, kind in subjects.items()}
        snapshots = self._snapshots(list(subjects))
        for kind in SubjectKind:
            states |= self._opened_snapshots(
                kind, [snapshot for snapshot in snapshots if subjects[snapshot[0]] is kind]
            )
        histories = self._log.read_streams({id: state.version for id, state in states.items()})
        opened = self._sealer.open_each([row for rows in histories.values() for row in rows])
        gaps = _missing(histories, states)
        events: dict[SubjectId, list[Event]] = {}
        for event in opened:
            stream = event.row.stream
            if isinstance(event, Gap):
                position = _position(event.row)
                gaps[stream] = min(gaps.get(stream, position), position)
            elif event.payload is not None:
                events.setdefault(stream, []).append(event_of(event, event.payload))
        for id in gaps:
            newest = histories[id][-1].version
            states[id] = _with_gaps(states[id], events.pop(id, []), newest)
        for id, history in events.items():
            states[id] = replay(states[id], history)
        self._save([states[id] for id, new in events.items() if len(new) >= SNAPSHOT_EVERY])
        return Loaded(states, gaps)

    def _opened_snapshots(
        self, kind: SubjectKind, snapshots: Sequence[tuple[SubjectId, int, bytes]]
    ) -> dict[SubjectId, User | Account]:
        """Leaves out the snapshots that do not open: the events have all that they have."""
        try:
            return self._snapshot_sealer.open(kind, snapshots)
        except (UnreadableEvent, msgspec.MsgspecError):
            if len(snapshots) == 1:
                return {}
        middle = len(snapshots) // 2
        halves = (snapshots[:middle], snapshots[middle:])
        return {
            id: state for half in halves for id, state in self._opened_snapshots(kind, half).items()
        }

    def forget(self, subjects: Sequence[SubjectId]) -> None:
        """Deletes the snapshots of erased subjects."""
        with self._pool.connection() as conn:
            conn.execute(DELETE_SNAPSHOTS, _placed(subjects))

    def kinds(self, subjects: Sequence[SubjectId]) -> dict[SubjectId, StreamKind | None]:
        """The kind of each subject that the log has events of, by the first aggregate event that
        opens; None: none of them opens."""
        kinds: dict[SubjectId, StreamKind | None] = {}
        kinds |= self._opened_kinds(self._log.read_first(subjects))
        unknown = [id for id in subjects if id not in kinds]
        if unknown:
            existing = dict.fromkeys(self._log.existing(unknown), 0)
            rows = [row for stream in self._log.read_streams(existing).values() for row in stream]
            kinds |= dict.fromkeys(existing) | self._opened_kinds(rows)
        return kinds

    def _opened_kinds(self, rows: Sequence[RecordedEvent]) -> dict[SubjectId, StreamKind]:
        kinds: dict[SubjectId, StreamKind] = {}
        opened, _ = parted(self._sealer.open_each(rows))
        for event in opened:
            with suppress(KeyError):  # an unknown topic, of an erased subject
                kinds.setdefault(event.row.stream, stream_kind(event.row.topic))
        return kinds

    def _snapshots(self, subjects: Sequence[SubjectId]) -> list[tuple[SubjectId, int, bytes]]:
        if not subjects:
            return []
        params = {**_placed(subjects), "schema_version": SNAPSHOT_SCHEMA_VERSION}
        with self._pool.connection() as conn:
            return conn.execute(SELECT_SNAPSHOTS, params, binary=True).fetchall()

    def _save(self, states: Sequence[User | Account]) -> None:
        if states:
            rows = [
                {
                    "partition": log_partition(state.id),
                    "stream": state.id,
                    "version": state.version,
                    "schema_version": SNAPSHOT_SCHEMA_VERSION,
                    "state": sealed,
                }
                for state, sealed in zip(states, self._snapshot_sealer.seal(states), strict=True)
            ]
            with self._pool.connection() as conn:
                conn.cursor().executemany(UPSERT_SNAPSHOT, rows)


def _placed(subjects: Sequence[SubjectId]) -> dict[str, Column]:
    partitions, streams = pg_arrays.placed(subjects)
    return {"partitions": partitions, "streams": streams}


def _position(row: RecordedEvent) -> Position:
    return Position(row.log_partition, row.position)


def _missing(
    histories: Mapping[SubjectId, Sequence[RecordedEvent]],
    states: Mapping[SubjectId, User | Account],
) -> dict[SubjectId, Position]:
    """Returns, for each history with a missing version, the position of the first row after it."""
    missing: dict[SubjectId, Position] = {}
    for id, rows in histories.items():
        version = states[id].version
        if rows and rows[-1].version != version + len(rows):
            missing[id] = next(
                _position(row) for n, row in enumerate(rows, version + 1) if row.version != n
            )
    return missing


def _with_gaps(
    state: User | Account, events: Sequence[Event], version: int | None
) -> User | Account:
    """Returns the state after events of which some are missing; leaves out events that need a
    missing one.

    Args:
        version: of the newest row; the state gets it.
    """
    for event in events:
        with suppress(LookupError):
            state = state.evolve(event)
    return msgspec.structs.replace(state, version=version or state.version)
