"""Appends the decisions of the process manager, each exactly once, however many workers find it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from domain.errors import BeyondHead, DuplicateMessage, SubjectErased, Unavailable
from domain.events.decisions import DecisionEvent, series
from domain.events.event import Event
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.keys.digests import KeyedDigest
from infra.keys.key_ring import KeyRing
from infra.keys.sealing import Sealer
from infra.log.event_log import MESSAGE_KEY_BYTES, EventLog

ATTEMPTS = 20
ROWS_AN_APPEND = 4_000
"""Most rows of one append. Senders' appends to the same partitions wait for it: not longer than for
one of theirs."""

Decided = tuple[SubjectKind, SubjectId, DecisionEvent]


class DecisionRecorder:
    """Thread-safe; one instance per process."""

    def __init__(self, *, log: EventLog, keys: KeyRing, sealer: Sealer, secret: bytes) -> None:
        self._log = log
        self._keys = keys
        self._sealer = sealer
        self._digest = KeyedDigest(secret)

    def record(self, decisions: Sequence[Decided], at: datetime) -> None:
        """Appends decisions; leaves out those that the log has, and erased subjects.

        Decisions of one subject that follow one another in a series are appended all or none:
        where another worker recorded one of them, they rest on a state that no longer holds.

        Raises:
            Unavailable: other workers recorded the same decisions during every attempt.
        """
        batch: list[list[Decided]] = []
        rows = 0
        for group in _by_series(decisions):
            batch.append(group)
            rows += len(group)
            if rows >= ROWS_AN_APPEND:
                self._append(batch, at)
                batch, rows = [], 0
        self._append(batch, at)

    def _append(self, groups: Sequence[list[Decided]], at: datetime) -> None:
        pending = [{self._message_key(decided): decided for decided in group} for group in groups]
        for _ in range(ATTEMPTS):
            self._keys.refresh()
            alive = self._keys.fetch(_subject(group).int for group in pending)
            pending = [group for group in pending if _subject(group).int in alive]
            events = [
                Event(kind, subject, None, at, decision)
                for group in pending
                for kind, subject, decision in group.values()
            ]
            if not events:
                return
            keys = [key for group in pending for key in group]
            try:
                self._log.append(self._sealer.sealing(events), keys)
                return
            except DuplicateMessage:
                known = self._log.known_messages(keys)
                pending = [group for group in pending if not known & group.keys()]
            except SubjectErased:
                continue
            except BeyondHead as error:
                # An alarm elsewhere: no decision of these subjects can be recorded until it ends.
                stopped = error.partitions
                pending = [g for g in pending if log_partition(_subject(g)) not in stopped]
        raise Unavailable("others change the same subjects all the time")

    def _message_key(self, decided: Decided) -> bytes:
        _, subject, decision = decided
        text = f"{series(decision)}\0{subject}\0{decision.ordinal}"
        return self._digest(text)[:MESSAGE_KEY_BYTES]


def _by_series(decisions: Sequence[Decided]) -> Iterator[list[Decided]]:
    for _, group in groupby(decisions, key=lambda decided: (decided[1], series(decided[2]))):
        yield list(group)


def _subject(group: dict[bytes, Decided]) -> SubjectId:
    return next(iter(group.values()))[1]
