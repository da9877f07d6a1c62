"""Tells destinations what happens: what is past their cursors is posted, and moves these on.

Nothing is queued. What a message holds (`infra.webhooks.items`) is read and opened for each attempt
anew.
A cursor moves after the destination has taken what is before it: at least once, in the order of
each user and account.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog

from domain.definitions.destinations import Destination
from domain.definitions.types import Defined, DefinitionId, Status
from domain.errors import Refusal
from domain.identity import LOG_PARTITIONS
from domain.workspace.definitions import Definitions
from infra.keys.key_ring import KeyRing
from infra.log.event_log import EventLog
from infra.webhooks import signing
from infra.webhooks.cursors import GONE, DeliveryCursors, Lease, LeaseLost
from infra.webhooks.http_client import Connection, HttpClient, NotReached
from infra.webhooks.items import Read, WebhookItems
from infra.write.definition_store import DefinitionStore
from projections.kernel.idle import Idle

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
_chance = secrets.SystemRandom()


class Failed(Exception):
    """A message was not taken.

    Attributes:
        failure: a status code, or a word for the kind of error.
        again_in: seconds to wait before the next attempt, if the destination said so.
    """

    def __init__(self, failure: str, again_in: float | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.again_in = again_in


def backoff(failures: int) -> float:
    """Seconds before the next attempt, after so many that failed."""
    longest = min(MAX_BACKOFF_SECONDS, 2.0**failures)
    return _chance.uniform(longest / 2, longest)


class WebhookDelivery:
    """Tells the destinations that are active. Run it in a thread, in any number of processes."""

    def __init__(
        self,
        *,
        log: EventLog,
        keys: KeyRing,
        outgoing: WebhookItems,
        definitions: DefinitionStore,
        destinations: DeliveryCursors,
        outside: HttpClient,
        pause: Callable[[int], float] = backoff,
    ) -> None:
        self._log = log
        self._keys = keys
        self._outgoing = outgoing
        self._definitions = definitions
        self._destinations = destinations
        self._outside = outside
        self._pause = pause
        self._worker = uuid.uuid4()
        self._archived: frozenset[DefinitionId] = frozenset()

    def run(self, stop: threading.Event, idle: Idle) -> None:
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
                idle.wait(POLL_SECONDS)

    def due(self) -> list[UUID]:
        """The destinations that may be told something now. One that was activated by a process
        that died over it begins here; what one lacks that was archived since the last
        look is forgotten."""
        definitions = self._definitions.recent()
        archived = _archived(definitions)
        if archived - self._archived:
            self._outgoing.forget_gaps(archived - self._archived)
        self._archived = archived
        active = list(_active(definitions))
        if not active:
            return []
        for id in self._destinations.unbegun(active):
            self._destinations.begin(id, self._log.heads(range(LOG_PARTITIONS)))
        return self._destinations.due(active, self._outgoing.shown())

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

    def _step(self, lease: Lease, line: Connection) -> bool:
        definitions, id = self._definitions.recent(), lease.destination
        found = _active(definitions).get(DefinitionId(id))
        if found is None:
            return False
        destination = found.definition
        read = self._outgoing.next(id, destination, self._destinations.cursors(id), definitions)
        if read is None:
            return False
        if not read.items:
            self._destinations.confirm(lease, self._worker, read.reached, sent=False)
            return True
        self._destinations.keep(lease, self._worker)
        message = _message(id, read)
        if self._keys.generation() != read.generation:
            return True  # somebody was erased meanwhile: what is to be sent is read anew
        try:
            self._post(id, destination, line, *message)
        except Failed as failed:
            self._fail(lease, failed.failure, failed.again_in)
            return False
        self._destinations.confirm(lease, self._worker, read.reached, sent=True)
        return True

    def _fail(self, lease: Lease, failure: str, again_in: float | None = None) -> None:
        """Notes a failure: the next attempt is as far off as we or the destination want it."""
        state = self._destinations.states([lease.destination])[lease.destination]
        pause = max(self._pause(state.failures + 1), min(again_in or 0.0, MAX_BACKOFF_SECONDS))
        self._destinations.fail(lease, self._worker, failure, pause)
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

    def _post(
        self, id: UUID, destination: Destination, line: Connection, name: str, body: bytes
    ) -> None:
        """Raises: Failed."""
        signed = signing.headers(self._destinations.secrets(id), name, int(time.time()), body)
        try:
            status, again_in = line.post(destination.url, body, signed)
        except NotReached as error:
            raise Failed(error.failure) from None
        if status == 410:
            raise Failed(GONE)
        if not 200 <= status < 300:
            raise Failed(str(status), again_in)


def _active(definitions: Definitions) -> dict[DefinitionId, Defined[Destination]]:
    return {id: one for id, one in definitions.destinations.items() if one.status is Status.ACTIVE}


def _archived(definitions: Definitions) -> frozenset[DefinitionId]:
    """Those that are told no more; only a draft, which is told nothing, is ever deleted."""
    return frozenset(
        id for id, one in definitions.destinations.items() if one.status is Status.ARCHIVED
    )


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
