"""Parked events, as admins handle them: listed, tried again, skipped with a reason on record."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import Conflict, InvalidInput, NotFound
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId
from domain.parked_events import (
    ERASING_TOPICS,
    RULING_TOPICS,
    ParkedEvent,
    ParkedState,
    Retried,
    Skip,
    checked_skip_reason,
)
from infra.erasure.retention import READER as RETENTION
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.webhooks.items import DESTINATION
from infra.write.definition_store import READER as DEFINITIONS
from infra.write.skipped_events import SkippedEvents
from projections.counters.filler import READER as COUNTERS
from projections.kernel import fences
from projections.kernel.gaps import Gap
from projections.kernel.paging import Page, decoded, encoded
from projections.projector import parking
from projections.projector.checkpoints import PROJECTOR
from projections.projector.parking import SkippedEvent
from projections.projector.retrying import FAIL, TAKE_OUT, Retrying, count_anew
from projections.queries import parked_list
from projections.queries.parked_list import ParkedRow

LIST = "parked"

_PAST = {
    RETENTION: (
        "it opens, but the sums of its month were taken without it; skip it, to have it off the"
        " list, with the reason on record"
    ),
    DESTINATION: (
        "it opens, but the destination was told of what came after it, and is told in order: tell"
        " the receiver by hand what the timeline shows at this position, then skip it"
    ),
}
"""What to do about an event that a reader is past for good."""

_LOST = (
    "its row is not in the log any more: have the owner of the database restore it from a backup,"
    " then try again, or skip it"
)

log = structlog.get_logger()


class ParkedEvents:
    """
    Args:
        retrying: of the projector whose read models are served.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        views: ConnectionPool,
        skips: SkippedEvents,
        sealer: Sealer,
        retrying: Retrying,
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._views = views
        self._skips = skips
        self._retrying = retrying

    def page(
        self,
        *,
        reader: str | None,
        state: ParkedState | None,
        cursor: str | None,
        limit: int,
    ) -> Page[ParkedEvent]:
        """A page, by reader, partition and position; skipped ones only where `state` says so.

        Raises:
            InvalidInput: a cursor of something else, or no name of a reader.
        """
        if reader is not None and "\0" in reader:
            raise InvalidInput("there is no such reader", pointer="/reader")
        name = f"{LIST}:{reader or ''}:{state or ''}"
        after = None if cursor is None else decoded(name, cursor, str, int, int)
        key = None if after is None else (after[0], after[1], after[2])
        with self._views.connection() as conn:
            rows = parked_list.page(conn, reader, state, key, limit + 1)
        following = encoded(name, *rows[limit - 1].key) if len(rows) > limit else None
        return Page(self._items(rows[:limit]), following, None)

    def retry(self, reader: str, place: Position) -> Retried:
        """Tries the parked events of a stream again, in their order. Of another reader than the
        read models: looks whether the event opens by now, as after the row was restored, and has
        the reader take it in where it can.

        Raises:
            NotFound: nothing is parked there.
            Conflict: it is skipped, its row is gone, or it opens and the reader is past it for
                good.
        """
        row = self._find(reader, place)
        _check_open(row)
        recorded = self._log.read_at([place])
        if not recorded:
            raise Conflict(_LOST)
        if row.reader == PROJECTOR:
            return self._retrying.retry(self._stream(row))
        self._sealer.refresh()
        [one] = self._sealer.open_each(recorded)
        key = (reader, place.log_partition, place.position)
        with self._views.connection() as conn, conn.transaction():
            if isinstance(one, Gap):
                conn.execute(FAIL, (one.error, *key))
                return Retried(0, 1, one.error)
            is_erased = one.payload is None and one.is_kept
            if not is_erased and reader not in (COUNTERS, DEFINITIONS):
                raise Conflict(_PAST[RETENTION if reader == RETENTION else DESTINATION])
            activity = ACTIVITY_OF_TOPIC.get(one.row.topic)
            if reader == COUNTERS and activity is not None:
                count_anew(conn, PROJECTOR, activity)
            conn.execute(TAKE_OUT, (reader, place.log_partition, [place.position]))
        log.info(
            "reader.retried",
            reader=reader,
            log_partition=place.log_partition,
            position=place.position,
        )
        return Retried(1, 0, None)

    def skip(self, reader: str, place: Position, reason: str, by: str) -> Retried:
        """Has a reader go on without an event, for good, and tries what waits behind it.

        Raises:
            InvalidInput: no reason, or one that is too long.
            NotFound: nothing is parked there.
            Conflict: it is skipped already, waits behind another, an erasure rests on it, or it
                decides about the workspace.
            SubjectErased: whom it is about is erased; it goes from the list by itself.
        """
        reason = checked_skip_reason(reason)
        row = self._find(reader, place)
        stream = self._stream(row)
        with self._views.connection() as conn, conn.transaction():
            fences.close(conn, PROJECTOR)  # no batch passes it meanwhile, nor a retry
            row = parked_list.find(conn, reader, place) or row
            _check_open(row)
            if row.state == ParkedState.WAITING:
                raise Conflict("it waits behind another of its stream: retry or skip that one")
            self._check_skipped(row)
            self._skips.add(reader, place, stream, reason, by)
            [skip] = self._skips.of(reader, [place]).values()
            parking.mark_skipped(conn, SkippedEvent(reader, place, stream, skip.at))
        log.info(
            "projector.skipped",
            reader=reader,
            log_partition=place.log_partition,
            position=place.position,
        )
        return self._retrying.retry(stream) if reader == PROJECTOR else Retried(0, 0, None)

    def _find(self, reader: str, place: Position) -> ParkedRow:
        row = None
        if "\0" not in reader:
            with self._views.connection() as conn:
                row = parked_list.find(conn, reader, place)
        if row is None:
            raise NotFound("no event of this reader is parked there, or not any more")
        return row

    def _check_skipped(self, row: ParkedRow) -> None:
        """Raises: Conflict: it is never skipped."""
        recorded = self._log.read_at([row.place])
        topic = recorded[0].topic if recorded else row.topic
        if topic in ERASING_TOPICS:
            raise Conflict("an erasure rests on it: it can be tried again, never skipped")
        if row.reader != PROJECTOR or topic not in RULING_TOPICS:
            return
        # The definitions lack a row that does not open, as the read models will.
        self._sealer.refresh()
        if any(not isinstance(one, Gap) for one in self._sealer.open_each(recorded)):
            raise Conflict(
                "what it decides about the workspace holds, and the read models go by that: it is"
                " never skipped; decide it the other way, in the catalogue or the settings, then"
                " try it again"
            )

    def _stream(self, row: ParkedRow) -> SubjectId:
        """Raises: Conflict: only its row says so, which is gone."""
        if row.stream is not None:
            return SubjectId(row.stream)
        recorded = self._log.read_at([row.place])
        if not recorded:
            raise Conflict(_LOST)
        return recorded[0].stream

    def _items(self, rows: Sequence[ParkedRow]) -> list[ParkedEvent]:
        unknown = [row.place for row in rows if row.stream is None or row.topic is None]
        recorded = {
            Position(one.log_partition, one.position): one
            for one in (self._log.read_at(unknown) if unknown else ())
        }
        skips: dict[tuple[str, Position], Skip] = {}
        for reader in {row.reader for row in rows if row.state == ParkedState.SKIPPED}:
            places = [row.place for row in rows if row.reader == reader]
            skips |= {(reader, at): one for at, one in self._skips.of(reader, places).items()}
        return [
            ParkedEvent(
                reader=row.reader,
                position=f"{row.log_partition}:{row.position}",
                state=ParkedState(row.state),
                subject=row.stream
                or (recorded[row.place].stream if row.place in recorded else None),
                topic=row.topic or (recorded[row.place].topic if row.place in recorded else None),
                error=row.error,
                tries=row.tries,
                parked_at=row.parked_at,
                tried_at=row.tried_at,
                skip=skips.get((row.reader, row.place)),
            )
            for row in rows
        ]


def _check_open(row: ParkedRow) -> None:
    if row.state == ParkedState.SKIPPED:
        raise Conflict("it is skipped already: the reason is on record, and stays so")
