"""Erasure as a process: taken on, carried out step by step, resumed by whoever finds it unfinished.

Each step is one look at what is left to do, safe to repeat, and moves the request on in a
transaction that holds its row: it is carried out by one worker at a time, and one that dies lets go
at once. Up to a thousand subjects are unreadable before the request is answered; more follow in the
background, and what is written to one of them before its turn goes with it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import psycopg
import structlog
from psycopg import errors as pg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.erasure.erasure import (
    Erasure,
    ErasureOrder,
    ErasureScope,
    ErasureStep,
    TargetOutcome,
)
from domain.errors import Altered, BeyondHead, Conflict, NotFound, Refusal, Unavailable
from domain.identity import Identity, SubjectId, SubjectKind, log_partition
from infra.erasure.key_destruction import ErasureRequestRef, KeyDestruction, LookAgain
from infra.erasure.ledger import ErasureEntry
from infra.erasure.record import NEWEST_PLACES, ErasureRecord
from infra.keys.digests import KeyedDigest
from infra.keys.identity_index import IdentityIndex
from infra.keys.key_ring import ALL_PARTITIONS, erased_by
from infra.postgres.database import transaction_of
from infra.postgres.wakeups import SLEEP_SECONDS
from projections.projector.checkpoints import reached

SUBJECTS_AT_A_TIME = 1_000
"""Of one transaction that destroys keys."""

TOKEN_MEMORY = timedelta(days=30)
"""How long idempotency keys are remembered."""

POLL_SECONDS = 0.5
ATTEMPTS = 5

UNREAD_TOLD = 10
"""Places, at most, that an erasure says it waits for."""

STOPPED = "a partition of the log to which nothing can be appended: see past_heads in /api/status"

ADD_REQUEST = """
INSERT INTO keys.erasure_requests
       (id, scope, kind, segment, reason, suppress, unknown, requested_by)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""

ADD_TARGETS = """
INSERT INTO keys.erasure_targets (log_partition, request, subject)
SELECT p, %b, s FROM unnest(%b::smallint[], %b::uuid[]) AS v(p, s) ON CONFLICT DO NOTHING"""

CLAIM_KEY = """
INSERT INTO keys.erasure_tokens (token, question, request) VALUES (%b, %b, %b)
ON CONFLICT DO NOTHING"""

SELECT_CLAIM = "SELECT question, request FROM keys.erasure_tokens WHERE token = %b"

FORGET_CLAIMS = "DELETE FROM keys.erasure_tokens WHERE taken_at < %s"

NEXT_TARGETS = """
SELECT subject FROM keys.erasure_targets
WHERE log_partition = ANY(%s) AND request = %s AND outcome = 'waiting' ORDER BY subject LIMIT %s"""

UNFINISHED = """
SELECT id FROM keys.erasure_requests WHERE completed_at IS NULL ORDER BY requested_at, id"""

LOCK = """
SELECT id, kind, reason, suppress, requested_by, requested_at, unreadable_at, recorded_at,
       forgotten_at, cleaned_at, completed_at
FROM keys.erasure_requests WHERE id = %s AND completed_at IS NULL FOR UPDATE SKIP LOCKED"""

LOCK_TO_CLEAN = """
SELECT id, forgotten_at, rewritten FROM keys.erasure_requests
WHERE completed_at IS NULL AND forgotten_at IS NOT NULL AND cleaned_at IS NULL
  AND (%s::uuid[] IS NULL OR id = ANY(%s))
ORDER BY requested_at, id FOR UPDATE SKIP LOCKED"""

MOVE = {
    ErasureStep.UNREADABLE: "unreadable_at",
    ErasureStep.RECORDED: "recorded_at",
    ErasureStep.FORGOTTEN: "forgotten_at",
}

SET_STEP = """
UPDATE keys.erasure_requests
SET {column} = now(), waits_for = NULL WHERE id = %s AND {column} IS NULL"""

SET_WAITING = "UPDATE keys.erasure_requests SET waits_for = %s WHERE id = ANY(%s)"

SET_REWRITTEN = "UPDATE keys.erasure_requests SET rewritten = %s WHERE id = ANY(%s)"

SET_CLEANED = """
UPDATE keys.erasure_requests SET cleaned_at = now(), wal = %s, waits_for = NULL
WHERE id = ANY(%s) AND cleaned_at IS NULL"""

SET_BACK = """
UPDATE keys.erasure_requests
SET forgotten_at = NULL, cleaned_at = NULL, rewritten = '{}', waits_for = NULL WHERE id = %s"""

SET_COMPLETED = """
UPDATE keys.erasure_requests SET completed_at = now(), certificate = %s, waits_for = NULL
WHERE id = %s AND completed_at IS NULL"""

UNRECORDED = """
SELECT subject FROM keys.erasures WHERE request = %s AND completed_at IS NULL
ORDER BY subject LIMIT %s"""

PARKED = """
SELECT count(*) FROM views.parked v
JOIN unnest(%b::smallint[], %b::bigint[]) AS w(p, position)
  ON v.log_partition = w.p AND v.position = w.position"""

PLACES = """
SELECT log_partition, position FROM (
    SELECT request, log_partition, position FROM keys.erasures
    UNION ALL SELECT request, log_partition, position FROM keys.erasure_mentions) said
WHERE request = %s AND position IS NOT NULL ORDER BY log_partition, position"""

LIFT = """
UPDATE keys.suppressed SET lifted_at = now(), lifted_by = %b
WHERE log_partition = %b AND lookup = %b AND lifted_at IS NULL"""

log = structlog.get_logger()


class Cleaner(Protocol):
    """Makes what was deleted go from the database's files too."""

    def clean(self, since: datetime, done: Sequence[str], upto: str) -> Cleaned: ...


class KeptLedger(Protocol):
    def keep(self) -> None: ...


class Pasts(Protocol):
    """Read models as they once were, which hold whoever is erased since."""

    def drop_all(self) -> None: ...


class Counters(Protocol):
    """Counters of metadata, which can ask for somebody by e-mail address."""

    def forget_names(self) -> bool: ...


class Certifier(Protocol):
    def issue(self, conn: psycopg.Connection, request: uuid.UUID) -> bytes: ...


class Cleaned(msgspec.Struct, frozen=True):
    """How far a cleaning got.

    Attributes:
        rewritten: the tables whose files hold nothing deleted any more.
        waits_for: what stops it, in words; None: it is done.
        wal: `removed`, or `left to the operator`.
        again: more is to do, in a transaction that begins now.
    """

    rewritten: list[str]
    waits_for: str | None
    wal: str | None = None
    again: bool = False


class _AlreadyAsked(Exception):
    """Another request stands for this one."""

    def __init__(self, request: uuid.UUID) -> None:
        self.request = request


class ErasureProcess:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        destruction: KeyDestruction,
        lookup: IdentityIndex,
        pool: ConnectionPool,
        views: ConnectionPool,
        secret: bytes,
        cleaner: Cleaner,
        certifier: Certifier,
        ledger: KeptLedger,
        pasts: Pasts,
        counters: Counters,
    ) -> None:
        self._destruction = destruction
        self._lookup = lookup
        self._pool = pool
        self._views = views
        self._keyed = KeyedDigest(secret)
        self._cleaner = cleaner
        self._certifier = certifier
        self._ledger = ledger
        self._pasts = pasts
        self._counters = counters
        self.record = ErasureRecord(pool)
        self._wake = threading.Event()
        self._stepping = threading.Lock()

    def request(self, order: ErasureOrder, *, by: str) -> Erasure:
        """Takes an erasure on, once for each idempotency key; up to a thousand subjects are
        unreadable when it returns.

        Raises:
            Conflict: the idempotency key stands for another erasure; or a legal hold forbids the
                erasure of one.
            NotFound: there is no such subject.
            Altered: nothing says whether it is a user or an account.
            Unavailable: others change the same subjects all the time.
        """
        for _ in range(ATTEMPTS):
            try:
                id = self._take_on(order, by)
            except _AlreadyAsked as earlier:
                id = earlier.request
            except (LookAgain, pg.DeadlockDetected, pg.UniqueViolation):
                continue
            if len(order.subjects) <= SUBJECTS_AT_A_TIME:
                self._advance(id, until=ErasureStep.RECORDED)
            self._wake.set()
            return self.record.get(id)
        raise Unavailable("others change the same subjects; send the request again")

    def asked(self, question: str, key: str, *, by: str) -> Erasure | None:
        """The erasure that an idempotency key stands for, if it does.

        Raises:
            Conflict: it stands for another one than is asked for.
        """
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_CLAIM, (self._token(by, key),)).fetchone()
        return None if row is None else self.record.get(self._same(row, question))

    def lift(self, identity: Identity, *, by: str) -> None:
        """Lets an identity that was erased be taken in again.

        Raises:
            NotFound: it is not suppressed.
        """
        lookup = self._lookup.digest(identity)
        with self._pool.connection() as conn:
            if not conn.execute(LIFT, (by, lookup[0], lookup)).rowcount:
                raise NotFound("this identity is not suppressed")

    def run(self, stop: threading.Event) -> None:
        """Carries on with what is unfinished, until told to stop."""
        while not stop.is_set():
            self._wake.clear()
            pause = POLL_SECONDS
            try:
                if not self.step():
                    pause = SLEEP_SECONDS
            except (psycopg.Error, Refusal, TimeoutError) as error:
                log.warning("erasures.failed", error=type(error).__name__)
            self._wake.wait(pause)

    def wake(self) -> None:
        """Has `run` look at once."""
        self._wake.set()

    def step(self) -> int:
        """Brings everything that is unfinished as far as it gets now; returns how much it was."""
        with self._pool.connection() as conn:
            ids = [row[0] for row in conn.execute(UNFINISHED)]
        for id in ids:
            self._advance(id, until=ErasureStep.FORGOTTEN)
        self._ledger.keep()
        if ids:
            self._clean()
        for id in ids:
            self._certify(id)
        return len(ids)

    def prepare_again(self, revived: Sequence[ErasureEntry]) -> None:
        """Before the ledger is replayed over a restored database: has ready again what is to stand
        in place of all that names those who are erased again."""
        for request, kind in {(one.request, one.kind) for one in revived if one.request}:
            subjects = [
                SubjectId(one.subject)
                for one in revived
                if (one.request, one.kind) == (request, kind)
            ]
            self._destruction.prepare_again(request, kind, subjects)

    def forget_tokens(self, now: datetime) -> None:
        """Forgets the idempotency keys that are old enough."""
        with self._pool.connection() as conn:
            conn.execute(FORGET_CLAIMS, (now - TOKEN_MEMORY,))

    def _take_on(self, order: ErasureOrder, by: str) -> uuid.UUID:
        id = uuid.uuid4()
        subjects = list(dict.fromkeys(SubjectId(one) for one in order.subjects))
        cause = ErasureRequestRef(id, order.kind, by, order.reason, order.suppress)
        at_once = len(subjects) <= SUBJECTS_AT_A_TIME
        aim = self._destruction.aim(id, order.kind, subjects) if at_once else None
        with self._pool.connection() as conn, conn.transaction():
            self._take_token(conn, order, by, id)
            conn.execute(
                ADD_REQUEST,
                (
                    id,
                    order.scope.value,
                    order.kind.value,
                    order.segment,
                    order.reason,
                    order.suppress,
                    order.unknown,
                    by,
                ),
            )
            if subjects:
                conn.execute(ADD_TARGETS, (id, *_placed(subjects)))
            if aim is None:
                return id
            outcomes = self._destruction.destroy(conn, aim, cause)
            if order.scope is ErasureScope.ONE:
                [(subject, (outcome, detail))] = outcomes.items()
                _refuse(conn, order.kind, subject, outcome, detail)
        self._destruction.drop_cached()
        return id

    def _take_token(
        self, conn: psycopg.Connection, order: ErasureOrder, by: str, id: uuid.UUID
    ) -> None:
        if order.idempotency_key is None:
            return
        token = self._token(by, order.idempotency_key)
        if conn.execute(CLAIM_KEY, (token, self._digest(order.question), id)).rowcount:
            return
        row = conn.execute(SELECT_CLAIM, (token,)).fetchone()
        if row is None:
            raise Unavailable("the idempotency key expired a moment ago: send the request again")
        raise _AlreadyAsked(self._same(row, order.question))

    def _same(self, row: Sequence[Any], question: str) -> uuid.UUID:
        if bytes(row[0]) != self._digest(question):
            raise Conflict(
                "this idempotency key was used for another erasure: send a new one",
                pointer="/Idempotency-Key",
            )
        request: uuid.UUID = row[1]
        return request

    def _token(self, by: str, key: str) -> bytes:
        return self._keyed(f"token\0{by}\0{key}")

    def _digest(self, question: str) -> bytes:
        return self._keyed(f"question\0{question}")

    def _advance(self, id: uuid.UUID, *, until: ErasureStep) -> None:
        """Takes the steps of one request, each in a transaction of its own."""
        going = True
        while going:
            # One at a time: each step holds a connection of the pool and takes others.
            with self._stepping, self._pool.connection() as conn, conn.transaction():
                row = conn.cursor(row_factory=dict_row).execute(LOCK, (id,)).fetchone()
                if row is None:
                    return
                going = self._take_step(conn, row, until)

    def _take_step(
        self, conn: psycopg.Connection, row: Mapping[str, Any], until: ErasureStep
    ) -> bool:
        """Takes the next step; says whether another may follow."""
        id, kind = row["id"], SubjectKind(row["kind"])
        if row["unreadable_at"] is None:
            if self._destroy_next(row):
                return True
            conn.execute(SET_STEP.format(column=MOVE[ErasureStep.UNREADABLE]), (id,))
            return True
        if row["recorded_at"] is None:
            self._destruction.settle(_cause(row), row["requested_at"])
            subjects = [
                SubjectId(one) for (one,) in conn.execute(UNRECORDED, (id, SUBJECTS_AT_A_TIME))
            ]
            if subjects:
                try:
                    self._destruction.finish(kind, subjects, row["requested_at"])
                except BeyondHead:
                    conn.execute(SET_WAITING, (STOPPED, [id]))
                    return False
                return True
            conn.execute(SET_STEP.format(column=MOVE[ErasureStep.RECORDED]), (id,))
            return until is not ErasureStep.RECORDED
        if row["forgotten_at"] is None and until is not ErasureStep.RECORDED:
            waits_for = self._still_shown(conn, id) or self._still_past() or self._still_counted()
            if waits_for is None:
                conn.execute(SET_STEP.format(column=MOVE[ErasureStep.FORGOTTEN]), (id,))
            else:
                conn.execute(SET_WAITING, (waits_for, [id]))
        return False

    def _still_shown(self, conn: psycopg.Connection, id: uuid.UUID) -> str | None:
        """Why read models may still hold something, or None."""
        newest = [Position(*one) for _, *one in conn.execute(NEWEST_PLACES, ([id],))]
        if not newest:
            return None
        with self._views.connection() as views:
            if not reached(views, newest):
                return "the read models have not come to it yet"
            places = conn.execute(PLACES, (id,)).fetchall()
            asked = ([one[0] for one in places], [one[1] for one in places])
            if views.execute(PARKED, asked).fetchone() != (0,):
                return "an event that says so is parked: see the operator's page"
        return None

    def _still_past(self) -> str | None:
        """Drops every past, of whichever process; says what stands in the way, or None."""
        try:
            self._pasts.drop_all()
        except psycopg.Error as error:
            log.warning("erasures.past_not_dropped", error=type(error).__name__)
            return "the databases of pasts cannot be dropped yet"
        return None

    def _still_counted(self) -> str | None:
        """Has counters go that can name somebody; says what stands in the way, or None."""
        if self._counters.forget_names():
            return None
        return "counts of metadata that an e-mail address was asked for with are being deleted"

    def _destroy_next(self, row: Mapping[str, Any]) -> bool:
        """Destroys the keys of the next subjects; says whether there were any."""
        id, kind = row["id"], SubjectKind(row["kind"])
        with self._pool.connection() as conn:
            asked = (ALL_PARTITIONS, id, SUBJECTS_AT_A_TIME)
            subjects = [SubjectId(one) for (one,) in conn.execute(NEXT_TARGETS, asked)]
        if not subjects:
            return False
        aim = self._destruction.aim(id, kind, subjects)
        with suppress(LookAgain), self._pool.connection() as conn, conn.transaction():
            self._destruction.destroy(conn, aim, _cause(row))
        self._destruction.drop_cached()
        return True

    def _clean(self) -> None:
        """One cleaning for all requests that have come so far."""
        group = self._clean_on(None)
        while group:
            group = self._clean_on(group)

    def _clean_on(self, group: list[uuid.UUID] | None) -> list[uuid.UUID]:
        """Takes the cleaning a step further, of some requests or of all that there are; returns
        those of whom another step may follow at once."""
        with self._pool.connection() as conn, conn.transaction():
            rows = conn.execute(LOCK_TO_CLEAN, (group, group)).fetchall()
            if not rows:
                return []
            ids = [row[0] for row in rows]
            done = set(rows[0][2]).intersection(*(row[2] for row in rows))
            since, upto = max(row[1] for row in rows), transaction_of(conn)
            cleaned = self._cleaner.clean(since, sorted(done), upto)
            conn.execute(SET_REWRITTEN, (cleaned.rewritten, ids))
            if cleaned.waits_for is None and not cleaned.again:
                conn.execute(SET_CLEANED, (cleaned.wal, ids))
            else:
                conn.execute(SET_WAITING, (cleaned.waits_for, ids))
            return ids if cleaned.again else []

    def _certify(self, id: uuid.UUID) -> None:
        with self._pool.connection() as conn, conn.transaction():
            row = conn.cursor(row_factory=dict_row).execute(LOCK, (id,)).fetchone()
            if row is None or row["cleaned_at"] is None:
                return
            lookups = self._destruction.remembered(conn, id)
            if not lookups:
                conn.execute(SET_COMPLETED, (self._certifier.issue(conn, id), id))
                return
            waits_for = self._look_again(row, lookups)
            if waits_for is not None:
                conn.execute(SET_WAITING, (waits_for, [id]))
                return
            # Names were there until now: what forgets and cleans is done once more.
            self._destruction.forget(conn, id)
            conn.execute(SET_BACK, (id,))
        self._wake.set()

    def _look_again(self, row: Mapping[str, Any], lookups: set[bytes]) -> str | None:
        """Looks for names in what did not open when the keys were destroyed; says what stands in
        the way, or None."""
        try:
            unread = self._destruction.look_again(lookups, _cause(row), row["requested_at"])
        except LookAgain:
            return "another erasure that takes names out of the same definitions"
        except BeyondHead:
            return STOPPED
        if not unread:
            return None
        places = ", ".join(f"{one.log_partition}:{one.position}" for one in unread[:UNREAD_TOLD])
        return (
            f"events of definitions that do not open and may name somebody: {places} in the log;"
            " have the operator restore them"
        )


def _cause(row: Mapping[str, Any]) -> ErasureRequestRef:
    kind = SubjectKind(row["kind"])
    return ErasureRequestRef(row["id"], kind, row["requested_by"], row["reason"], row["suppress"])


def _placed(subjects: Sequence[SubjectId]) -> tuple[list[int], list[SubjectId]]:
    return [log_partition(one) for one in subjects], list(subjects)


def _refuse(
    conn: psycopg.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    outcome: TargetOutcome,
    detail: str | None,
) -> None:
    """Of a request for one subject nothing is kept that does not erase it."""
    match outcome:
        case TargetOutcome.HELD:
            raise Conflict(f"a legal hold forbids it, for {detail}: release it first")
        case TargetOutcome.ERASED_BEFORE:
            request = erased_by(conn, [subject]).get(subject)
            if request is not None:
                raise _AlreadyAsked(request)
            raise NotFound(f"there is no such {kind}")
        case TargetOutcome.ALTERED:
            raise Altered(detail or "")
        case TargetOutcome.UNKNOWN:
            raise NotFound(f"there is no such {kind}")
        case _:
            return
