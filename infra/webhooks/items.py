"""What a destination is to be told next: read from the log and opened when it is sent.

No further than the read models are, so that whoever is told can look it up; and with nothing of
anybody whose key is destroyed, for that does not open.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from psycopg_pool import ConnectionPool

from domain.definitions.destinations import Destination
from domain.definitions.types import Settings
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.webhook_items import ERASED_TOPICS
from domain.workspace.definitions import Definitions
from infra.keys.key_ring import KeyRing
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from projections.kernel import gaps
from projections.queries import webhook_items
from projections.queries.webhook_items import Item, NotYet

MAX_ITEMS = 100
MAX_BYTES = 1 << 20
"""Of the items of a message, but for one that alone is larger."""

SCANNED_ROWS = 500
"""Of the log, for one message; where names or a segment choose among them, all are opened that
envelopes do not rule out, else as many as a message holds."""

DESTINATION = "destination:"

_encoder = msgspec.json.Encoder()


def reader_of(destination: UUID) -> str:
    """The name of a destination among those that lack events."""
    return f"{DESTINATION}{destination}"


class Read(msgspec.Struct, frozen=True):
    """
    Attributes:
        items: each as JSON, with the id of its event.
        reached: up to where that is all, by partition.
        newest: when the last of them was recorded.
        generation: of the keys, when they were opened.
    """

    items: list[tuple[UUID, bytes]]
    reached: dict[int, int]
    newest: datetime
    generation: int


class WebhookItems:
    """One for each process; safe for use from many threads.

    Args:
        projector: whose read models are asked.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        sealer: Sealer,
        keys: KeyRing,
        views: ConnectionPool,
        projector: str,
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._keys = keys
        self._views = views
        self._projector = projector

    def shown(self) -> dict[int, int]:
        """Up to where the read models are, by partition."""
        with self._views.connection() as conn:
            return webhook_items.shown(conn, self._projector)

    def forget_gaps(self, destinations: Collection[UUID]) -> None:
        """Takes off the operator's list what destinations lack that are told no more."""
        with self._views.connection() as conn:
            gaps.forget(conn, [reader_of(one) for one in destinations])

    def next(
        self,
        id: UUID,
        destination: Destination,
        cursors: Mapping[int, int],
        definitions: Definitions,
    ) -> Read | None:
        """What a destination is to be told next; None: nothing is to be looked at.

        Args:
            cursors: up to where it was told, by partition.
        """
        upto = self.shown()
        behind = {part: at for part, at in cursors.items() if at < upto.get(part, 0)}
        if not behind:
            return None
        rows = self._rows(behind, upto)
        generation = self._keys.refresh()
        wanted = self._of_subjects(webhook_items.candidates(destination, rows))
        if len(wanted) > MAX_ITEMS and not destination.is_narrowed:
            rows = rows[: rows.index(wanted[MAX_ITEMS])]
            wanted = wanted[:MAX_ITEMS]
        events = self._opened(id, wanted)
        with self._views.connection() as conn:
            told = webhook_items.items(
                conn,
                destination,
                events,
                _names(definitions),
                readable=self._readable,
                coming=lambda missing: self._coming(missing, upto),
            )
        by_event = {row.event_id: one for (row, _), one in zip(events, told, strict=True)}
        read = _filled(rows, by_event, generation)
        return read if read.reached else None

    def _rows(self, behind: Mapping[int, int], upto: Mapping[int, int]) -> list[RecordedEvent]:
        """The next events, in their order in each partition; now this partition first, now that."""
        limit = math.ceil(SCANNED_ROWS / len(behind))
        first = secrets.randbelow(LOG_PARTITIONS)
        return sorted(
            (
                row
                for row in self._log.read_after(behind, limit)
                if row.position <= upto[row.log_partition]
            ),
            key=lambda row: ((row.log_partition - first) % LOG_PARTITIONS, row.position),
        )

    def _of_subjects(self, rows: list[RecordedEvent]) -> list[RecordedEvent]:
        """Without erasures in streams that never began: nobody heard of these. What definitions and
        saved views say has keys of its own, which go with whoever it names."""
        erased = {row.stream for row in rows if row.topic in ERASED_TOPICS}
        never = erased - self._log.begun(erased)
        return [row for row in rows if row.stream not in never]

    def _opened(
        self, destination: UUID, rows: Sequence[RecordedEvent]
    ) -> list[tuple[RecordedEvent, OpenedEvent]]:
        """Without those that do not open though their keys are there, which are listed for the
        operator."""
        opened, unopened = gaps.parted(self._sealer.open_each(rows))
        if unopened:
            with self._views.connection() as conn:
                gaps.note(conn, reader_of(destination), unopened)
        return [(one.row, one) for one in opened]

    def _readable(self, subjects: Collection[SubjectId]) -> set[SubjectId]:
        keys = self._keys.fetch([one.int for one in subjects])
        return {one for one in subjects if one.int in keys}

    def _coming(self, missing: Collection[SubjectId], upto: Mapping[int, int]) -> set[SubjectId]:
        """Those who have a key, and whose first event the read models have not come to: partitions
        are projected apart, and all from the beginning when these are made anew."""
        there = list(self._readable(missing))
        began = {
            subject: place
            for kind in SubjectKind
            for subject, place in self._log.first_position_of(there, f"{kind}.registered").items()
        }
        return {one for one, at in began.items() if at.position > upto.get(at.log_partition, 0)}


def _names(definitions: Definitions) -> dict[UUID, str]:
    every = {**definitions.deleted, **definitions.current}
    return {
        id: one.definition.name
        for id, one in every.items()
        if not isinstance(one.definition, Settings)
    }


def _filled(
    rows: Iterable[RecordedEvent], told: Mapping[UUID, Item | NotYet | None], generation: int
) -> Read:
    """As many items as a message holds, and up to where that is all there is to tell.

    Args:
        told: by event.
    """
    waiting: set[int] = set()
    items: list[tuple[UUID, bytes]] = []
    reached: dict[int, int] = {}
    size, newest = 0, datetime.min.replace(tzinfo=UTC)
    for row in rows:
        item = told.get(row.event_id)
        if item is NotYet.SHOWN:
            waiting.add(row.log_partition)
        if row.log_partition in waiting:
            continue
        if isinstance(item, Item):
            encoded = _encoder.encode(item)
            size += len(encoded)
            if items and (len(items) == MAX_ITEMS or size > MAX_BYTES):
                break
            items.append((item.id, encoded))
            newest = max(newest, item.recorded_at)
        reached[row.log_partition] = row.position
    return Read(items, reached, newest, generation)
