"""Takes erasures on: once for each idempotency key, with the keys of up to a thousand subjects
destroyed before the answer. `infra.erasure.process` carries on from there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg import errors as pg
from psycopg_pool import ConnectionPool

from domain.erasure.erasure import Erasure, TargetOutcome
from domain.erasure.order import EraseSubjects, ErasureOrder, ErasureScope
from domain.errors import Altered, Conflict, NotFound, Unavailable
from domain.identity import Identity, SubjectId, SubjectKind, log_partition
from infra.erasure.idempotency import IdempotencyKeys
from infra.erasure.key_destruction import ErasureRequestRef, KeyDestruction, PlanOutdated
from infra.erasure.ledger import ErasureEntry
from infra.erasure.process import UNTIL_RECORDED, ErasureProcess
from infra.erasure.steps import SUBJECTS_AT_A_TIME
from infra.erasure.targets import TargetFinder
from infra.keys.erasure_records import erased_by
from infra.keys.identity_index import IdentityIndex

ATTEMPTS = 5

ADD_REQUEST = """
INSERT INTO keys.erasure_requests
       (id, scope, kind, segment, reason, suppress, unknown, requested_by)
VALUES (%(id)s, %(scope)s, %(kind)s, %(segment)s, %(reason)s, %(suppress)s, %(unknown)s, %(by)s)"""

ADD_TARGETS = """
INSERT INTO keys.erasure_targets (log_partition, request, subject)
SELECT p, %(request)b, s FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

LIFT_SUPPRESSION = """
UPDATE keys.suppressed SET lifted_at = now(), lifted_by = %(by)b
WHERE log_partition = %(partition)b AND lookup = %(lookup)b AND lifted_at IS NULL"""


class TakenOn(msgspec.Struct, frozen=True):
    """
    Attributes:
        nobody: indexes of the names in a list that no subject has; empty if the idempotency key
            stands for an earlier request.
    """

    erasure: Erasure
    nobody: Sequence[int]


class _RequestedBefore(Exception):
    """Another request stands for this one."""

    def __init__(self, request: uuid.UUID) -> None:
        self.request = request


class ErasureRequests:
    """Thread-safe; one instance per process.

    Args:
        pool: of the keys.
        secret: of the deployment, for idempotency keys.
    """

    def __init__(
        self,
        *,
        process: ErasureProcess,
        destruction: KeyDestruction,
        targets: TargetFinder,
        lookup: IdentityIndex,
        pool: ConnectionPool,
        secret: bytes,
    ) -> None:
        self._process = process
        self._destruction = destruction
        self._targets = targets
        self._lookup = lookup
        self._pool = pool
        self._idempotency = IdempotencyKeys(secret)

    def erase(
        self, command: EraseSubjects, *, by: str, until_visible: Callable[[], None]
    ) -> TakenOn:
        """Finds the subjects that a command means, and takes their erasure on.

        Args:
            by: the API key, by id.
            until_visible: as in `TargetFinder.find`.

        Raises:
            Refusal: as `TargetFinder.find` and `take_on`.
        """
        # An earlier request comes first: the names that it erased lead nowhere by now.
        earlier = self._earlier(command, by)
        if earlier is not None:
            return TakenOn(earlier, ())
        targets = self._targets.find(command.kind, command.selection, until_visible)
        order = ErasureOrder(
            scope=targets.scope,
            kind=command.kind,
            subjects=targets.subjects,
            segment=targets.segment,
            unknown=len(targets.nobody),
            reason=command.reason,
            suppress=command.suppress,
            idempotency_key=command.idempotency_key,
            question=command.question,
        )
        return TakenOn(self.take_on(order, by=by), targets.nobody)

    def take_on(self, order: ErasureOrder, *, by: str) -> Erasure:
        """Takes an erasure on, once for each idempotency key; up to a thousand subjects are
        unreadable when it returns.

        Raises:
            Conflict: the idempotency key stands for another erasure; or a legal hold forbids the
                erasure of one subject.
            NotFound: there is no such subject.
            Altered: nothing says whether it is a user or an account.
            Unavailable: others change the same subjects all the time.
        """
        for _ in range(ATTEMPTS):
            try:
                id = self._store(order, by)
            except _RequestedBefore as earlier:
                id = earlier.request
            except (PlanOutdated, pg.DeadlockDetected, pg.UniqueViolation):
                continue
            if len(order.subjects) <= SUBJECTS_AT_A_TIME:
                self._process.advance(id, UNTIL_RECORDED)
            self._process.wake()
            return self._process.record.get(id)
        raise Unavailable("others change the same subjects; send the request again")

    def lift_suppression(self, identity: Identity, *, by: str) -> None:
        """Lifts the suppression of an erased identity.

        Raises:
            NotFound: it is not suppressed.
        """
        lookup = self._lookup.digest(identity)
        params = {"by": by, "partition": lookup[0], "lookup": lookup}
        with self._pool.connection() as conn:
            if not conn.execute(LIFT_SUPPRESSION, params).rowcount:
                raise NotFound("this identity is not suppressed")

    def forget_idempotency_keys(self, now: datetime) -> None:
        """Deletes the idempotency keys that are old enough."""
        with self._pool.connection() as conn:
            self._idempotency.forget(conn, now)

    def prepare_replay(self, revived: Sequence[ErasureEntry]) -> None:
        """Before the ledger is replayed over a restored database: prepares the redacted text of all
        contents that name the subjects to erase again."""
        for request, kind in {(entry.request, entry.kind) for entry in revived if entry.request}:
            subjects = [
                SubjectId(entry.subject)
                for entry in revived
                if (entry.request, entry.kind) == (request, kind)
            ]
            self._destruction.prepare_replay(request, kind, subjects)

    def _earlier(self, command: EraseSubjects, by: str) -> Erasure | None:
        """The erasure that a command's idempotency key stands for. Raises: Conflict."""
        key = command.idempotency_key
        if key is None:
            return None
        with self._pool.connection() as conn:
            id = self._idempotency.find(conn, key, command.question, by=by)
        return None if id is None else self._process.record.get(id)

    def _store(self, order: ErasureOrder, by: str) -> uuid.UUID:
        """Stores a request and its targets; destroys their keys where they are few enough."""
        id = uuid.uuid4()
        subjects = list(dict.fromkeys(SubjectId(subject) for subject in order.subjects))
        ref = ErasureRequestRef(id, order.kind, by, order.reason, order.suppress)
        at_once = len(subjects) <= SUBJECTS_AT_A_TIME
        plan = self._destruction.plan(id, order.kind, subjects) if at_once else None
        with self._pool.connection() as conn, conn.transaction():
            self._claim_key(conn, order, by, id)
            request = {
                "id": id,
                "scope": order.scope.value,
                "kind": order.kind.value,
                "segment": order.segment,
                "reason": order.reason,
                "suppress": order.suppress,
                "unknown": order.unknown,
                "by": by,
            }
            conn.execute(ADD_REQUEST, request)
            if subjects:
                partitions = [log_partition(subject) for subject in subjects]
                targets = {"request": id, "partitions": partitions, "subjects": subjects}
                conn.execute(ADD_TARGETS, targets)
            if plan is None:
                return id
            outcomes = self._destruction.destroy(conn, plan, ref)
            if order.scope is ErasureScope.ONE:
                [(subject, (outcome, detail))] = outcomes.items()
                _refuse(conn, order.kind, subject, outcome, detail)
        self._destruction.drop_cached()
        return id

    def _claim_key(
        self, conn: psycopg.Connection, order: ErasureOrder, by: str, id: uuid.UUID
    ) -> None:
        """Raises: _RequestedBefore, Conflict, Unavailable."""
        if order.idempotency_key is None:
            return
        claimed = self._idempotency.claim(
            conn, order.idempotency_key, order.question, by=by, request=id
        )
        if claimed != id:
            raise _RequestedBefore(claimed)


def _refuse(
    conn: psycopg.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    outcome: TargetOutcome,
    detail: str | None,
) -> None:
    """Refuses a request for one subject that does not erase it: nothing of it is stored."""
    match outcome:
        case TargetOutcome.HELD:
            raise Conflict(f"a legal hold forbids it, for {detail}: release it first")
        case TargetOutcome.ERASED_BEFORE:
            request = erased_by(conn, [subject]).get(subject)
            if request is not None:
                raise _RequestedBefore(request)
            raise NotFound(f"there is no such {kind}")
        case TargetOutcome.ALTERED:
            raise Altered(detail or "")
        case TargetOutcome.UNKNOWN:
            raise NotFound(f"there is no such {kind}")
        case _:
            return
