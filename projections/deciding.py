"""The process manager: decides who enters and leaves segments, and has it recorded.

Each batch of the projector leaves a note of what it changed (`projections.changes`). A decider
takes notes, finds the segments that rest on any of it, evaluates those for the subjects concerned,
compares with who is a member, and has the differences appended to the subjects' streams. From there
the projector brings them into the read model, which is a change that is looked at again: so what
was decided from an older state is put right, and what rests on the segment follows.

Nothing is recorded twice, whoever decides it and how often: each transition of a subject in a
segment has an ordinal, and each ordinal is stored once. Where a definition is new, the calendar
moves on, or read models were made anew, whole segments are swept, some partitions at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Protocol
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import OperationalError

from domain.definitions import DefinitionId
from domain.dependencies import ACTIVITY, SEEN, Fact
from domain.errors import Refusal
from domain.events import (
    Cause,
    OfDay,
    OfEvent,
    OfRebuild,
    SegmentEntered,
    SegmentLeft,
    SegmentTransition,
)
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.periods import Moment
from projections import projector, ways
from projections.changes import Event, Facts, Id, unpacked
from projections.differences import Rule, Rules, read_rules, signature

NAME = "main"
POLL_SECONDS = 0.05
NOTES_A_STEP = 32
SWEPT_PARTITIONS = 32
"""That a sweep takes at a time."""

BEGIN = sa.text("""
INSERT INTO views.deciding (decider, waits_for, swept_day) VALUES (:name, :heads, :today)
ON CONFLICT DO NOTHING""")

# Locked while anything is decided: emptying the read models waits for it.
STATE = sa.text("SELECT waits_for, swept_day FROM views.deciding WHERE decider = :name FOR SHARE")

STATE_ALONE = sa.text("""
SELECT waits_for, swept_day FROM views.deciding WHERE decider = :name FOR UPDATE""")

REACHED = sa.text("""
SELECT count(*) = 0 FROM unnest(CAST(:positions AS bigint[])) WITH ORDINALITY AS w(position, n)
LEFT JOIN views.checkpoints c ON c.projector = :projector AND c.log_partition = w.n - 1
WHERE coalesce(c.position, 0) < w.position""")

SETTLE = sa.text("UPDATE views.deciding SET waits_for = NULL WHERE decider = :name")

MOVE_DAY = sa.text("UPDATE views.deciding SET swept_day = :today WHERE decider = :name")

FORGET_NOTES = sa.text("DELETE FROM views.changes_due")

TAKE_NOTES = sa.text("""
SELECT id, changes FROM views.changes_due LIMIT :limit FOR UPDATE SKIP LOCKED""")

DELETE_NOTES = sa.text("DELETE FROM views.changes_due WHERE id = ANY(:ids)")

SWEEP = sa.text("""
INSERT INTO views.segment_sweeps (segment, cause, next_partition)
SELECT segment, :cause, 0 FROM unnest(CAST(:segments AS uuid[])) AS w(segment)
ON CONFLICT (segment) DO UPDATE SET next_partition = 0, waits_for = NULL""")

TAKE_SWEEP = sa.text("""
SELECT segment, cause, next_partition FROM views.segment_sweeps
WHERE waits_for IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED""")

TAKE_SWEPT = sa.text("""
SELECT segment, waits_for FROM views.segment_sweeps
WHERE waits_for IS NOT NULL FOR UPDATE SKIP LOCKED""")

MOVE_SWEEP = sa.text("""
UPDATE views.segment_sweeps SET next_partition = :next, waits_for = :heads
WHERE segment = :segment""")

END_SWEEP = sa.text("DELETE FROM views.segment_sweeps WHERE segment = :segment")

log = structlog.get_logger()
_cause: msgspec.msgpack.Decoder[Cause] = msgspec.msgpack.Decoder(Cause)
_encode = msgspec.msgpack.Encoder().encode


class Heads(Protocol):
    """What a decider asks of the log."""

    def heads(self, partitions: Sequence[int]) -> dict[int, int]: ...


class Recorder(Protocol):
    """Appends transitions to their subjects' streams, each once; what is erased is left out."""

    def record(
        self, transitions: Sequence[tuple[SubjectKind, SubjectId, SegmentTransition]], at: datetime
    ) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


class Decider:
    """One worker. Run it in threads or in processes of its own, as many as there is work for."""

    def __init__(
        self,
        *,
        log: Heads,
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

    def run(self, stop: threading.Event) -> None:
        """Looks at what changes until told to stop."""
        self._repeat(self.step, stop)

    def run_sweeps(self, stop: threading.Event) -> None:
        """Decides whole segments anew where that is due, until told to stop. Apart from `run`, so
        that what changes does not wait for it."""
        self._repeat(self.sweep, stop)

    def _repeat(self, step: Callable[[], int], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if not step():
                    stop.wait(POLL_SECONDS)
            except (OperationalError, psycopg.OperationalError, TimeoutError, Refusal) as error:
                log.warning("decider.waits", error=type(error).__name__)
                stop.wait(1.0)
            except Exception as error:
                log.error("decider.failed", error=type(error).__name__)
                stop.wait(1.0)

    def step(self) -> int:
        """Looks at some of what changed; returns how many batches of the projector it was."""
        moment = self._moment()
        if not self._is_settled(moment):
            return 0
        with self._queries.begin() as conn:
            if not self._may_decide(conn):
                return 0
            notes = conn.execute(TAKE_NOTES, {"limit": NOTES_A_STEP}).all()
            if not notes:
                return 0
            rules = self._look_up(conn)
            due = _due(conn, rules, [changes for _, changes in notes])
            found = rules.differing(
                conn,
                moment,
                [(rules.by_id[id], [UUID(bytes=one) for one in due[id]]) for id in due],
            )
            self._record(
                (rule, subject, ordinal, OfEvent(*due[rule.id][Id(subject.bytes)]))
                for rule, subject, ordinal in found
            )
            conn.execute(DELETE_NOTES, {"ids": [id for id, _ in notes]})
        return len(notes)

    def sweep(self) -> int:
        """Brings one sweep on; returns 0 where none is due."""
        moment = self._moment()
        if not self._is_settled(moment):
            return 0
        with self._queries.begin() as conn:
            if not self._may_decide(conn):
                return 0
            self._end_sweeps(conn)
            row = conn.execute(TAKE_SWEEP).one_or_none()
            if row is None:
                return 0
            rules = self._look_up(conn)
            rule, cause = rules.by_id.get(row.segment), _cause.decode(row.cause)
            following = row.next_partition + SWEPT_PARTITIONS
            if rule is not None:
                some = range(row.next_partition, following)
                self._record(
                    (*found, cause) for found in rules.differing_in(conn, rule, moment, some)
                )
            is_last = following >= LOG_PARTITIONS
            conn.execute(
                MOVE_SWEEP,
                {
                    "segment": row.segment,
                    "next": min(following, LOG_PARTITIONS),
                    "heads": self._heads() if is_last else None,
                },
            )
        return 1

    def _end_sweeps(self, conn: sa.Connection) -> None:
        """A sweep is over when the read models show what it had recorded."""
        for segment, positions in conn.execute(TAKE_SWEPT).all():
            if _reached(conn, positions):
                conn.execute(END_SWEEP, {"segment": segment})

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
                conn.execute(SWEEP, {"segments": list(rules.by_id), "cause": _encode(OfRebuild())})
                conn.execute(SETTLE, {"name": NAME})
            if row.swept_day < today:
                conn.execute(
                    SWEEP, {"segments": rules.asking_the_calendar, "cause": _encode(OfDay(today))}
                )
                conn.execute(MOVE_DAY, {"name": NAME, "today": today})
        return True

    def _look_up(self, conn: sa.Connection) -> Rules:
        now = signature(conn)
        if self._rules[0] != now:
            self._rules = (now, read_rules(conn))
        return self._rules[1]

    def _record(self, found: Iterable[tuple[Rule, UUID, int, Cause]]) -> None:
        transitions: list[tuple[SubjectKind, SubjectId, SegmentTransition]] = []
        for rule, subject, last, cause in found:
            kind = SegmentLeft if last % 2 else SegmentEntered
            transition = kind(rule.id, last + 1, rule.version, cause)
            transitions.append((rule.kind, SubjectId(subject), transition))
        if transitions:
            self._recorder.record(transitions, self._clock())


def _add(there: dict[Id, Event], more: dict[Id, Event]) -> None:
    """Keeps the newest event of each subject; of two partitions, whose order nobody knows, the
    one that was looked at last."""
    for subject, event in more.items():
        before = there.get(subject)
        if before is None or before[0] != event[0] or before[1] < event[1]:
            there[subject] = event


def _facts(fact: Fact) -> tuple[Fact, ...]:
    """A fact, and what else it says: whoever did something was seen."""
    return (fact, Fact(fact.kind, SEEN)) if fact.what == ACTIVITY else (fact,)


def _move_to_survivors(conn: sa.Connection, changed: Facts) -> None:
    """Has those that were merged since looked at as the subjects that they live on in."""
    asked = {one for subjects in changed.values() for one in subjects}
    found = ways.survivors(conn, [UUID(bytes=one) for one in asked]) if asked else {}
    for loser, survivor in found.items():
        for subjects in changed.values():
            event = subjects.pop(Id(loser.bytes), None)
            if event is not None:
                _add(subjects, {Id(survivor.bytes): event})


def _reached(conn: sa.Connection, positions: Sequence[int]) -> bool:
    asked = {"positions": list(positions), "projector": projector.NAME}
    return bool(conn.scalar(REACHED, asked))


def _due(
    conn: sa.Connection, rules: Rules, notes: Iterable[bytes]
) -> dict[DefinitionId, dict[Id, Event]]:
    """The segments to look at, each with the subjects, and the events that are the reason."""
    changed: Facts = {}
    for note in notes:
        for fact, subjects in unpacked(note):
            for said in _facts(fact):
                if rules.resting_on(said):
                    _add(changed.setdefault(said, {}), subjects)
    _move_to_survivors(conn, changed)
    due: dict[DefinitionId, dict[Id, Event]] = {}
    over: dict[tuple[str, ...], set[UUID]] = {}
    for fact, subjects in changed.items():
        for rule, way in rules.resting_on(fact):
            if way:
                over.setdefault(way, set()).update(UUID(bytes=one) for one in subjects)
            else:
                _add(due.setdefault(rule.id, {}), subjects)
    reached = {way: ways.reached_by(conn, way, subjects) for way, subjects in over.items()}
    for fact, subjects in changed.items():
        for rule, way in rules.resting_on(fact):
            if way:
                there = due.setdefault(rule.id, {})
                for one, event in subjects.items():
                    there_too = reached[way][UUID(bytes=one)]
                    _add(there, {Id(target.bytes): event for target in there_too})
    return {id: subjects for id, subjects in due.items() if subjects}
