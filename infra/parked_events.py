"""Parked events, as admins handle them: tried again, or skipped with a reason on record."""

from __future__ import annotations

import structlog
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.errors import Conflict, NotFound
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId
from domain.parked_events import (
    ERASING_TOPICS,
    RULING_TOPICS,
    ParkedState,
    Retried,
    checked_skip_reason,
)
from infra.erasure.activity_sums import READER as RETENTION
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.parked_pages import ParkedPages
from infra.webhooks.items import DESTINATION
from infra.write.definition_store import READER as DEFINITIONS
from infra.write.skipped_events import SkippedEvents
from projections.counters.filler import READER as COUNTERS
from projections.kernel import fences
from projections.kernel.gaps import Gap
from projections.projector import parking
from projections.projector.checkpoints import PROJECTOR
from projections.projector.parking import SkippedEvent
from projections.projector.retrying import FAIL, TAKE_OUT, Retrying, count_anew
from projections.queries import parked_list
from projections.queries.parked_list import ParkedRow

_PASSED = {
    RETENTION: (
        "it opens, but the sums of its month were taken without it; skip it, to have it off the"
        " list, with the reason on record"
    ),
    DESTINATION: (
        "it opens, but the destination was told of what came after it, and is told in order: tell"
        " the receiver by hand what the timeline shows at this position, then skip it"
    ),
}
"""Advice on an event that opens now, after its reader has passed it for good."""

_ROW_GONE = (
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
        self.pages = ParkedPages(log, views, skips)
        self._log = log
        self._sealer = sealer
        self._views = views
        self._skips = skips
        self._retrying = retrying

    def retry(self, reader: str, position: Position) -> Retried:
        """Tries a parked event again, with all parked events of its stream, in their order.

        Readers other than the read models pass a parked event. For them: checks whether the event
        opens by now, as after its row was restored, and makes the reader count it if it can.

        Raises:
            NotFound: no event of this reader is parked there.
            Conflict: it is skipped, its row is gone, or it opens and the reader has passed it for
                good.
        """
        row = self._find(reader, position)
        _check_not_skipped(row)
        recorded = self._log.read_at([position])
        if not recorded:
            raise Conflict(_ROW_GONE)
        if row.reader == PROJECTOR:
            return self._retrying.retry(self._stream(row))
        self._sealer.refresh()
        [event] = self._sealer.open_each(recorded)
        with self._views.connection() as conn, conn.transaction():
            if isinstance(event, Gap):
                conn.execute(
                    FAIL,
                    {
                        "error": event.error,
                        "projector": reader,
                        "partition": position.log_partition,
                        "position": position.position,
                    },
                )
                return Retried(0, 1, event.error)
            is_erased = event.payload is None and event.is_kept
            if not is_erased and reader not in (COUNTERS, DEFINITIONS):
                raise Conflict(_PASSED[RETENTION if reader == RETENTION else DESTINATION])
            activity = ACTIVITY_OF_TOPIC.get(event.row.topic)
            if reader == COUNTERS and activity is not None:
                count_anew(conn, PROJECTOR, activity)
            conn.execute(
                TAKE_OUT,
                {
                    "projector": reader,
                    "partition": position.log_partition,
                    "positions": [position.position],
                },
            )
        log.info(
            "reader.retried",
            reader=reader,
            log_partition=position.log_partition,
            position=position.position,
        )
        return Retried(1, 0, None)

    def skip(self, reader: str, position: Position, reason: str, by: str) -> Retried:
        """Makes a reader skip an event for good, and tries the events that wait behind it.

        Raises:
            InvalidInput: no reason, or one that is too long.
            NotFound: no event of this reader is parked there.
            Conflict: it is skipped already, waits behind another, an erasure rests on it, or it
                decides about the workspace.
            SubjectErased: its subject is erased; it leaves the list by itself.
        """
        reason = checked_skip_reason(reason)
        row = self._find(reader, position)
        stream = self._stream(row)
        with self._views.connection() as conn, conn.transaction():
            fences.close(conn, PROJECTOR)  # no batch and no retry passes it meanwhile
            row = parked_list.find(conn, reader, position) or row
            _check_not_skipped(row)
            if row.state == ParkedState.WAITING:
                raise Conflict("it waits behind another of its stream: retry or skip that one")
            self._check_may_skip(row)
            self._skips.add(reader, position, stream, reason, by)
            [skip] = self._skips.of(reader, [position]).values()
            parking.mark_skipped(conn, SkippedEvent(reader, position, stream, skip.at))
        log.info(
            "projector.skipped",
            reader=reader,
            log_partition=position.log_partition,
            position=position.position,
        )
        return self._retrying.retry(stream) if reader == PROJECTOR else Retried(0, 0, None)

    def _find(self, reader: str, position: Position) -> ParkedRow:
        row = None
        if "\0" not in reader:
            with self._views.connection() as conn:
                row = parked_list.find(conn, reader, position)
        if row is None:
            raise NotFound("no event of this reader is parked there, or not any more")
        return row

    def _check_may_skip(self, row: ParkedRow) -> None:
        """Raises: Conflict: an erasure rests on the event, or it decides about the workspace."""
        recorded = self._log.read_at([row.place])
        topic = recorded[0].topic if recorded else row.topic
        if topic in ERASING_TOPICS:
            raise Conflict("an erasure rests on it: it can be tried again, never skipped")
        if row.reader != PROJECTOR or topic not in RULING_TOPICS:
            return
        # Definitions lack an event that does not open, so the read models may lack it, too.
        self._sealer.refresh()
        if any(not isinstance(event, Gap) for event in self._sealer.open_each(recorded)):
            raise Conflict(
                "what it decides about the workspace holds, and the read models go by that: it is"
                " never skipped; decide it the other way, in the catalogue or the settings, then"
                " try it again"
            )

    def _stream(self, row: ParkedRow) -> SubjectId:
        """The stream of an event. Raises: Conflict: only its row says so, which is gone."""
        if row.stream is not None:
            return SubjectId(row.stream)
        recorded = self._log.read_at([row.place])
        if not recorded:
            raise Conflict(_ROW_GONE)
        return recorded[0].stream


def _check_not_skipped(row: ParkedRow) -> None:
    if row.state == ParkedState.SKIPPED:
        raise Conflict("it is skipped already: the reason is on record, and stays so")
