"""The process manager: makes the decisions of definitions, and records them as events.

The projector stores the changes of each batch (`projections.models.changes`). The process manager
takes them, finds the rules (`projections.deciding.rules`) that rest on them, evaluates the rules
for the subjects concerned, and appends the decisions to the subjects' streams. The projector
applies the decisions like all events, which is a change that the process manager looks at again. So
a decision from an older state is corrected, and decisions that rest on a decision follow it.

Many workers may decide the same: each decision of a subject has an ordinal in its series
(`domain.events.decisions.series`), and the log stores each ordinal once. After a change of a
definition, on a new calendar day and after a rebuild, rules sweep over all subjects
(`projections.models.sweeps`). Where only the clock can change a decision, a timer is set
(`projections.deciding.timers`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import OperationalError

from domain.calendar import Moment
from domain.errors import Refusal
from domain.events.decisions import DecisionCause, DecisionEvent, OfDay, OfEvent, OfRebuild, OfTime
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.workspace.dependencies import Fact
from projections.deciding import pending_changes, timers
from projections.deciding.affected_rules import OwnDecision, affected
from projections.deciding.defined_rules import read_counters, read_rules, signature
from projections.deciding.rule_set import RuleSet
from projections.deciding.rules.rule import Rule, Verdict
from projections.deciding.timers import Timer
from projections.kernel import pg_arrays
from projections.kernel.idle import Idle
from projections.kernel.ports import Log
from projections.models import sweeps
from projections.models.changes import Event, Id
from projections.projector.checkpoints import PROJECTOR

NAME = "main"
POLL_SECONDS = 0.05
BATCHES_A_STEP = 32
"""Batches of the projector whose changes one step takes."""

TIMERS_A_TICK = 2_000
SWEPT_PARTITIONS = 32
"""Partitions that a sweep decides about in one transaction."""

BEGIN = sa.text("""
INSERT INTO views.deciding (decider, waits_for, swept_day) VALUES (:name, :heads, :today)
ON CONFLICT DO NOTHING""")

# Locked in each transaction that decides: a rebuild, which empties the table, waits for it.
SHARE_STATE = sa.text("""
SELECT waits_for, swept_day FROM views.deciding WHERE decider = :name FOR SHARE""")

LOCK_STATE = sa.text("""
SELECT waits_for, swept_day FROM views.deciding WHERE decider = :name FOR UPDATE""")

IS_DUE = sa.text("""
SELECT EXISTS (SELECT FROM views.changes_due)
    OR EXISTS (SELECT FROM views.timers WHERE due_at <= :now)
    OR NOT EXISTS (SELECT FROM views.deciding
                   WHERE decider = :name AND waits_for IS NULL AND swept_day >= :today)""")

HAS_REACHED = sa.text("""
SELECT count(*) = 0 FROM unnest(CAST(:positions AS bigint[])) WITH ORDINALITY AS w(position, n)
LEFT JOIN views.checkpoints c ON c.projector = :projector AND c.log_partition = w.n - 1
WHERE coalesce(c.position, 0) < w.position""")

END_WAITING = sa.text("UPDATE views.deciding SET waits_for = NULL WHERE decider = :name")

MOVE_DAY = sa.text("UPDATE views.deciding SET swept_day = :today WHERE decider = :name")

# Locked until the transaction ends: a counter that is removed meanwhile would count nothing.
LOCK_COUNTERS = sa.text("""
SELECT id FROM views.counters WHERE id = ANY(:ids) AND state = 'ready' ORDER BY id FOR SHARE""")

Reason = TypeVar("Reason")

log = structlog.get_logger()


class Recorder(Protocol):
    """Appends decisions to their subjects' streams, each once; leaves out erased subjects."""

    def record(
        self, decisions: Sequence[tuple[SubjectKind, SubjectId, DecisionEvent]], at: datetime
    ) -> None: ...


class _ReadRules(NamedTuple):
    """The rules as they were last read.

    Attributes:
        signature: of the definitions, from before they were read.
        counters: those of metadata that the rules read.
    """

    signature: tuple[int, ...]
    rules: RuleSet
    counters: list[UUID]


class RuleVerdict(NamedTuple):
    """The verdict of a rule on a subject."""

    rule: Rule
    subject: UUID
    verdict: Verdict


def _now() -> datetime:
    return datetime.now(UTC)


class ProcessManager:
    """A worker of the process manager. Each runs in a thread or process of its own.

    Args:
        zone: returns the present time zone of the workspace.
    """

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
        self._rules = _ReadRules((), RuleSet([]), [])

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Decides about changes and due timers until `stop` is set."""
        self._repeat(lambda: self.step() + self.tick() if self._is_due() else 0, stop, idle)

    def run_sweeps(self, stop: threading.Event, idle: Idle) -> None:
        """Advances sweeps until `stop` is set. Apart from `run`, so that changes do not wait for
        sweeps."""
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
        """Whether anything is due. Locks no row: a lock is a write, and mostly nothing is due."""
        moment = self._moment()
        params = {"name": NAME, "now": moment.now, "today": moment.today}
        with self._queries.connect() as conn:
            return bool(conn.scalar(IS_DUE, params))

    @contextmanager
    def _deciding(self) -> Iterator[tuple[sa.Connection, Moment] | None]:
        """A transaction that may decide, and the moment it decides for; None: it may not yet."""
        moment = self._moment()
        with self._queries.begin() as conn:
            if self._may_decide(conn, moment):
                yield conn, moment
                return
        if not self._is_ready(moment):
            yield None
            return
        with self._queries.begin() as conn:
            yield (conn, moment) if self._may_decide(conn, moment) else None

    def step(self) -> int:
        """Decides about what some batches changed; returns their number."""
        with self._deciding() as turn:
            if turn is None:
                return 0
            conn, moment = turn
            batches = pending_changes.lock_some(conn, BATCHES_A_STEP)
            rules = self._counted_rules(conn) if batches else None
            if rules is None:
                return 0
            ids = [batch.id for batch in batches]
            due = affected(conn, rules, [batch.changes for batch in batches])
            self._decide(conn, rules, moment, due, _Causes(conn, rules, ids))
            pending_changes.delete(conn, ids)
        return len(batches)

    def tick(self) -> int:
        """Decides about some of the timers that are due; returns their number."""
        with self._deciding() as turn:
            if turn is None:
                return 0
            conn, moment = turn
            locked = timers.lock_due(conn, moment.now, TIMERS_A_TICK)
            rules = self._counted_rules(conn) if locked else None
            if rules is None:
                return 0
            timers.delete(conn, locked)
            due: dict[str, dict[Id, datetime]] = {}
            for timer in locked:
                if timer.rule in rules.by_key:
                    due.setdefault(timer.rule, {})[Id(timer.subject.bytes)] = timer.due_at
            self._decide(conn, rules, moment, due, OfTime)
        return len(locked)

    def sweep(self) -> int:
        """Advances one sweep; returns 0 where none is due."""
        with self._queries.connect() as conn:
            if not sweeps.swept_rules(conn):
                return 0
        with self._deciding() as turn:
            if turn is None:
                return 0
            conn, moment = turn
            self._end_sweeps(conn)
            rules = self._counted_rules(conn)
            if rules is None:
                return 0
            sweep = sweeps.lock_unfinished(conn, rules.first_of(sweeps.swept_rules(conn)))
            if sweep is None:
                return 0
            if self._counted_rules(conn) is not rules:
                return 1  # a definition changed before its sweep was locked
            rule = rules.by_key.get(sweep.rule)
            following = min(sweep.next_partition + SWEPT_PARTITIONS, LOG_PARTITIONS)
            if rule is not None:
                partitions = range(sweep.next_partition, following)
                verdicts = [
                    RuleVerdict(rule, row[0], rule.verdict(row, sweep.cause, moment.now))
                    for row in rules.differing_in(conn, rule, moment, partitions)
                ]
                self._record(conn, verdicts, moment)
            heads = self._heads() if following == LOG_PARTITIONS else None
            sweeps.advance(conn, sweep.rule, following, heads)
        return 1

    def _end_sweeps(self, conn: sa.Connection) -> None:
        """Ends each sweep whose decisions the read models show."""
        for rule, positions in sweeps.lock_decided(conn):
            if _has_reached(conn, positions):
                sweeps.end(conn, rule)

    def _moment(self) -> Moment:
        return Moment(self._clock(), self._zone())

    def _heads(self) -> list[int]:
        heads = self._log.heads(range(LOG_PARTITIONS))
        return [heads[partition] for partition in range(LOG_PARTITIONS)]

    def _may_decide(self, conn: sa.Connection, moment: Moment) -> bool:
        row = conn.execute(SHARE_STATE, {"name": NAME}).one_or_none()
        return row is not None and row.waits_for is None and row.swept_day >= moment.today

    def _is_ready(self, moment: Moment) -> bool:
        """Whether the read models are complete. During a rebuild they show the past, and decisions
        from them would invent history. Begins the sweeps of a rebuild and of a new day as well."""
        today = moment.today
        with self._queries.begin() as conn:
            row = conn.execute(LOCK_STATE, {"name": NAME}).one_or_none()
            if row is None:
                heads = pg_arrays.bigints(self._heads())
                conn.execute(BEGIN, {"name": NAME, "heads": heads, "today": today})
                row = conn.execute(LOCK_STATE, {"name": NAME}).one()
            if row.waits_for is not None and not _has_reached(conn, row.waits_for):
                return False
            rules = self._current_rules(conn).rules
            if row.waits_for is not None:
                pending_changes.delete_all(conn)
                sweeps.sweep_all(conn, list(rules.by_key), OfRebuild())
                conn.execute(END_WAITING, {"name": NAME})
            if row.swept_day < today:
                of_calendar = [rule.key for rule in rules.asking_the_calendar]
                sweeps.sweep_all(conn, of_calendar, OfDay(today))
                conn.execute(MOVE_DAY, {"name": NAME, "today": today})
        return True

    def _current_rules(self, conn: sa.Connection) -> _ReadRules:
        current, read = signature(conn), self._rules
        if read.signature != current:
            read = self._rules = _ReadRules(current, read_rules(conn), read_counters(conn))
        return read

    def _counted_rules(self, conn: sa.Connection) -> RuleSet | None:
        """The rules, once all counters that they read are filled. None: the filler counts still, as
        after a restore; a rule would take uncounted activity for activity that never occurred."""
        for _ in range(2):
            read = self._current_rules(conn)
            if not read.counters:
                return read.rules
            locked = conn.execute(LOCK_COUNTERS, {"ids": read.counters}).all()
            if len(locked) == len(read.counters):
                return read.rules
            # An erasure can change the counters of a rule without a new version of the definition.
            self._rules = read._replace(signature=())
        return None

    def _decide(
        self,
        conn: sa.Connection,
        rules: RuleSet,
        moment: Moment,
        due: Mapping[str, Mapping[Id, Reason]],
        cause: Callable[[Reason], DecisionCause],
    ) -> None:
        """Evaluates rules for subjects and records the decisions.

        Args:
            due: by rule, the subjects, each with the reason to look.
            cause: makes the cause of a decision from its reason; called for decisions alone.
        """
        rows = rules.differing(conn, moment, [(rules.by_key[key], list(due[key])) for key in due])
        verdicts: list[RuleVerdict] = []
        decided: set[tuple[Fact, UUID]] = set()
        # A rule that rests on a decision of this step waits until the read models show it, and is
        # evaluated then: its history would otherwise hold a turn that never was.
        for rule, row in sorted(rows, key=lambda pair: rules.depth[pair[0].key]):
            subject: UUID = row[0]
            if any((fact, subject) in decided for fact in rules.waits_for[rule.key]):
                continue
            reason = due[rule.key][Id(subject.bytes)]
            verdict = rule.verdict(row, cause(reason), moment.now)
            verdicts.append(RuleVerdict(rule, subject, verdict))
            if verdict.decisions:
                decided.add((rule.decides, subject))
        self._record(conn, verdicts, moment)

    def _record(self, conn: sa.Connection, verdicts: Sequence[RuleVerdict], moment: Moment) -> None:
        decisions = [
            (rule.kind, SubjectId(subject), decision)
            for rule, subject, verdict in verdicts
            for decision in verdict.decisions
        ]
        if decisions:
            self._recorder.record(decisions, moment.now)
        due = [
            Timer(subject, rule.key, verdict.look_again_at)
            for rule, subject, verdict in verdicts
            if verdict.look_again_at is not None
        ]
        timers.set_all(conn, due)


class _Causes:
    """Makes the cause of a decision from the reason to look at the subject.

    The rule's own decision is no cause: the rule saw it. The cause is then a change that came after
    the changes with these ids were taken."""

    def __init__(self, conn: sa.Connection, rules: RuleSet, ids: Sequence[UUID]) -> None:
        self._conn = conn
        self._rules = rules
        self._ids = ids
        self._newer: dict[str, dict[Id, Event | OwnDecision]] | None = None

    def __call__(self, reason: Event | OwnDecision) -> OfEvent:
        if isinstance(reason, OwnDecision):
            if self._newer is None:
                others = pending_changes.select_others(self._conn, self._ids)
                self._newer = affected(self._conn, self._rules, others)
            reason = self._newer.get(reason.rule, {}).get(reason.subject, reason)
        return OfEvent(*(reason.event if isinstance(reason, OwnDecision) else reason))


def _has_reached(conn: sa.Connection, positions: Sequence[int]) -> bool:
    """Whether the read models hold all events up to a position in each partition."""
    params = {"positions": pg_arrays.bigints(positions), "projector": PROJECTOR}
    return bool(conn.scalar(HAS_REACHED, params))
