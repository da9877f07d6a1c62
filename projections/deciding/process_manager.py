"""The process manager: has what follows from conditions decided, and recorded.

Each batch of the projector leaves a note of what it changed (`projections.models.changes`). A
decider takes notes, finds the rules (`projections.deciding.rules`) that rest on any of it, asks
those about the subjects concerned, and has what they decide appended to the subjects' streams. From
there the
projector brings it into the read models, which is a change that is looked at again: so what was
decided from an older state is put right, and what rests on a decision follows.

Nothing is recorded twice, whoever decides it and how often: each decision of a subject has an
ordinal in its series (`domain.events.decisions.series`), and each ordinal is stored once.
Where a definition is new, the calendar moves on, or read models were made anew, rules sweep over
all subjects, some partitions at a time. Where only the clock is waited for, a timer says when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import OperationalError

from domain.calendar import Moment
from domain.errors import Refusal
from domain.events.decisions import DecisionCause, DecisionEvent, OfDay, OfEvent, OfRebuild, OfTime
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind, log_partition
from domain.workspace.dependencies import Fact
from projections.deciding.affected_rules import Again, looks_due
from projections.deciding.defined_rules import read_counters, read_rules, signature
from projections.deciding.rule_set import Rules
from projections.deciding.rules.rule import Rule, Verdict
from projections.kernel.idle import Idle
from projections.kernel.ports import Log
from projections.models.changes import Event, Id
from projections.models.sweeps import sweep_all
from projections.projector.checkpoints import PROJECTOR

NAME = "main"
POLL_SECONDS = 0.05
NOTES_A_STEP = 32
TIMERS_A_TICK = 2_000
SWEPT_PARTITIONS = 32
"""That a sweep takes at a time."""

BEGIN = sa.text("""
INSERT INTO views.deciding (decider, waits_for, swept_day) VALUES (:name, :heads, :today)
ON CONFLICT DO NOTHING""")

# Locked while anything is decided: emptying the read models waits for it.
STATE = sa.text("SELECT waits_for, swept_day FROM views.deciding WHERE decider = :name FOR SHARE")

STATE_ALONE = sa.text("""
SELECT waits_for, swept_day FROM views.deciding WHERE decider = :name FOR UPDATE""")

IS_DUE = sa.text("""
SELECT EXISTS (SELECT FROM views.changes_due)
    OR EXISTS (SELECT FROM views.timers WHERE due_at <= :now)
    OR NOT EXISTS (SELECT FROM views.deciding
                   WHERE decider = :name AND waits_for IS NULL AND swept_day >= :today)""")

REACHED = sa.text("""
SELECT count(*) = 0 FROM unnest(CAST(:positions AS bigint[])) WITH ORDINALITY AS w(position, n)
LEFT JOIN views.checkpoints c ON c.projector = :projector AND c.log_partition = w.n - 1
WHERE coalesce(c.position, 0) < w.position""")

SETTLE = sa.text("UPDATE views.deciding SET waits_for = NULL WHERE decider = :name")

MOVE_DAY = sa.text("UPDATE views.deciding SET swept_day = :today WHERE decider = :name")

FORGET_NOTES = sa.text("DELETE FROM views.changes_due")

# Held until the transaction ends: one that is removed meanwhile would count nothing.
HOLD_COUNTERS = sa.text("""
SELECT id FROM views.counters WHERE id = ANY(:ids) AND state = 'ready' ORDER BY id FOR SHARE""")

TAKE_NOTES = sa.text("""
SELECT id, changes FROM views.changes_due LIMIT :limit FOR UPDATE SKIP LOCKED""")

OTHER_NOTES = sa.text("SELECT changes FROM views.changes_due WHERE id <> ALL(:ids)")

DELETE_NOTES = sa.text("DELETE FROM views.changes_due WHERE id = ANY(:ids)")

SWEPT_RULES = sa.text("SELECT rule FROM views.sweeps")

TAKE_SWEEP = sa.text("""
SELECT rule, cause, next_partition FROM views.sweeps
WHERE waits_for IS NULL AND rule = ANY(:rules) LIMIT 1 FOR UPDATE SKIP LOCKED""")

TAKE_SWEPT = sa.text("""
SELECT rule, waits_for FROM views.sweeps
WHERE waits_for IS NOT NULL FOR UPDATE SKIP LOCKED""")

MOVE_SWEEP = sa.text("""
UPDATE views.sweeps SET next_partition = :next, waits_for = :heads WHERE rule = :rule""")

END_SWEEP = sa.text("DELETE FROM views.sweeps WHERE rule = :rule")

TAKE_TIMERS = sa.text("""
SELECT log_partition, subject, rule, due_at FROM views.timers WHERE due_at <= :now
ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED""")

SET_TIMERS = sa.text("""
INSERT INTO views.timers (log_partition, subject, rule, due_at)
SELECT * FROM unnest(CAST(:partitions AS smallint[]), CAST(:subjects AS uuid[]),
                     CAST(:rules AS text[]), CAST(:due AS timestamptz[]))
ON CONFLICT (log_partition, subject, rule) DO UPDATE SET due_at = excluded.due_at""")

STOP_TIMERS = sa.text("""
DELETE FROM views.timers t
USING unnest(CAST(:partitions AS smallint[]), CAST(:subjects AS uuid[]), CAST(:rules AS text[]))
      AS w(p, s, rule)
WHERE t.log_partition = w.p AND t.subject = w.s AND t.rule = w.rule
  AND t.log_partition = ANY(:partitions)""")

Reason = TypeVar("Reason")

log = structlog.get_logger()
_cause: msgspec.msgpack.Decoder[DecisionCause] = msgspec.msgpack.Decoder(DecisionCause)


class Recorder(Protocol):
    """Appends decisions to their subjects' streams, each once; what is erased is left out."""

    def record(
        self, decisions: Sequence[tuple[SubjectKind, SubjectId, DecisionEvent]], at: datetime
    ) -> None: ...


class Found(NamedTuple):
    """What a rule says of a subject."""

    rule: Rule
    subject: UUID
    verdict: Verdict


def _now() -> datetime:
    return datetime.now(UTC)


class ProcessManager:
    """One worker. Run it in threads or in processes of its own, as many as there is work for."""

    def __init__(
        self,
        *,
        log: Log,
        recorder: Recorder,
        queries: sa.Engine,
        zone: Callable[[], tzinfo],
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._log = log
        self._recorder = recorder
        self._queries = queries
        self._zone = zone
        self._clock = clock
        self._rules: tuple[tuple[int, ...], Rules] = ((), Rules([]))
        self._counters: list[UUID] = []
        """That the rules ask."""

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Looks at what changes and at what is due until told to stop."""
        self._repeat(lambda: self.step() + self.tick() if self._is_due() else 0, stop, idle)

    def run_sweeps(self, stop: threading.Event, idle: Idle) -> None:
        """Decides whole segments anew where that is due, until told to stop. Apart from `run`, so
        that what changes does not wait for it."""
        self._repeat(self.sweep, stop, idle)

    def _repeat(self, step: Callable[[], int], stop: threading.Event, idle: Idle) -> None:
        while not stop.is_set():
            try:
                if step():
                    idle.moved()
                else:
                    idle.wait(POLL_SECONDS)
            except (OperationalError, psycopg.OperationalError, TimeoutError, Refusal) as error:
                log.warning("decider.waits", error=type(error).__name__)
                stop.wait(1.0)
            except Exception as error:
                log.error("decider.failed", error=type(error).__name__)
                stop.wait(1.0)

    def _is_due(self) -> bool:
        """Whether there is anything to look at. Locks nothing: most looks find nothing, and a lock
        on a row is a write."""
        moment = self._moment()
        asked = {"name": NAME, "now": moment.now, "today": moment.today}
        with self._queries.connect() as conn:
            return bool(conn.scalar(IS_DUE, asked))

    @contextmanager
    def _turn(self) -> Iterator[tuple[sa.Connection, Moment] | None]:
        """A transaction in which it may decide, and the moment that it decides for; or None."""
        moment = self._moment()
        if not self._is_settled(moment):
            yield None
            return
        with self._queries.begin() as conn:
            yield (conn, moment) if self._may_decide(conn) else None

    def step(self) -> int:
        """Looks at some of what changed; returns how many batches of the projector it was."""
        with self._turn() as turn:
            if turn is None:
                return 0
            conn, moment = turn
            notes = conn.execute(TAKE_NOTES, {"limit": NOTES_A_STEP}).all()
            rules = self._countable(conn) if notes else None
            if rules is None:
                return 0
            due = looks_due(conn, rules, [changes for _, changes in notes])
            self._decide(conn, rules, moment, due, _Causes(conn, rules, [id for id, _ in notes]))
            conn.execute(DELETE_NOTES, {"ids": [id for id, _ in notes]})
        return len(notes)

    def tick(self) -> int:
        """Looks at some of those whose time has come; returns how many they were."""
        with self._turn() as turn:
            if turn is None:
                return 0
            conn, moment = turn
            timers = conn.execute(TAKE_TIMERS, {"now": moment.now, "limit": TIMERS_A_TICK}).all()
            rules = self._countable(conn) if timers else None
            if rules is None:
                return 0
            due: dict[str, dict[Id, datetime]] = {}
            for one in timers:
                if one.rule in rules.by_key:
                    due.setdefault(one.rule, {})[Id(one.subject.bytes)] = one.due_at
            conn.execute(
                STOP_TIMERS,
                {
                    "partitions": [one.log_partition for one in timers],
                    "subjects": [one.subject for one in timers],
                    "rules": [one.rule for one in timers],
                },
            )
            self._decide(conn, rules, moment, due, OfTime)
        return len(timers)

    def sweep(self) -> int:
        """Brings one sweep on; returns 0 where none is due."""
        with self._queries.connect() as conn:
            if conn.scalar(SWEPT_RULES) is None:
                return 0
        with self._turn() as turn:
            if turn is None:
                return 0
            conn, moment = turn
            self._end_sweeps(conn)
            rules = self._countable(conn)
            if rules is None:
                return 0
            swept = list(conn.scalars(SWEPT_RULES))
            row = conn.execute(TAKE_SWEEP, {"rules": rules.first_of(swept)}).one_or_none()
            if row is None:
                return 0
            rule, cause = rules.by_key.get(row.rule), _cause.decode(row.cause)
            following = row.next_partition + SWEPT_PARTITIONS
            if rule is not None:
                some = range(row.next_partition, following)
                found = [
                    Found(rule, one[0], rule.verdict(one, cause, moment.now))
                    for one in rules.differing_in(conn, rule, moment, some)
                ]
                self._record(conn, found, moment)
            is_last = following >= LOG_PARTITIONS
            conn.execute(
                MOVE_SWEEP,
                {
                    "rule": row.rule,
                    "next": min(following, LOG_PARTITIONS),
                    "heads": self._heads() if is_last else None,
                },
            )
        return 1

    def _end_sweeps(self, conn: sa.Connection) -> None:
        """A sweep is over when the read models show what it had recorded."""
        for rule, positions in conn.execute(TAKE_SWEPT).all():
            if _reached(conn, positions):
                conn.execute(END_SWEEP, {"rule": rule})

    def _moment(self) -> Moment:
        return Moment(self._clock(), self._zone())

    def _heads(self) -> list[int]:
        heads = self._log.heads(range(LOG_PARTITIONS))
        return [heads[partition] for partition in range(LOG_PARTITIONS)]

    def _may_decide(self, conn: sa.Connection) -> bool:
        row = conn.execute(STATE, {"name": NAME}).one_or_none()
        return row is not None and row.waits_for is None

    def _is_settled(self, moment: Moment) -> bool:
        """Whether there is anything to decide from: read models that are being made anew show
        what was, and deciding from that would make history up. Sees to the new day as well."""
        today = moment.today
        with self._queries.begin() as conn:
            row = conn.execute(STATE, {"name": NAME}).one_or_none()
        if row is not None and row.waits_for is None and row.swept_day >= today:
            return True
        heads = self._heads()
        with self._queries.begin() as conn:
            conn.execute(BEGIN, {"name": NAME, "heads": heads, "today": today})
            row = conn.execute(STATE_ALONE, {"name": NAME}).one()
            rules = self._look_up(conn)
            if row.waits_for is not None:
                if not _reached(conn, row.waits_for):
                    return False
                conn.execute(FORGET_NOTES)
                sweep_all(conn, list(rules.by_key), OfRebuild())
                conn.execute(SETTLE, {"name": NAME})
            if row.swept_day < today:
                sweep_all(conn, [rule.key for rule in rules.asking_the_calendar], OfDay(today))
                conn.execute(MOVE_DAY, {"name": NAME, "today": today})
        return True

    def _look_up(self, conn: sa.Connection) -> Rules:
        now = signature(conn)
        if self._rules[0] != now:
            self._rules, self._counters = (now, read_rules(conn)), read_counters(conn)
        return self._rules[1]

    def _countable(self, conn: sa.Connection) -> Rules | None:
        """The rules, once all that they ask of metadata is counted; None: it is being counted, as
        after a restore, and what was not counted would have occurred to nobody."""
        for _ in range(2):
            rules = self._look_up(conn)
            if not self._counters:
                return rules
            held = conn.execute(HOLD_COUNTERS, {"ids": self._counters}).all()
            if len(held) == len(self._counters):
                return rules
            self._rules = ((), rules)  # an erasure may have changed what they ask, and no version
        return None

    def _decide(
        self,
        conn: sa.Connection,
        rules: Rules,
        moment: Moment,
        due: Mapping[str, Mapping[Id, Reason]],
        cause: Callable[[Reason], DecisionCause],
    ) -> None:
        """Asks rules about subjects, each for a reason, and has recorded what they decide. Only of
        those of whom something is decided is the cause made."""
        rows = rules.differing(conn, moment, [(rules.by_key[key], list(due[key])) for key in due])
        found: list[Found] = []
        decided: set[tuple[Fact, UUID]] = set()
        # What rests on something that has just been decided of the same subject waits for that to
        # be seen, and is then looked at anew: else its history would have a turn that nobody took.
        for rule, row in sorted(rows, key=lambda one: rules.depth[one[0].key]):
            subject: UUID = row[0]
            if any((fact, subject) in decided for fact in rules.waits_for[rule.key]):
                continue
            why = cause(due[rule.key][Id(subject.bytes)])
            one = Found(rule, subject, rule.verdict(row, why, moment.now))
            found.append(one)
            if one.verdict.decisions:
                decided.add((rule.decides, subject))
        self._record(conn, found, moment)

    def _record(self, conn: sa.Connection, found: Sequence[Found], moment: Moment) -> None:
        decisions = [
            (one.rule.kind, SubjectId(one.subject), decision)
            for one in found
            for decision in one.verdict.decisions
        ]
        if decisions:
            self._recorder.record(decisions, moment.now)
        timers = sorted(
            (log_partition(one.subject), one.subject.bytes, one.rule.key, one.subject, at)
            for one in found
            if (at := one.verdict.look_again_at) is not None
        )
        if timers:
            conn.execute(
                SET_TIMERS,
                {
                    "partitions": [one[0] for one in timers],
                    "subjects": [one[3] for one in timers],
                    "rules": [one[2] for one in timers],
                    "due": [one[4] for one in timers],
                },
            )


class _Causes:
    """From the reason to look to the cause of what was found: where that is a decision, it is what
    was noted since the notes with these ids were taken, for it was seen already."""

    def __init__(self, conn: sa.Connection, rules: Rules, ids: Sequence[UUID]) -> None:
        self._conn = conn
        self._rules = rules
        self._ids = ids
        self._newer: dict[str, dict[Id, Event | Again]] | None = None

    def __call__(self, reason: Event | Again) -> OfEvent:
        if isinstance(reason, Again):
            if self._newer is None:
                notes = self._conn.scalars(OTHER_NOTES, {"ids": self._ids}).all()
                self._newer = looks_due(self._conn, self._rules, notes)
            reason = self._newer.get(reason.rule, {}).get(reason.subject, reason)
        return OfEvent(*(reason.event if isinstance(reason, Again) else reason))


def _reached(conn: sa.Connection, positions: Sequence[int]) -> bool:
    asked = {"positions": list(positions), "projector": PROJECTOR}
    return bool(conn.scalar(REACHED, asked))
