"""Loads the workspace's definitions from the log and appends the events of commands.

One stream holds the history of all definitions (`domain.workspace.definitions.Definitions`). The
list of a static segment is a stream of its own, under the segment's id.
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
from domain.workspace.definitions import Definitions
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from projections.kernel.gaps import Gap, log_gaps, parted

ATTEMPTS = 20
RECENT_SECONDS = 1.0

READER = "definitions"
"""The name under which events that this reader cannot open are listed."""


class DefinitionStore:
    """Thread-safe; one instance per process."""

    def __init__(
        self,
        log: EventLog,
        sealer: Sealer,
        secret: bytes,
        note: Callable[[Sequence[Gap]], None] | None = None,
    ) -> None:
        """
        Args:
            secret: random, the deployment's own; the id of the stream comes from it.
            note: lists the events that do not open, and that the definitions go without; None:
                they are only logged.
        """
        self._log = log
        self._sealer = sealer
        self._note = note or partial(log_gaps, READER)
        self._gaps: list[Position] = []
        self.stream = SubjectId(uuid.UUID(bytes=secret[:16], version=4))
        self._lock = threading.Lock()
        self._state = Definitions()
        self._loaded_at = -math.inf

    def load(self) -> Definitions:
        """The definitions as of now, straight from the log."""
        with self._lock:
            self._start_over_if_restored()
            rows = self._rows_after(self._state.version)
            for event in self._opened(rows):
                self._state = self._state.evolve(event)
            if rows:  # the newest of which may not open
                self._state = msgspec.structs.replace(self._state, version=rows[-1].version)
            self._loaded_at = time.monotonic()
            return self._state

    def _start_over_if_restored(self) -> None:
        """Drops the state once an event opens that did not before: its row was restored. Looks at
        each load, for the projector that opens the row then loads definitions."""
        if not self._gaps:
            return
        opened, _ = parted(self._sealer.open_each(self._log.read_at(self._gaps)))
        if opened:
            self._state, self._gaps = Definitions(), []

    def recent(self) -> Definitions:
        """The definitions as of now, or as of at most a second ago: another process may have
        changed them since."""
        with self._lock:
            if time.monotonic() - self._loaded_at < RECENT_SECONDS:
                return self._state
        return self.load()

    def history(self) -> list[Event]:
        """All events of definitions that open, oldest first."""
        return self._opened(self._rows_after(0))

    def decide(
        self, decision: Callable[[Definitions], Sequence[Payload]], at: datetime
    ) -> list[Position]:
        """Decides on the definitions as of now and appends the events that the decision returns.

        Args:
            decision: pure; called again where another writer was first.

        Raises:
            Refusal: the decision's own.
            Unavailable: other writers changed definitions during every attempt.
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
        events = [Event(DefinitionKind.SEGMENT, stream, None, at, change) for change in changes]
        return self._log.append(self._sealer.sealing(events))

    def _rows_after(self, version: int) -> list[RecordedEvent]:
        return self._log.read_streams({self.stream: version})[self.stream]

    def _opened(self, rows: Sequence[RecordedEvent]) -> list[Event]:
        opened, gaps = parted(self._sealer.open_each(rows))
        if gaps:
            self._note(gaps)
            known = set(self._gaps)
            positions = (Position(gap.row.log_partition, gap.row.position) for gap in gaps)
            self._gaps += [position for position in positions if position not in known]
        return [
            Event(
                stream_kind(event.row.topic),
                event.row.stream,
                event.row.version,
                event.row.occurred_at,
                event.payload,
            )
            for event in opened
            if event.payload is not None
        ]
