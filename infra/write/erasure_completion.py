"""The last step of an erasure in the log: an `erased` event for each subject, exactly once.

Until it is appended, the record of the erasure stays unfinished; upkeep completes an erasure that a
crash interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from domain.commands import Position
from domain.errors import BeyondHead, DuplicateMessage, Unavailable
from domain.events.event import Event
from domain.events.payloads import Erased
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.keys.digests import KeyedDigest
from infra.keys.erasure_records import ErasureRecords
from infra.keys.sealing import Sealer
from infra.log.event_log import MESSAGE_KEY_BYTES, EventLog
from infra.write.aggregates import Aggregates

ATTEMPTS = 20
SUBJECTS_A_BATCH = 1_000


class ErasureCompletion:
    """Safe for use from many threads.

    Args:
        message_secret: the secret that message ids are hashed under.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        records: ErasureRecords,
        aggregates: Aggregates,
        sealer: Sealer,
        message_secret: bytes,
    ) -> None:
        self._log = log
        self._records = records
        self._aggregates = aggregates
        self._sealer = sealer
        # A digest of its own: no sender's message id can collide with an erasure's.
        self._digest = KeyedDigest(KeyedDigest(message_secret)("erasures"))

    def complete_unfinished(self, at: datetime) -> int:
        """Completes the erasures that a crash interrupted.

        Returns:
            The number of subjects that were unfinished.
        """
        unfinished = self._records.unfinished()
        for kind in SubjectKind:
            subjects = [id for id, subject_kind in unfinished if subject_kind == kind]
            for start in range(0, len(subjects), SUBJECTS_A_BATCH):
                # A head behind its events raises an alarm elsewhere; the next upkeep tries again.
                with suppress(BeyondHead):
                    self.complete(kind, subjects[start : start + SUBJECTS_A_BATCH], at)
        return len(unfinished)

    def complete(
        self, kind: SubjectKind, subjects: Sequence[SubjectId], at: datetime
    ) -> tuple[Position, ...]:
        """Deletes the snapshots of subjects whose keys are destroyed, and appends an `erased`
        event for each. Safe to repeat, and for several processes at once: a message key makes the
        event unique.

        Returns:
            The positions of the `erased` events, in the order of `subjects`.

        Raises:
            BeyondHead: some partitions take no events; the subjects of the others are completed.
            Unavailable: other processes completed some of the subjects during every attempt.
        """
        self._aggregates.forget(subjects)
        message_keys = {subject: self._message_key(subject) for subject in subjects}
        positions: dict[SubjectId, Position] = {}
        stopped: frozenset[int] = frozenset()
        for _ in range(ATTEMPTS):
            known = self._log.known_messages(list(message_keys.values()))
            missing = [subject for subject in subjects if subject not in positions]
            appended = [subject for subject in missing if message_keys[subject] in known]
            pending = [
                subject
                for subject in missing
                if message_keys[subject] not in known and log_partition(subject) not in stopped
            ]
            topic = Event(kind, subjects[0], None, at, Erased()).topic
            positions |= self._log.first_position_of(appended, topic)
            events = [Event(kind, subject, None, at, Erased()) for subject in pending]
            try:
                new = self._log.append(
                    self._sealer.sealing(events), [message_keys[subject] for subject in pending]
                )
            except DuplicateMessage:
                continue
            except BeyondHead as error:
                stopped |= error.partitions
                continue
            positions |= dict(zip(pending, new, strict=True))
            self._records.complete(
                {subject: position.position for subject, position in positions.items()}
            )
            if len(positions) < len(subjects):
                raise BeyondHead(stopped)
            return tuple(positions[subject] for subject in subjects)
        raise Unavailable("others finish the same erasure; it goes on by itself")

    def _message_key(self, subject: SubjectId) -> bytes:
        """The message key of a subject's `erased` event."""
        return self._digest(str(subject))[:MESSAGE_KEY_BYTES]
