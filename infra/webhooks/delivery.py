"""Delivers webhooks: reads the events past a destination's cursors, posts them, and moves the
cursors.

Nothing is queued. Each attempt reads and opens its items anew (`infra.webhooks.items`). A cursor
moves after the destination has taken the events before it: at least once, in the order of each user
and account.
"""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

import psycopg
import structlog

from domain.definitions.destinations import Destination
from domain.definitions.types import Defined, DefinitionId, Status
from domain.errors import Refusal
from domain.identity import LOG_PARTITIONS
from domain.workspace.definitions import Definitions
from infra.keys.key_ring import KeyRing
from infra.log.event_log import EventLog
from infra.webhooks.cursors import DeliveryCursors, Lease, LeaseLost
from infra.webhooks.http_client import Connection
from infra.webhooks.items import WebhookItems
from infra.webhooks.sender import NotTaken, WebhookSender, message_of
from infra.write.definition_store import DefinitionStore
from projections.kernel.idle import Idle

DESTINATIONS_AT_A_TIME = 8
"""That a process sends to at the same time."""

POLL_SECONDS = 0.25
RETRY_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 3_600.0
MESSAGES_A_TURN = 50
"""Messages sent to one destination before other waiting destinations get their turn."""

FAILED_HERE = "here"
"""The failure of an attempt that did not reach the destination."""

log = structlog.get_logger()
_random = secrets.SystemRandom()


def backoff(failures: int) -> float:
    """Seconds before the next attempt, after so many that failed."""
    longest = min(MAX_BACKOFF_SECONDS, 2.0**failures)
    return _random.uniform(longest / 2, longest)


class WebhookDelivery:
    """Sends to the destinations that are active. Run it in a thread, in any number of processes.

    Args:
        pause: seconds before the next attempt, after a number of failures.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        keys: KeyRing,
        items: WebhookItems,
        definitions: DefinitionStore,
        cursors: DeliveryCursors,
        sender: WebhookSender,
        pause: Callable[[int], float] = backoff,
    ) -> None:
        self.sender = sender
        self._log = log
        self._keys = keys
        self._items = items
        self._definitions = definitions
        self._cursors = cursors
        self._pause = pause
        self._worker = uuid.uuid4()
        self._archived: frozenset[DefinitionId] = frozenset()

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Works until told to stop, then ends the turns that are under way."""
        turns: dict[UUID, Future[None]] = {}
        with ThreadPoolExecutor(
            DESTINATIONS_AT_A_TIME, thread_name_prefix="delivering"
        ) as executor:
            while not stop.is_set():
                turns = {id: turn for id, turn in turns.items() if not turn.done()}
                try:
                    for id in self.due():
                        if id not in turns:
                            turns[id] = executor.submit(self.turn, id, stop)
                except (psycopg.Error, TimeoutError, Refusal) as error:
                    log.warning("delivering.failed", error=type(error).__name__)
                    stop.wait(RETRY_SECONDS)
                idle.wait(POLL_SECONDS)

    def due(self) -> list[UUID]:
        """The destinations that may be sent something now. Begins those whose activation a process
        left unfinished, and forgets the gaps of those that were archived since the last call."""
        definitions = self._definitions.recent()
        archived = _archived(definitions)
        if archived - self._archived:
            self._items.forget_gaps(archived - self._archived)
        self._archived = archived
        active = list(_active(definitions))
        if not active:
            return []
        for id in self._cursors.unbegun(active):
            self._cursors.begin(id, self._log.heads(range(LOG_PARTITIONS)))
        return self._cursors.due(active, self._items.shown())

    def turn(self, id: UUID, stop: threading.Event) -> None:
        """Sends a destination its next messages, up to `MESSAGES_A_TURN`; ends with the first
        failure, which is stored."""
        try:
            lease = self._cursors.take(id, self._worker)
            if lease is None:
                return
            try:
                with self.sender.connection() as connection:
                    for _ in range(MESSAGES_A_TURN):
                        if stop.is_set() or not self._step(lease, connection):
                            break
            except LeaseLost:
                return
            except Exception as error:
                self._fail(lease, FAILED_HERE)
                log.error("delivering.failed", destination=str(id), error=type(error).__name__)
            self._cursors.release(lease)
        except (psycopg.Error, TimeoutError) as error:
            log.warning("delivering.failed", destination=str(id), error=type(error).__name__)

    def _step(self, lease: Lease, connection: Connection) -> bool:
        """Sends the next message; says whether another may follow."""
        definitions, id = self._definitions.recent(), lease.destination
        defined = _active(definitions).get(DefinitionId(id))
        if defined is None:
            return False
        destination = defined.definition
        read = self._items.next(id, destination, self._cursors.cursors(id), definitions)
        if read is None:
            return False
        if not read.items:
            self._cursors.confirm(lease, read.reached, sent=False)
            return True
        self._cursors.extend(lease)
        message = message_of(id, read)
        if self._keys.generation() != read.generation:
            return True  # a key was destroyed meanwhile: the items are read anew
        try:
            self.sender.send(id, destination, connection, message)
        except NotTaken as error:
            self._fail(lease, error.failure, error.retry_after)
            return False
        self._cursors.confirm(lease, read.reached, sent=True)
        return True

    def _fail(self, lease: Lease, failure: str, retry_after: float | None = None) -> None:
        """Stores a failure. The next attempt waits as long as Annals or the destination asks for,
        whichever is longer."""
        state = self._cursors.states([lease.destination])[lease.destination]
        pause = max(self._pause(state.failures + 1), min(retry_after or 0.0, MAX_BACKOFF_SECONDS))
        self._cursors.fail(lease, failure, pause)
        log.warning("destination.failed", destination=str(lease.destination), failure=failure)


def _active(definitions: Definitions) -> dict[DefinitionId, Defined[Destination]]:
    return {
        id: defined
        for id, defined in definitions.destinations.items()
        if defined.status is Status.ACTIVE
    }


def _archived(definitions: Definitions) -> frozenset[DefinitionId]:
    """The destinations that nothing is sent to any more. Only drafts, which were never sent
    anything, are deleted."""
    return frozenset(
        id for id, defined in definitions.destinations.items() if defined.status is Status.ARCHIVED
    )
