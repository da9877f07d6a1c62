"""Destroys the keys of many subjects at once, and of all that were merged with them.

`plan` looks up the subjects. `destroy` checks tombstones, legal holds and later merges in the
transaction that destroys the keys. A merge locks the keys of both sides until it is in the log: so
no merge is under way by then, and none can follow.
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
from infra.erasure.legal_holds import LegalHolds, holds_on
from infra.erasure.redaction import Mention, Redaction
from infra.keys.erasure_records import erased_by
from infra.keys.key_ring import KeyRing
from infra.keys.tombstones import KeyTombstones, lock_keys
from infra.log.event_log import EventLog
from infra.write.erasure_completion import ErasureCompletion
from infra.write.subjects import States, Subjects

MERGES = {topic for topic, payload in PAYLOAD_OF_TOPIC.items() if payload in (Absorbed, MergedInto)}

ALTERED = (
    "none of its events opens, and no read model knows whether it is a user or an account:"
    " have the operator restore its first event, then ask again"
)

SET_OUTCOMES = """
UPDATE keys.erasure_targets t SET outcome = v.outcome, detail = v.detail
FROM unnest(%(partitions)s::smallint[], %(targets)s::uuid[], %(outcomes)s::text[],
            %(details)s::text[]) AS v(p, s, outcome, detail)
WHERE t.log_partition = v.p AND t.request = %(request)s AND t.subject = v.s
  AND t.log_partition = ANY(%(partitions)s)"""

Outcomes = dict[SubjectId, tuple[TargetOutcome, str | None]]


class ErasureRequestRef(msgspec.Struct, frozen=True):
    """The request that destroys keys, as it goes on record with each of them."""

    request: uuid.UUID
    kind: SubjectKind
    requested_by: str
    reason: str
    suppress: bool


class PlanOutdated(Exception):
    """Since the plan, a subject was merged or put on hold, or a content that names it changed."""


class ErasurePlan(msgspec.Struct, frozen=True):
    """The state of the targets, before anything is destroyed.

    Attributes:
        states: of the targets, and of the subjects that they were merged into.
        reach: of each target its present subject, and all that were merged into that; empty if the
            subject never existed or exists no more.
        free: the targets without a legal hold.
        altered: the targets of unknown kind: none of their events opens.
        mentions: the contents that name a free target by value, with redacted text prepared.
        lookups: their names as keyed hashes, if they must be searched for again.
    """

    states: States
    reach: dict[SubjectId, tuple[SubjectId, ...]]
    free: frozenset[SubjectId]
    altered: frozenset[SubjectId]
    mentions: Sequence[Mention]
    lookups: frozenset[bytes]


class KeyDestruction:
    """Thread-safe; one instance per process."""

    def __init__(
        self,
        *,
        completion: ErasureCompletion,
        subjects: Subjects,
        log: EventLog,
        keys: KeyRing,
        tombstones: KeyTombstones,
        holds: LegalHolds,
        redaction: Redaction,
    ) -> None:
        self._completion = completion
        self._subjects = subjects
        self._log = log
        self._keys = keys
        self._tombstones = tombstones
        self._holds = holds
        self._redaction = redaction

    def plan(
        self, request: uuid.UUID, kind: SubjectKind, targets: Sequence[SubjectId]
    ) -> ErasurePlan:
        """Looks up the present state of targets and the contents that name them, in a few queries
        for any number of targets."""
        self._keys.refresh()
        kinds = self._subjects.kinds(targets)
        states = self._load_with_survivors(
            kind, {target for target in targets if kinds.get(target) is kind}
        )
        reach = {target: _reach(kind, target, states) for target in targets}
        on_hold = self._holds.on({member for members in reach.values() for member in members})
        free = {
            target for target, members in reach.items() if members and on_hold.isdisjoint(members)
        }
        names = {
            name
            for target in free
            for member in reach[target]
            if member in states
            for name in states[member].identities
        }
        return ErasurePlan(
            states,
            reach,
            frozenset(free),
            frozenset(target for target in targets if kinds.get(target, kind) is None),
            self._redaction.prepare(request, names),
            self._redaction.lookups(names),
        )

    def destroy(
        self, conn: psycopg.Connection, plan: ErasurePlan, ref: ErasureRequestRef
    ) -> Outcomes:
        """Destroys the keys of the targets that may be erased, in the caller's transaction, and
        stores the outcome of each target. Call `drop_cached` after the transaction.

        Raises:
            PlanOutdated: plan again.
        """
        contents = [mention.content for mention in plan.mentions]
        concerned = {member for members in plan.reach.values() for member in members}
        concerned.update(plan.reach, contents)
        ordered = sorted(concerned, key=lambda each: (log_partition(each), each.bytes))
        lock_keys(conn, ordered)
        self._check_not_merged(plan)
        erased_before = erased_by(conn, ordered)
        if not erased_before.keys().isdisjoint(contents):
            raise PlanOutdated
        holds = holds_on(conn, ordered)
        outcomes: Outcomes = {}
        destroyed: list[SubjectId] = []
        for target, members in plan.reach.items():
            root = members[0] if members else target
            reasons = [holds[member] for member in members if member in holds]
            if erased_before.get(root) == ref.request:  # by way of another target
                outcomes[target] = (TargetOutcome.ERASED, None)
            elif root in erased_before:
                outcomes[target] = (TargetOutcome.ERASED_BEFORE, "erased by another request")
            elif target in plan.altered:
                outcomes[target] = (TargetOutcome.ALTERED, ALTERED)
            elif not members:
                outcomes[target] = (TargetOutcome.UNKNOWN, f"there is no such {ref.kind}")
            elif reasons and target in plan.free:
                raise PlanOutdated
            elif reasons:
                outcomes[target] = (TargetOutcome.HELD, reasons[0])
            else:
                outcomes[target] = (TargetOutcome.ERASED, None)
                destroyed += members
        if destroyed:
            self._destroy(conn, destroyed + contents, ref)
            self._redaction.record(conn, ref.request, plan.mentions)
            self._redaction.remember(conn, ref.request, plan.lookups)
        params = {
            "request": ref.request,
            "targets": list(outcomes),
            "partitions": [log_partition(target) for target in outcomes],
            "outcomes": [outcome.value for outcome, _ in outcomes.values()],
            "details": [detail for _, detail in outcomes.values()],
        }
        conn.execute(SET_OUTCOMES, params)
        return outcomes

    def drop_cached(self) -> None:
        """Drops the destroyed keys that this process has cached."""
        self._keys.refresh()

    def prepare_replay(
        self, request: uuid.UUID, kind: SubjectKind, subjects: Sequence[SubjectId]
    ) -> None:
        """Before the ledger is replayed: prepares the redacted text of contents that name erased
        subjects. Legal holds do not apply here."""
        kinds = self._subjects.kinds(subjects)
        states = self._subjects.load({id: kind for id in subjects if kinds.get(id) is kind})
        names = [name for state in states.values() for name in state.identities]
        mentions, lookups = self._redaction.prepare(request, names), self._redaction.lookups(names)
        self._redaction.record_apart(request, mentions, lookups)

    def apply_redactions(self, ref: ErasureRequestRef, at: datetime) -> None:
        """Once keys are destroyed: appends the redacted definitions to the log. Safe to repeat."""
        left_over = self._redaction.left_over(ref.request)
        if left_over:
            self._tombstones.destroy(left_over, **_on_record(ref))
            self._redaction.empty(left_over)
        self._redaction.apply(ref.request, at)

    def record_erased(
        self, kind: SubjectKind, subjects: Sequence[SubjectId], at: datetime
    ) -> tuple[Position, ...]:
        """See `ErasureCompletion.complete`."""
        return self._completion.complete(kind, subjects, at)

    def remembered(self, conn: psycopg.Connection, request: uuid.UUID) -> set[bytes]:
        """See `Redaction.remembered`."""
        return self._redaction.remembered(conn, request)

    def forget(self, conn: psycopg.Connection, request: uuid.UUID) -> None:
        """See `Redaction.forget`."""
        self._redaction.forget(conn, request)

    def search_again(
        self, lookups: AbstractSet[bytes], ref: ErasureRequestRef, at: datetime
    ) -> Sequence[Position]:
        """Takes names out of events of definitions that did not open when the keys were destroyed;
        or returns the positions of those that still do not open. Safe to repeat.

        Raises:
            PlanOutdated: another erasure took names out of the same definition meanwhile.
            BeyondHead: nothing can be appended to a partition of the log now.
        """
        self._keys.refresh()
        unread = self._redaction.unread()
        if unread:
            return unread
        mentions = self._redaction.prepare_hashed(ref.request, lookups)
        contents = [mention.content for mention in mentions]
        if contents:
            with self._redaction.destroying(ref.request, mentions) as conn:
                lock_keys(conn, contents)
                if erased_by(conn, contents):
                    raise PlanOutdated
                self._destroy(conn, contents, ref)
            self._keys.refresh()
        self.apply_redactions(ref, at)
        if contents:
            self.record_erased(ref.kind, contents, at)
        return []

    def _load_with_survivors(self, kind: SubjectKind, wanted: AbstractSet[SubjectId]) -> States:
        """The states of subjects, and of all that these were merged into, one after the other."""
        states: States = {}
        while wanted:
            states |= self._subjects.load(dict.fromkeys(wanted, kind))
            survivors = (states[id].merged_into for id in wanted)
            wanted = {id for id in survivors if id is not None and id not in states}
        return states

    def _check_not_merged(self, plan: ErasurePlan) -> None:
        """Raises: PlanOutdated: a planned subject was merged since."""
        alive = {id: state.version for id, state in plan.states.items() if state.version}
        newer = self._log.read_streams(alive)
        if any(event.topic in MERGES for events in newer.values() for event in events):
            raise PlanOutdated

    def _destroy(
        self, conn: psycopg.Connection, subjects: Sequence[SubjectId], ref: ErasureRequestRef
    ) -> None:
        self._tombstones.destroy_within(conn, subjects, suppress=ref.suppress, **_on_record(ref))


def _reach(kind: SubjectKind, target: SubjectId, states: States) -> tuple[SubjectId, ...]:
    """The subject that a target is today, first, and all that was merged into it."""
    root = states.get(target) or new_subject(kind, target)
    path = []
    while root.merged_into is not None and states[root.merged_into].version:
        path.append(root.id)
        root = states[root.merged_into]
    return tuple(dict.fromkeys((root.id, *root.absorbed, *path))) if root.version else ()


class _OnRecord(TypedDict):
    kind: str
    requested_by: str
    reason: str
    request: uuid.UUID


def _on_record(ref: ErasureRequestRef) -> _OnRecord:
    return {
        "kind": ref.kind.value,
        "requested_by": ref.requested_by,
        "reason": ref.reason,
        "request": ref.request,
    }
