"""Destroying the keys of many subjects at once, and of all that they turn out to be.

Who is concerned is looked up before. What may not be is seen within the transaction that destroys
(tombstones, legal holds), and so is whether one of them was merged in between: a merge holds the
keys of both sides until it is in the log, so that none is under way by then, and none can follow.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
import psycopg

from domain.commands import Position
from domain.erasure import TargetOutcome
from domain.events import PAYLOAD_OF_TOPIC, Absorbed, MergedInto
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects import Account, User, subject
from infra.handler import Handler
from infra.holds import held
from infra.keys import KeyRing, lock_keys
from infra.log import EventLog
from infra.recorder import Aggregates

MERGES = {topic for topic, payload in PAYLOAD_OF_TOPIC.items() if payload in (Absorbed, MergedInto)}

MARK_TARGETS = """
UPDATE keys.erasure_targets t SET outcome = v.outcome, detail = v.detail
FROM unnest(%s::smallint[], %s::uuid[], %s::text[], %s::text[]) AS v(p, s, outcome, detail)
WHERE t.log_partition = v.p AND t.request = %s AND t.subject = v.s AND t.log_partition = ANY(%s)"""

ERASED_BEFORE = """
SELECT e.subject, e.request FROM keys.erasures e
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON e.log_partition = w.p AND e.subject = w.s"""

States = dict[SubjectId, User | Account]
Outcomes = dict[SubjectId, tuple[TargetOutcome, str | None]]


class Cause(msgspec.Struct, frozen=True):
    """Why keys are destroyed: the request, as far as it goes on record with each of them."""

    request: uuid.UUID
    kind: SubjectKind
    requested_by: str
    reason: str
    suppress: bool


class Merged(Exception):
    """A subject was merged since it was looked at: who is concerned has to be looked up again."""


class Aim(msgspec.Struct, frozen=True):
    """What targets are, before anything is destroyed.

    Attributes:
        states: of the targets, and of those that they live on in.
        everything: of each target the subject that it is today, and all that was merged into that;
            empty where there is no such subject, or none any more.
    """

    states: States
    everything: dict[SubjectId, tuple[SubjectId, ...]]


class Destruction:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        handler: Handler,
        aggregates: Aggregates,
        log: EventLog,
        keys: KeyRing,
    ) -> None:
        self._handler = handler
        self._aggregates = aggregates
        self._log = log
        self._keys = keys

    def aim(self, kind: SubjectKind, targets: Sequence[SubjectId]) -> Aim:
        """Finds out, in a few queries however many, what targets are today."""
        self._keys.refresh()
        kinds = self._aggregates.kinds(targets)
        states: States = {}
        wanted = {one for one in targets if kinds.get(one) is kind}
        while wanted:
            loaded = self._aggregates.load(dict.fromkeys(wanted, kind))
            states |= loaded
            survivors = {one.merged_into for one in loaded.values()} - {None}
            wanted = {one for one in survivors if one is not None and one not in states}
        everything = {}
        for target in targets:
            root = states.get(target) or subject(kind, target)
            while root.merged_into is not None and states[root.merged_into].version:
                root = states[root.merged_into]
            everything[target] = (root.id, *root.absorbed) if root.version else ()
        return Aim(states, everything)

    def destroy(self, conn: psycopg.Connection, aim: Aim, cause: Cause) -> Outcomes:
        """Destroys the keys of those targets that may go, in the caller's transaction, and notes
        of each what became of it. After its end `drop_cached` has to follow.

        Raises:
            Merged: see there.
        """
        concerned = {one for each in aim.everything.values() for one in each} | set(aim.everything)
        ordered = sorted(concerned, key=lambda one: (log_partition(one), one.bytes))
        lock_keys(conn, ordered)
        self._check_still(aim)
        before = erased_before(conn, ordered)
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
            elif not everything:
                outcomes[target] = (TargetOutcome.UNKNOWN, f"there is no such {cause.kind}")
            elif reasons:
                outcomes[target] = (TargetOutcome.HELD, reasons[0])
            else:
                outcomes[target] = (TargetOutcome.ERASED, None)
                gone += everything
        if gone:
            self._destroy(conn, gone, cause)
        targets, partitions = list(outcomes), [log_partition(one) for one in outcomes]
        marks = ([one.value for one, _ in outcomes.values()], [one for _, one in outcomes.values()])
        conn.execute(MARK_TARGETS, (partitions, targets, *marks, cause.request, partitions))
        return outcomes

    def _check_still(self, aim: Aim) -> None:
        """Raises: Merged."""
        alive = {id: state.version for id, state in aim.states.items() if state.version}
        newer = self._log.read_streams(alive)
        if any(row.topic in MERGES for rows in newer.values() for row in rows):
            raise Merged

    def drop_cached(self) -> None:
        """Drops at once what this process still has of keys that are destroyed."""
        self._keys.refresh()

    def finish(
        self, kind: SubjectKind, subjects: Sequence[SubjectId], at: datetime
    ) -> tuple[Position, ...]:
        """See `Handler.finish_erasure`."""
        return self._handler.finish_erasure(kind, subjects, at)

    def _destroy(
        self, conn: psycopg.Connection, subjects: Sequence[SubjectId], cause: Cause
    ) -> None:
        self._keys.destroy_within(
            conn,
            subjects,
            kind=cause.kind.value,
            requested_by=cause.requested_by,
            reason=cause.reason,
            request=cause.request,
            suppress=cause.suppress,
        )


def erased_before(
    conn: psycopg.Connection, subjects: Iterable[SubjectId]
) -> dict[SubjectId, uuid.UUID | None]:
    """Those of the subjects that are erased, each with the request that did it, if one did."""
    asked = list(subjects)
    rows = conn.execute(ERASED_BEFORE, ([log_partition(one) for one in asked], asked), binary=True)
    return {SubjectId(subject): request for subject, request in rows}
