"""Appends what the decider found, each transition once, whoever finds it and how often."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from domain.errors import DuplicateMessage, SubjectErased, Unavailable
from domain.events import Event, SegmentTransition
from domain.identity import SubjectId, SubjectKind
from infra.keys import KeyRing, keyed_digest
from infra.log import MESSAGE_KEY_BYTES, EventLog
from infra.sealing import Sealer

ATTEMPTS = 20
ROWS_AN_APPEND = 4_000
"""Writers of the same partitions wait for an append: no longer than for a batch of theirs."""

Found = tuple[SubjectKind, SubjectId, SegmentTransition]


class Transitions:
    """One for each process; safe for use from many threads."""

    def __init__(self, *, log: EventLog, keys: KeyRing, sealer: Sealer, secret: bytes) -> None:
        self._log = log
        self._keys = keys
        self._sealer = sealer
        self._secret = secret

    def record(self, transitions: Sequence[Found], at: datetime) -> None:
        """Appends transitions; leaves out those that are in the log, and erased subjects.

        Raises:
            Unavailable: others recorded the same, or erased, time and again.
        """
        for start in range(0, len(transitions), ROWS_AN_APPEND):
            self._append(transitions[start : start + ROWS_AN_APPEND], at)

    def _append(self, transitions: Sequence[Found], at: datetime) -> None:
        todo = {self._message_key(one): one for one in transitions}
        for _ in range(ATTEMPTS):
            self._keys.refresh()
            alive = self._keys.fetch(subject.int for _, subject, _ in todo.values())
            todo = {key: one for key, one in todo.items() if one[1].int in alive}
            events = [Event(kind, subject, None, at, one) for kind, subject, one in todo.values()]
            if not events:
                return
            try:
                self._log.append(self._sealer.sealing(events), list(todo))
                return
            except DuplicateMessage:
                known = self._log.known_messages(list(todo))
                todo = {key: one for key, one in todo.items() if key not in known}
            except SubjectErased:
                continue
        raise Unavailable("others change the same subjects all the time")

    def _message_key(self, found: Found) -> bytes:
        _, subject, transition = found
        text = f"{transition.definition}\0{subject}\0{transition.ordinal}"
        return keyed_digest(self._secret, text)[:MESSAGE_KEY_BYTES]
