"""The workspace's definitions in the log: read back, decided on, appended to.

One stream holds the history of all of them (`domain.workspace.aggregate.Definitions`); the list of
a static segment is a stream of its own, under the segment's id.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import msgspec

from domain.commands import Position
from domain.definitions.types import DefinitionKind
from domain.errors import Unavailable, VersionConflict
from domain.events.event import Event
from domain.events.payloads import Payload
from domain.events.recorded import RecordedEvent
from domain.events.topics import stream_kind
from domain.identity import SubjectId
from domain.workspace.aggregate import Definitions
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from projections.kernel.gaps import Gap, log_gaps, parted

ATTEMPTS = 20
RECENT_SECONDS = 1.0

READER = "definitions"
"""Its name among the readers that lack events."""


class DefinitionStore:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        log: EventLog,
        sealer: Sealer,
        secret: bytes,
        note: Callable[[Sequence[Gap]], None] | None = None,
    ) -> None:
        """
        Args:
            secret: random and the deployment's own: it names the stream.
            note: is told of events that do not open, without which all else holds; None: the log
                alone is.
        """
        self._log = log
        self._sealer = sealer
        self._note = note or partial(log_gaps, READER)
        self._gaps: list[Position] = []
        self.stream = SubjectId(uuid.UUID(bytes=secret[:16], version=4))
        self._lock = threading.Lock()
        self._known = Definitions()
        self._loaded_at = -math.inf

    def load(self) -> Definitions:
        """What holds now, straight from the log."""
        with self._lock:
            self._look_again()
            rows = self._rows_after(self._known.version)
            for event in self._opened(rows):
                self._known = self._known.evolve(event)
            if rows:  # the newest of which may not open
                self._known = msgspec.structs.replace(self._known, version=rows[-1].version)
            self._loaded_at = time.monotonic()
            return self._known

    def _look_again(self) -> None:
        """Begins anew once an event opens that did not, as after the row was restored. At each
        load: the projector that opened it goes by what is loaded after that."""
        if not self._gaps:
            return
        opened, _ = parted(self._sealer.open_each(self._log.read_at(self._gaps)))
        if opened:
            self._known, self._gaps = Definitions(), []

    def recent(self) -> Definitions:
        """What holds now, or held less than a second ago in another process."""
        with self._lock:
            if time.monotonic() - self._loaded_at < RECENT_SECONDS:
                return self._known
        return self.load()

    def history(self) -> list[Event]:
        """All that was ever defined, changed and deleted, oldest first."""
        return self._opened(self._rows_after(0))

    def decide(
        self, decision: Callable[[Definitions], Sequence[Payload]], at: datetime
    ) -> list[Position]:
        """Takes a decision on what holds now and appends the events that it returns.

        Raises:
            Refusal: the decision's own.
            Unavailable: others changed definitions at the same time, time and again.
        """
        for _ in range(ATTEMPTS):
            state = self.load()
            payloads = decision(state)
            events = [
                Event(state.family_of(payload), self.stream, state.version + n, at, payload)
                for n, payload in enumerate(payloads, 1)
            ]
            try:
                positions = self._log.append(self._sealer.sealing(events))
                self._loaded_at = -math.inf
                return positions
            except VersionConflict:
                continue
        raise Unavailable("definitions are being changed by others; send the request again")

    def change_list(
        self, segment: uuid.UUID, changes: Sequence[Payload], at: datetime
    ) -> list[Position]:
        """Appends changes to the list of a static segment."""
        stream = SubjectId(segment)
        events = [Event(DefinitionKind.SEGMENT, stream, None, at, one) for one in changes]
        return self._log.append(self._sealer.sealing(events))

    def _rows_after(self, version: int) -> list[RecordedEvent]:
        return self._log.read_streams({self.stream: version})[self.stream]

    def _opened(self, rows: Sequence[RecordedEvent]) -> list[Event]:
        opened, gaps = parted(self._sealer.open_each(rows))
        if gaps:
            self._note(gaps)
            known = set(self._gaps)
            places = (Position(gap.row.log_partition, gap.row.position) for gap in gaps)
            self._gaps += [place for place in places if place not in known]
        return [
            Event(
                stream_kind(one.row.topic),
                one.row.stream,
                one.row.version,
                one.row.occurred_at,
                one.payload,
            )
            for one in opened
            if one.payload is not None
        ]
