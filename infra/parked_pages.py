"""Pages of parked events for admins: each with its subject and topic, and the reason of a skip."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import InvalidInput
from domain.parked_events import ParkedEvent, ParkedState, Skip
from infra.log.event_log import EventLog
from infra.write.skipped_events import SkippedEvents
from projections.kernel.paging import Page, decoded, encoded
from projections.queries import parked_list
from projections.queries.parked_list import ParkedRow

CURSOR = "parked"


class ParkedPages:
    """
    Args:
        views: of the read models.
    """

    def __init__(self, log: EventLog, views: ConnectionPool, skips: SkippedEvents) -> None:
        self._log = log
        self._views = views
        self._skips = skips

    def read(
        self,
        *,
        reader: str | None,
        state: ParkedState | None,
        cursor: str | None,
        limit: int,
    ) -> Page[ParkedEvent]:
        """A page, by reader, partition and position; skipped events only where `state` says so.

        Raises:
            InvalidInput: a cursor of something else, or no name of a reader.
        """
        if reader is not None and "\0" in reader:
            raise InvalidInput("there is no such reader", pointer="/reader")
        name = f"{CURSOR}:{reader or ''}:{state or ''}"
        after = None if cursor is None else decoded(name, cursor, str, int, int)
        key = None if after is None else (after[0], after[1], after[2])
        with self._views.connection() as conn:
            rows = parked_list.page(conn, reader, state, key, limit + 1)
        following = encoded(name, *rows[limit - 1].key) if len(rows) > limit else None
        return Page(self._items(rows[:limit]), following, None)

    def _items(self, rows: Sequence[ParkedRow]) -> list[ParkedEvent]:
        incomplete = [row.place for row in rows if row.stream is None or row.topic is None]
        recorded = {
            Position(event.log_partition, event.position): event
            for event in (self._log.read_at(incomplete) if incomplete else ())
        }
        skips = self._skips_of(rows)
        items = []
        for row in rows:
            event = recorded.get(row.place)
            item = ParkedEvent(
                reader=row.reader,
                position=f"{row.log_partition}:{row.position}",
                state=ParkedState(row.state),
                subject=row.stream or (None if event is None else event.stream),
                topic=row.topic or (None if event is None else event.topic),
                error=row.error,
                tries=row.tries,
                parked_at=row.parked_at,
                tried_at=row.tried_at,
                skip=skips.get((row.reader, row.place)),
            )
            items.append(item)
        return items

    def _skips_of(self, rows: Sequence[ParkedRow]) -> dict[tuple[str, Position], Skip]:
        skips: dict[tuple[str, Position], Skip] = {}
        for reader in {row.reader for row in rows if row.state == ParkedState.SKIPPED}:
            positions = [row.place for row in rows if row.reader == reader]
            of_reader = self._skips.of(reader, positions)
            skips |= {(reader, position): skip for position, skip in of_reader.items()}
        return skips
