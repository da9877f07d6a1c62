"""Tells destinations what happens: reads the log from their cursors, posts, and moves these on.

Nothing is queued. What a message holds is read and opened when it is sent, and again for each
attempt, so that nothing of anybody whose key is destroyed can be sent. A cursor moves after the
destination has taken what is before it: at least once, in the order of each user and account.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.definitions import Defined, DefinitionId, Settings, Status
from domain.destinations import Destination
from domain.errors import Refusal, UnreadableEvent
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.news import ERASED_TOPICS
from domain.workspace import Definitions
from infra import signing
from infra.definitions import DefinitionStore
from infra.destinations import GONE, Destinations, Lease, LeaseLost
from infra.keys import KeyRing
from infra.log import EventLog
from infra.outside import Line, NotReached, Outside
from infra.rows import RecordedRow
from infra.sealing import OpenedEvent, Sealer
from projections import news
from projections.news import Item, NotYet

MAX_ITEMS = 100
MAX_BYTES = 1 << 20
"""Of the items of a message, but for one that alone is larger."""

SCANNED_ROWS = 500
"""Of the log, for one message; where names or a segment choose among them, all are opened that
envelopes do not rule out, else as many as a message holds."""

AT_A_TIME = 8
"""Destinations that a process tells at the same time."""

POLL_SECONDS = 0.25
RETRY_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 3_600.0
MESSAGES_A_TURN = 50
"""To one destination, before others that wait have their turn."""

FAILED_HERE = "here"
"""The failure of what did not get as far as the destination."""

log = structlog.get_logger()
_encoder = msgspec.json.Encoder()


class Failed(Exception):
    """A message was not taken. `failure`: a status code, or a word for the kind of error."""

    def __init__(self, failure: str) -> None:
        super().__init__(failure)
        self.failure = failure


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


def backoff(failures: int) -> float:
    """Seconds before the next attempt, after so many that failed."""
    longest = min(MAX_BACKOFF_SECONDS, 2.0**failures)
    return random.uniform(longest / 2, longest)  # noqa: S311


class Deliverer:
    """Tells the destinations that are active. Run it in a thread, in any number of processes."""

    def __init__(
        self,
        *,
        log: EventLog,
        sealer: Sealer,
        keys: KeyRing,
        views: ConnectionPool,
        projector: str,
        definitions: DefinitionStore,
        destinations: Destinations,
        outside: Outside,
        pause: Callable[[int], float] = backoff,
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._keys = keys
        self._views = views
        self._projector = projector
        self._definitions = definitions
        self._destinations = destinations
        self._outside = outside
        self._pause = pause
        self._worker = uuid.uuid4()

    def run(self, stop: threading.Event) -> None:
        """Works until told to stop, and lets go of what it is at then."""
        under_way: dict[UUID, Future[None]] = {}
        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="delivering") as executor:
            while not stop.is_set():
                under_way = {id: one for id, one in under_way.items() if not one.done()}
                try:
                    for id in self.due():
                        if id not in under_way:
                            under_way[id] = executor.submit(self.turn, id, stop)
                except (psycopg.Error, TimeoutError, Refusal) as error:
                    log.warning("delivering.failed", error=type(error).__name__)
                    stop.wait(RETRY_SECONDS)
                stop.wait(POLL_SECONDS)

    def due(self) -> list[UUID]:
        """The destinations that may be told something now. One that was activated by a process
        that died over it begins here."""
        active = list(_active(self._definitions.recent()))
        if not active:
            return []
        for id in self._destinations.unbegun(active):
            self._destinations.begin(id, self._log.heads(range(LOG_PARTITIONS)))
        return self._destinations.due(active, self._shown())

    def turn(self, id: UUID, stop: threading.Event) -> None:
        """Sends a destination what there is to be told, but for a while only; ends with the first
        failure, which is noted."""
        try:
            lease = self._destinations.take(id, self._worker)
            if lease is None:
                return
            try:
                with self._outside.line() as line:
                    for _ in range(MESSAGES_A_TURN):
                        if stop.is_set() or not self._step(lease, line):
                            break
            except LeaseLost:
                return
            except Exception as error:
                self._fail(lease, FAILED_HERE)
                log.error("delivering.failed", destination=str(id), error=type(error).__name__)
            self._destinations.release(lease, self._worker)
        except (psycopg.Error, TimeoutError) as error:
            log.warning("delivering.failed", destination=str(id), error=type(error).__name__)

    def _step(self, lease: Lease, line: Line) -> bool:
        found = _active(self._definitions.recent()).get(DefinitionId(lease.destination))
        if found is None:
            return False
        destination = found.definition
        read = self._read(lease.destination, destination)
        if read is None:
            return False
        if not read.items:
            self._destinations.confirm(lease, self._worker, read.reached, sent=False)
            return True
        self._destinations.keep(lease, self._worker)
        message = _message(lease.destination, read)
        if self._keys.generation() != read.generation:
            return True  # somebody was erased meanwhile: what is to be sent is read anew
        try:
            self._post(lease.destination, destination, line, *message)
        except Failed as failed:
            self._fail(lease, failed.failure)
            return False
        self._destinations.confirm(lease, self._worker, read.reached, sent=True)
        return True

    def _fail(self, lease: Lease, failure: str) -> None:
        state = self._destinations.states([lease.destination])[lease.destination]
        self._destinations.fail(lease, self._worker, failure, self._pause(state.failures + 1))
        log.warning("destination.failed", destination=str(lease.destination), failure=failure)

    def test(self, id: UUID, destination: Destination) -> str | None:
        """Sends a message that says nothing; returns why it was not taken, if so."""
        body = _encoder.encode(
            {"type": "test", "timestamp": datetime.now(UTC), "data": {"destination": id}}
        )
        with self._outside.line() as line:
            try:
                self._post(id, destination, line, f"msg_{uuid.uuid4().hex}", body)
            except Failed as failed:
                return failed.failure
        return None

    def _post(self, id: UUID, destination: Destination, line: Line, name: str, body: bytes) -> None:
        """Raises: Failed."""
        signed = signing.headers(self._destinations.secrets(id), name, int(time.time()), body)
        try:
            status = line.post(destination.url, body, signed)
        except NotReached as error:
            raise Failed(error.failure) from None
        if status == 410:
            raise Failed(GONE)
        if not 200 <= status < 300:
            raise Failed(str(status))

    def _read(self, id: UUID, destination: Destination) -> Read | None:
        """What comes next; None: nothing is to be looked at."""
        upto, cursors = self._shown(), self._destinations.cursors(id)
        behind = {part: at for part, at in cursors.items() if at < upto.get(part, 0)}
        if not behind:
            return None
        rows = self._rows(behind, upto)
        generation = self._keys.refresh()
        wanted = self._of_subjects(news.candidates(destination, rows))
        if len(wanted) > MAX_ITEMS and not destination.is_narrowed:
            rows = rows[: rows.index(wanted[MAX_ITEMS])]
            wanted = wanted[:MAX_ITEMS]
        events = self._opened(wanted)
        definitions = self._definitions.recent()
        with self._views.connection() as conn:
            told = news.items(
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

    def _rows(self, behind: Mapping[int, int], upto: Mapping[int, int]) -> list[RecordedRow]:
        """The next events, in their order in each partition; now this partition first, now that."""
        limit = math.ceil(SCANNED_ROWS / len(behind))
        first = random.randrange(LOG_PARTITIONS)  # noqa: S311
        return sorted(
            (
                row
                for row in self._log.read_after(behind, limit)
                if row.position <= upto[row.log_partition]
            ),
            key=lambda row: ((row.log_partition - first) % LOG_PARTITIONS, row.position),
        )

    def _of_subjects(self, rows: list[RecordedRow]) -> list[RecordedRow]:
        """Without erasures in streams that never began: nobody heard of these. What definitions and
        saved views say has keys of its own, which go with whoever it names."""
        erased = {row.stream for row in rows if row.topic in ERASED_TOPICS}
        never = erased - self._log.begun(erased)
        return [row for row in rows if row.stream not in never]

    def _opened(self, rows: Sequence[RecordedRow]) -> list[tuple[RecordedRow, OpenedEvent]]:
        """Without those that do not open though their keys are there, which are parked for the
        operator by the projector."""
        try:
            return list(zip(rows, self._sealer.open_rows(rows), strict=True))
        except UnreadableEvent:
            opened = []
            for row in rows:
                with suppress(UnreadableEvent):
                    opened.append((row, self._sealer.open_rows([row])[0]))
            return opened

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
            for subject, place in self._log.said(there, f"{kind}.registered").items()
        }
        return {one for one, at in began.items() if at.position > upto.get(at.log_partition, 0)}

    def _shown(self) -> dict[int, int]:
        with self._views.connection() as conn:
            return news.shown(conn, self._projector)


def _active(definitions: Definitions) -> dict[DefinitionId, Defined[Destination]]:
    return {id: one for id, one in definitions.destinations.items() if one.status is Status.ACTIVE}


def _names(definitions: Definitions) -> dict[UUID, str]:
    every = {**definitions.deleted, **definitions.current}
    return {
        id: one.definition.name
        for id, one in every.items()
        if not isinstance(one.definition, Settings)
    }


def _filled(
    rows: Iterable[RecordedRow], told: Mapping[UUID, Item | NotYet | None], generation: int
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


def _message(destination: UUID, read: Read) -> tuple[str, bytes]:
    """Its id, which tells it from any that holds other items; and the body."""
    held = hashlib.sha256(destination.bytes + b"".join(id.bytes for id, _ in read.items))
    frame: dict[str, Any] = {
        "type": "news",
        "timestamp": read.newest,
        "data": {
            "destination": destination,
            "items": [msgspec.Raw(encoded) for _, encoded in read.items],
        },
    }
    return f"msg_{held.hexdigest()[:32]}", _encoder.encode(frame)
