"""Destroying the keys of many subjects at once, and of all that they turn out to be.

Who is concerned is looked up before. What may not be is seen within the transaction that destroys
(tombstones, legal holds), and so is whether one of them was merged in between: a merge holds the
keys of both sides until it is in the log, so that none is under way by then, and none can follow.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import TypedDict

import msgspec
import psycopg

from domain.commands import Position
from domain.erasure.erasure import TargetOutcome
from domain.events.payloads import Absorbed, MergedInto
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects.history import new_subject
from infra.erasure.legal_holds import LegalHolds, held
from infra.erasure.redaction import Mention, Redaction
from infra.keys.erasure_records import erased_by
from infra.keys.key_ring import KeyRing
from infra.keys.tombstones import KeyTombstones, lock_keys
from infra.log.event_log import EventLog
from infra.write.erasure_completion import ErasureCompletion
from infra.write.subjects import States, Subjects

MERGES = {topic for topic, payload in PAYLOAD_OF_TOPIC.items() if payload in (Absorbed, MergedInto)}

ALTERED = (
    "no event of it in the log opens, and no read model knows whether it is a user or an account:"
    " have the operator restore its first event, then ask again"
)

MARK_TARGETS = """
UPDATE keys.erasure_targets t SET outcome = v.outcome, detail = v.detail
FROM unnest(%s::smallint[], %s::uuid[], %s::text[], %s::text[]) AS v(p, s, outcome, detail)
WHERE t.log_partition = v.p AND t.request = %s AND t.subject = v.s AND t.log_partition = ANY(%s)"""

Outcomes = dict[SubjectId, tuple[TargetOutcome, str | None]]


class ErasureRequestRef(msgspec.Struct, frozen=True):
    """Why keys are destroyed: the request, as far as it goes on record with each of them."""

    request: uuid.UUID
    kind: SubjectKind
    requested_by: str
    reason: str
    suppress: bool


class LookAgain(Exception):
    """What is to be destroyed is not what it was when it was looked at."""


class ErasurePlan(msgspec.Struct, frozen=True):
    """What targets are, before anything is destroyed.

    Attributes:
        states: of the targets, and of those that they live on in.
        everything: of each target the subject that it is today, and all that was merged into that;
            empty where there is no such subject, or none any more.
        free: those targets of which nobody forbids it.
        altered: those targets that nothing says the kind of: no event of theirs opens.
        mentions: what names one of these by value, and something without ready to stand there.
        lookups: their names as keyed hashes, where they have to be looked for again.
    """

    states: States
    everything: dict[SubjectId, tuple[SubjectId, ...]]
    free: frozenset[SubjectId]
    altered: frozenset[SubjectId]
    mentions: Sequence[Mention]
    lookups: frozenset[bytes]


class KeyDestruction:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        completion: ErasureCompletion,
        subjects: Subjects,
        log: EventLog,
        keys: KeyRing,
        tombstones: KeyTombstones,
        holds: LegalHolds,
        mentions: Redaction,
    ) -> None:
        self._completion = completion
        self._subjects = subjects
        self._log = log
        self._keys = keys
        self._tombstones = tombstones
        self._holds = holds
        self._mentions = mentions

    def aim(
        self, request: uuid.UUID, kind: SubjectKind, targets: Sequence[SubjectId]
    ) -> ErasurePlan:
        """Finds out, in a few queries however many, what targets are today, and what names them."""
        self._keys.refresh()
        kinds = self._subjects.kinds(targets)
        states: States = {}
        wanted = {one for one in targets if kinds.get(one) is kind}
        while wanted:
            states |= self._subjects.load(dict.fromkeys(wanted, kind))
            survivors = {states[one].merged_into for one in wanted} - {None}
            wanted = {one for one in survivors if one is not None and one not in states}
        everything = {}
        for target in targets:
            root = states.get(target) or new_subject(kind, target)
            path = []
            while root.merged_into is not None and states[root.merged_into].version:
                path.append(root.id)
                root = states[root.merged_into]
            reached = dict.fromkeys((root.id, *root.absorbed, *path))
            everything[target] = tuple(reached) if root.version else ()
        held = self._holds.on({one for each in everything.values() for one in each})
        free = {one for one, each in everything.items() if each and held.isdisjoint(each)}
        altered = frozenset(one for one in targets if kinds.get(one, kind) is None)
        named = {
            name
            for one in free
            for each in everything[one]
            if each in states
            for name in states[each].identities
        }
        mentions = self._mentions.prepare(request, named)
        return ErasurePlan(
            states, everything, frozenset(free), altered, mentions, self._mentions.lookups(named)
        )

    def destroy(
        self, conn: psycopg.Connection, aim: ErasurePlan, cause: ErasureRequestRef
    ) -> Outcomes:
        """Destroys the keys of those targets that may go, in the caller's transaction, and notes
        of each what became of it. After its end `drop_cached` has to follow.

        Raises:
            LookAgain: somebody was merged or put on hold, or what names them has changed.
        """
        contents = [one.content for one in aim.mentions]
        concerned = {one for each in aim.everything.values() for one in each} | set(aim.everything)
        concerned.update(contents)
        ordered = sorted(concerned, key=lambda one: (log_partition(one), one.bytes))
        lock_keys(conn, ordered)
        self._check_still(aim)
        before = erased_by(conn, ordered)
        if not before.keys().isdisjoint(contents):
            raise LookAgain
        holds = held(conn, ordered)
        outcomes: Outcomes = {}
        gone: list[SubjectId] = []
        for target, everything in aim.everything.items():
            root = everything[0] if everything else target
            reasons = [holds[one] for one in everything if one in holds]
            if before.get(root) == cause.request:  # by way of another target
                outcomes[target] = (TargetOutcome.ERASED, None)
            elif root in before:
                outcomes[target] = (TargetOutcome.ERASED_BEFORE, "erased by another request")
            elif target in aim.altered:
                outcomes[target] = (TargetOutcome.ALTERED, ALTERED)
            elif not everything:
                outcomes[target] = (TargetOutcome.UNKNOWN, f"there is no such {cause.kind}")
            elif reasons and target in aim.free:
                raise LookAgain
            elif reasons:
                outcomes[target] = (TargetOutcome.HELD, reasons[0])
            else:
                outcomes[target] = (TargetOutcome.ERASED, None)
                gone += everything
        if gone:
            self._destroy(conn, gone + contents, cause)
            self._mentions.record(conn, cause.request, aim.mentions)
            self._mentions.remember(conn, cause.request, aim.lookups)
        targets, partitions = list(outcomes), [log_partition(one) for one in outcomes]
        marks = ([one.value for one, _ in outcomes.values()], [one for _, one in outcomes.values()])
        conn.execute(MARK_TARGETS, (partitions, targets, *marks, cause.request, partitions))
        return outcomes

    def _check_still(self, aim: ErasurePlan) -> None:
        """Raises: LookAgain: one was merged."""
        alive = {id: state.version for id, state in aim.states.items() if state.version}
        newer = self._log.read_streams(alive)
        if any(row.topic in MERGES for rows in newer.values() for row in rows):
            raise LookAgain

    def drop_cached(self) -> None:
        """Drops at once what this process still has of keys that are destroyed."""
        self._keys.refresh()

    def prepare_again(
        self, request: uuid.UUID, kind: SubjectKind, subjects: Sequence[SubjectId]
    ) -> None:
        """See `ErasureProcess.prepare_again`. Holds forbid nothing: they are erased already."""
        kinds = self._subjects.kinds(subjects)
        states = self._subjects.load({id: kind for id in subjects if kinds.get(id) is kind})
        named = [name for state in states.values() for name in state.identities]
        mentions, lookups = self._mentions.prepare(request, named), self._mentions.lookups(named)
        self._mentions.record_apart(request, mentions, lookups)

    def settle(self, cause: ErasureRequestRef, at: datetime) -> None:
        """What follows for definitions and saved views once keys are destroyed: see `Redaction`."""
        left_over = self._mentions.left_over(cause.request)
        if left_over:
            self._tombstones.destroy(left_over, **_on_record(cause))
            self._mentions.empty(left_over)
        self._mentions.settle(cause.request, at)

    def remembered(self, conn: psycopg.Connection, request: uuid.UUID) -> set[bytes]:
        """See `Redaction.remembered`."""
        return self._mentions.remembered(conn, request)

    def forget(self, conn: psycopg.Connection, request: uuid.UUID) -> None:
        """See `Redaction.forget`."""
        self._mentions.forget(conn, request)

    def look_again(
        self, lookups: AbstractSet[bytes], cause: ErasureRequestRef, at: datetime
    ) -> Sequence[Position]:
        """Has taken out of definitions what names the erased and did not open at the time; or
        returns where events of definitions stand that still do not. Safe to repeat.

        Raises:
            LookAgain: another erasure took something out of the same meanwhile.
            PastHead: the log cannot say so now.
        """
        self._keys.refresh()
        unread = self._mentions.unread()
        if unread:
            return unread
        mentions = self._mentions.prepare_hashed(cause.request, lookups)
        contents = [one.content for one in mentions]
        if contents:
            with self._mentions.destroying(cause.request, mentions) as conn:
                lock_keys(conn, contents)
                if erased_by(conn, contents):
                    raise LookAgain
                self._destroy(conn, contents, cause)
            self._keys.refresh()
        self.settle(cause, at)
        if contents:
            self.finish(cause.kind, contents, at)
        return []

    def finish(
        self, kind: SubjectKind, subjects: Sequence[SubjectId], at: datetime
    ) -> tuple[Position, ...]:
        """See `ErasureCompletion.complete`."""
        return self._completion.complete(kind, subjects, at)

    def _destroy(
        self, conn: psycopg.Connection, subjects: Sequence[SubjectId], cause: ErasureRequestRef
    ) -> None:
        self._tombstones.destroy_within(
            conn, subjects, suppress=cause.suppress, **_on_record(cause)
        )


class _OnRecord(TypedDict):
    kind: str
    requested_by: str
    reason: str
    request: uuid.UUID


def _on_record(cause: ErasureRequestRef) -> _OnRecord:
    return {
        "kind": cause.kind.value,
        "requested_by": cause.requested_by,
        "reason": cause.reason,
        "request": cause.request,
    }
