"""The next items for a destination: read from the log and opened when they are sent.

They go no further than the read models are, so that the receiver can look them up. Events under a
destroyed key do not open, so items hold nothing of an erased subject.
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
"""Of the items of a message, unless a single item is larger."""

SCANNED_ROWS = 500
"""Of the log, for one message. Where names or a segment narrow a destination, all are opened that
their envelopes do not rule out; else as many as a message holds."""

DESTINATION = "destination:"

_encoder = msgspec.json.Encoder()


def reader_of(destination: UUID) -> str:
    """The name of a destination among the readers that lack events."""
    return f"{DESTINATION}{destination}"


class ItemsRead(msgspec.Struct, frozen=True):
    """
    Attributes:
        items: each as JSON, with the id of its event.
        reached: the position up to which there are no more, by partition.
        newest: when the last item was recorded.
        generation: of the keys, when the items were opened.
    """

    items: list[tuple[UUID, bytes]]
    reached: dict[int, int]
    newest: datetime
    generation: int


class WebhookItems:
    """Thread-safe; one instance per process.

    Args:
        projector: the name of the projector whose read models are read.
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
        """The position of the read models, by partition."""
        with self._views.connection() as conn:
            return webhook_items.shown(conn, self._projector)

    def forget_gaps(self, destinations: Collection[UUID]) -> None:
        """Takes the gaps of destinations off the operator's list."""
        with self._views.connection() as conn:
            gaps.forget(conn, [reader_of(id) for id in destinations])

    def next(
        self,
        id: UUID,
        destination: Destination,
        cursors: Mapping[int, int],
        definitions: Definitions,
    ) -> ItemsRead | None:
        """The next items for a destination; None: the log has none past its cursors.

        Args:
            cursors: the position up to which it was told, by partition.
        """
        upto = self.shown()
        behind = {
            partition: position
            for partition, position in cursors.items()
            if position < upto.get(partition, 0)
        }
        if not behind:
            return None
        rows = self._rows(behind, upto)
        generation = self._keys.refresh()
        wanted = self._of_subjects(webhook_items.candidates(destination, rows))
        if len(wanted) > MAX_ITEMS and not destination.is_narrowed:
            rows = rows[: rows.index(wanted[MAX_ITEMS])]
            wanted = wanted[:MAX_ITEMS]
        events = self._open(id, wanted)
        with self._views.connection() as conn:
            items = webhook_items.items(
                conn,
                destination,
                events,
                _names(definitions),
                readable=self._readable,
                coming=lambda missing: self._not_shown_yet(missing, upto),
            )
        by_event = {row.event_id: item for (row, _), item in zip(events, items, strict=True)}
        read = _fill(rows, by_event, generation)
        return read if read.reached else None

    def _rows(self, behind: Mapping[int, int], upto: Mapping[int, int]) -> list[RecordedEvent]:
        """The next events, in their order in each partition, beginning with a random partition."""
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
        """The events without erasures of streams that never began: the contents of definitions and
        saved views, whose own keys are destroyed with the subject that they name."""
        erased = {row.stream for row in rows if row.topic in ERASED_TOPICS}
        never_begun = erased - self._log.begun(erased)
        return [row for row in rows if row.stream not in never_begun]

    def _open(
        self, destination: UUID, rows: Sequence[RecordedEvent]
    ) -> list[tuple[RecordedEvent, OpenedEvent]]:
        """Returns the events that open. Events that have a key but do not open are listed for the
        operator."""
        decrypted, unopened = gaps.parted(self._sealer.open_each(rows))
        if unopened:
            with self._views.connection() as conn:
                gaps.note(conn, reader_of(destination), unopened)
        return [(event.row, event) for event in decrypted]

    def _readable(self, subjects: Collection[SubjectId]) -> set[SubjectId]:
        """Returns the subjects that have a key."""
        keys = self._keys.fetch([subject.int for subject in subjects])
        return {subject for subject in subjects if subject.int in keys}

    def _not_shown_yet(
        self, missing: Collection[SubjectId], upto: Mapping[int, int]
    ) -> set[SubjectId]:
        """Returns the subjects that have a key and whose first event the read models have not
        applied: partitions are projected apart, and a rebuild begins with none."""
        readable = list(self._readable(missing))
        registered = {
            subject: position
            for kind in SubjectKind
            for subject, position in self._log.first_position_of(
                readable, f"{kind}.registered"
            ).items()
        }
        return {
            subject
            for subject, at in registered.items()
            if at.position > upto.get(at.log_partition, 0)
        }


def _names(definitions: Definitions) -> dict[UUID, str]:
    """The name of every definition there is or was."""
    known = {**definitions.deleted, **definitions.current}
    return {
        id: defined.definition.name
        for id, defined in known.items()
        if not isinstance(defined.definition, Settings)
    }


def _fill(
    rows: Iterable[RecordedEvent], items_of: Mapping[UUID, Item | NotYet | None], generation: int
) -> ItemsRead:
    """As many items as a message holds.

    Args:
        items_of: each event's item; None: it has none.
    """
    waiting: set[int] = set()
    items: list[tuple[UUID, bytes]] = []
    reached: dict[int, int] = {}
    size, newest = 0, datetime.min.replace(tzinfo=UTC)
    for row in rows:
        item = items_of.get(row.event_id)
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
    return ItemsRead(items, reached, newest, generation)
