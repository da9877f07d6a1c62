"""Destroying the keys of many subjects at once, and of all that they turn out to be.

Who is concerned is looked up before, what may not be is seen within the transaction that destroys
(tombstones, legal holds), and whoever was merged with one of them in between is caught up after.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.erasure import TargetOutcome
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects import Account, User, replay
from infra.handler import Handler
from infra.holds import held
from infra.keys import KeyRing, lock_keys
from infra.log import EventLog
from infra.recorder import Aggregates
from infra.sealing import Sealer
from infra.subject_key import SubjectKey

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


class Aim(msgspec.Struct, frozen=True):
    """What targets are, before anything is destroyed.

    Attributes:
        states: of the targets, and of those that they live on in.
        keys: what opens, after the destruction, what was appended before it.
        everything: of each target the subject that it is today, and all that was merged into that;
            empty where there is no such subject, or none any more.
    """

    states: States
    keys: Mapping[int, SubjectKey]
    everything: dict[SubjectId, tuple[SubjectId, ...]]


class Destruction:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        handler: Handler,
        aggregates: Aggregates,
        log: EventLog,
        sealer: Sealer,
        keys: KeyRing,
        pool: ConnectionPool,
    ) -> None:
        self._handler = handler
        self._aggregates = aggregates
        self._log = log
        self._sealer = sealer
        self._keys = keys
        self._pool = pool

    def aim(self, kind: SubjectKind, targets: Sequence[SubjectId]) -> Aim:
        """Finds out, in a few queries however many, what targets are today."""
        self._keys.refresh()
        states: States = {}
        wanted = set(targets)
        while wanted:
            loaded = self._aggregates.load(dict.fromkeys(wanted, kind))
            states |= loaded
            survivors = {one.merged_into for one in loaded.values()} - {None}
            wanted = {one for one in survivors if one is not None and one not in states}
        everything = {}
        for target in targets:
            root = states[target]
            while root.merged_into is not None and states[root.merged_into].version:
                root = states[root.merged_into]
            everything[target] = (root.id, *root.absorbed) if root.version else ()
        return Aim(states, self._keys.fetch({one.int for one in states}), everything)

    def destroy(self, conn: psycopg.Connection, aim: Aim, cause: Cause) -> Outcomes:
        """Destroys the keys of those targets that may go, in the caller's transaction, and notes
        of each what became of it. After its end `catch_up` has to follow."""
        concerned = {one for each in aim.everything.values() for one in each} | set(aim.everything)
        ordered = sorted(concerned, key=lambda one: (log_partition(one), one.bytes))
        lock_keys(conn, ordered)
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

    def catch_up(self, aim: Aim, outcomes: Outcomes, cause: Cause) -> None:
        """Destroys the keys of whoever was merged with a target since it was looked at, for by the
        merge they are one; and drops what this process has cached."""
        self._keys.refresh()
        roots = {
            aim.everything[target][0]: aim.states[aim.everything[target][0]]
            for target, (outcome, _) in outcomes.items()
            if outcome is TargetOutcome.ERASED and aim.everything[target]
        }
        newer = self._log.read_streams({id: state.version for id, state in roots.items()})
        merged: set[SubjectId] = set()
        for id, rows in newer.items():
            if rows:
                newest = replay(roots[id], self._sealer.open_events(rows, aim.keys))
                merged |= set(newest.absorbed) - set(roots[id].absorbed)
                if newest.merged_into is not None:
                    merged.add(newest.merged_into)
        if not merged:
            return
        later = self.aim(cause.kind, list(merged))
        everything = merged | {one for each in later.everything.values() for one in each}
        with self._pool.connection() as conn, conn.transaction():
            self._destroy(conn, list(everything), cause)
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
