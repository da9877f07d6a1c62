"""Appends what the decider found, each decision once, whoever finds it and how often."""

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
"""Writers of the same partitions wait for an append: no longer than for a batch of theirs."""

Found = tuple[SubjectKind, SubjectId, DecisionEvent]


class DecisionRecorder:
    """One for each process; safe for use from many threads."""

    def __init__(self, *, log: EventLog, keys: KeyRing, sealer: Sealer, secret: bytes) -> None:
        self._log = log
        self._keys = keys
        self._sealer = sealer
        self._digest = KeyedDigest(secret)

    def record(self, decisions: Sequence[Found], at: datetime) -> None:
        """Appends decisions; leaves out those that are in the log, and erased subjects.

        Decisions of one subject that follow one another in a series are recorded together or not
        at all: where somebody else recorded one of them, they were decided from what is no longer
        so.

        Raises:
            Unavailable: others recorded the same, or erased, time and again.
        """
        some: list[list[Found]] = []
        rows = 0
        for together in _together(decisions):
            some.append(together)
            rows += len(together)
            if rows >= ROWS_AN_APPEND:
                self._append(some, at)
                some, rows = [], 0
        self._append(some, at)

    def _append(self, groups: Sequence[list[Found]], at: datetime) -> None:
        todo = [{self._message_key(one): one for one in group} for group in groups]
        for _ in range(ATTEMPTS):
            self._keys.refresh()
            alive = self._keys.fetch(_subject(group).int for group in todo)
            todo = [group for group in todo if _subject(group).int in alive]
            events = [
                Event(kind, subject, None, at, decision)
                for group in todo
                for kind, subject, decision in group.values()
            ]
            if not events:
                return
            keys = [key for group in todo for key in group]
            try:
                self._log.append(self._sealer.sealing(events), keys)
                return
            except DuplicateMessage:
                known = self._log.known_messages(keys)
                todo = [group for group in todo if not known & group.keys()]
            except SubjectErased:
                continue
            except BeyondHead as past:
                # An alarm: nothing is decided of these any more, and of all others as ever.
                todo = [g for g in todo if log_partition(_subject(g)) not in past.partitions]
        raise Unavailable("others change the same subjects all the time")

    def _message_key(self, found: Found) -> bytes:
        _, subject, decision = found
        text = f"{series(decision)}\0{subject}\0{decision.ordinal}"
        return self._digest(text)[:MESSAGE_KEY_BYTES]


def _together(decisions: Sequence[Found]) -> Iterator[list[Found]]:
    for _, group in groupby(decisions, key=lambda one: (one[1], series(one[2]))):
        yield list(group)


def _subject(group: dict[bytes, Found]) -> SubjectId:
    return next(iter(group.values()))[1]
