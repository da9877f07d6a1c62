"""A subject as it was at any version, for auditors: replayed from its first event.

The repository of the eventsourcing library replays; its recorder and mapper here read our log and
open it. Snapshots are not used: the auditor's view rests on events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Repository
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import AggregateRecorder, EventStore, Mapper, StoredEvent

from domain.errors import Altered, NotFound, UnreadableEvent
from domain.events.event import Event
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, SubjectKind
from domain.subjects.account import Account
from domain.subjects.history import new_subject
from domain.subjects.user import User
from infra.keys.opening import EventOpener
from infra.log.event_log import EventLog


@dataclass(frozen=True)
class StoredRow(StoredEvent):
    """The library's stored event, with the row of the log that it stands for."""

    row: RecordedEvent


@dataclass(frozen=True)
class OpenedRow:
    """The library's domain event, with ours."""

    originator_id: UUID
    originator_version: int
    event: Event


class LogRecorder(AggregateRecorder):
    """The library's recorder over our log; read-only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        raise TypeError("a replay appends nothing")

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
        stored = [
            StoredRow(row.stream, row.version, row.topic, row.state, row)
            for row in rows
            if row.version is not None and (lte is None or row.version <= lte)
        ]
        return (stored[::-1] if desc else stored)[:limit]


class OpeningMapper(Mapper[UUID]):
    """The library's mapper: opens rows of the log."""

    def __init__(self, opener: EventOpener) -> None:
        self._opener = opener

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """
        Raises:
            LookupError: the subject is erased.
            UnreadableEvent: the row does not open.
        """
        row = cast(StoredRow, stored_event).row
        for event in self._opener.open_events([row]):
            opened = OpenedRow(event.stream, event.version or 0, event)
            return cast(DomainEventProtocol[UUID], opened)
        raise LookupError("the subject is erased")


class AggregateReplay:
    """Safe for use from many threads."""

    def __init__(self, log: EventLog, opener: EventOpener) -> None:
        store = EventStore(OpeningMapper(opener), LogRecorder(log))
        self._opener = opener
        self._repository: Repository[UUID] = Repository(store)

    def at_version(
        self, kind: SubjectKind, id: SubjectId, version: int | None = None
    ) -> User | Account:
        """A user or an account as it was after its first `version` events; None: after all.

        Raises:
            NotFound: no such subject exists, it is erased, or it has fewer events.
            Altered: an event does not open or is missing; names the place.
        """

        def project(_: Any, opened: Iterable[Any]) -> Any:
            state = new_subject(kind, id)
            for event in (cast(OpenedRow, each).event for each in opened):
                if event.kind is not kind:
                    return None
                if event.version != state.version + 1:
                    raise Altered(f"event {state.version + 1} of this {kind} is missing in the log")
                state = state.evolve(event)
            return state if state.version else None

        self._opener.refresh()
        try:
            state = cast(
                User | Account, self._repository.get(id, version=version, projector_func=project)
            )
        except (AggregateNotFoundError, LookupError):
            raise NotFound(f"there is no such {kind}") from None
        except UnreadableEvent as error:
            raise Altered(str(error)) from None
        if version is not None and state.version < version:
            raise NotFound(f"this {kind} has {state.version} events")
        return state
