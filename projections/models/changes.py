"""Read model: the changes of each batch, for the process manager: facts, subjects, and the event.

The projector writes it in its own transaction, so that each change is decided about;
`projections.deciding.process_manager` reads and deletes it. It holds names and ids, no values.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Sequence
from typing import ClassVar, NewType

import msgspec
import psycopg

from domain.events.decisions import (
    DecisionEvent,
    HealthChanged,
    ScoreChanged,
    SegmentTransition,
    StageTransition,
)
from domain.events.definitions import ListChange
from domain.events.payloads import (
    Absorbed,
    Dating,
    Erased,
    Identified,
    IdentitiesReleased,
    MembershipBackdated,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    PropertiesChanged,
    Registered,
    StageReleased,
    StageSet,
    Tracked,
)
from domain.events.recorded import RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.workspace.dependencies import (
    ACTIVITY,
    BY_HAND,
    EVERYTHING,
    HEALTH,
    IDENTITY,
    MEMBERSHIP,
    PROPERTY,
    REGISTERED,
    SCORE,
    SEGMENT,
    SIGNAL,
    STAGE,
    Fact,
    listed,
)
from projections.kernel.batch import Batch

ANY_SEGMENT = "SELECT EXISTS (SELECT FROM views.definitions WHERE family <> 'settings')"

ADD_DUE = "INSERT INTO views.changes_due (id, changes) VALUES (%b, %b)"

NAMING = """
SELECT id, changes FROM views.changes_due
WHERE EXISTS (SELECT FROM unnest(%b::bytea[]) AS s(id) WHERE position(s.id IN changes) > 0)
ORDER BY id FOR UPDATE"""

CHANGE_DUE = "UPDATE views.changes_due SET changes = %b WHERE id = %b"

Id = NewType("Id", bytes)
"""The 16 bytes of a subject's id, which take less memory than the id."""

Event = tuple[int, int]
"""Partition and position of the event."""

Facts = dict[Fact, dict[Id, Event]]

_PLACE = struct.Struct(">hq")
_Stored = list[tuple[Fact, bytes, bytes]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class Changes:
    tables: ClassVar[Sequence[str]] = ("changes_due",)

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        # The first sweep of a definition looks at all that came before it.
        if conn.execute(ANY_SEGMENT).fetchone() == (False,):
            return
        facts = facts_of(batch)
        if facts:
            conn.execute(ADD_DUE, (uuid.uuid4(), packed(facts)))

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """`apply` notes merges, as it does erasures."""

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        """`apply` notes erasures. Deletes the subjects' activity at once: names of activity may
        be about them."""
        gone = {Id(subject.bytes) for subject in subjects}
        for id, changes in conn.execute(NAMING, (list(gone),), binary=True).fetchall():
            left: Facts = {}
            for fact, noted in unpacked(changes):
                is_named = fact.what == ACTIVITY
                remaining = {
                    subject: at
                    for subject, at in noted.items()
                    if not is_named or subject not in gone
                }
                if remaining:
                    left[fact] = remaining
            conn.execute(CHANGE_DUE, (packed(left), id))


def packed(facts: Facts) -> bytes:
    return _encode(
        [
            (
                fact,
                b"".join(subjects),
                b"".join(_PLACE.pack(*event) for event in subjects.values()),
            )
            for fact, subjects in facts.items()
        ]
    )


def unpacked(changes: bytes) -> Iterator[tuple[Fact, dict[Id, Event]]]:
    for fact, ids, places in _decode(changes):
        events = _PLACE.iter_unpack(places)
        yield (
            fact,
            {Id(ids[16 * n : 16 * n + 16]): (event[0], event[1]) for n, event in enumerate(events)},
        )


def decided(kind: SubjectKind, decision: DecisionEvent) -> Fact:
    """The fact that a decision changes; scores, signals and segments by id."""
    match decision:
        case StageTransition():
            return Fact(kind.value, STAGE)
        case HealthChanged():
            return Fact(kind.value, HEALTH)
        case ScoreChanged(definition):
            return Fact(kind.value, SCORE, (str(definition),))
        case SegmentTransition(definition):
            return Fact(kind.value, SEGMENT, (str(definition),))
        case _:
            return Fact(kind.value, SIGNAL, (str(decision.definition),))


def facts_of(batch: Batch) -> Facts:
    """The facts that a batch changes, each subject with its newest event."""
    facts: Facts = {}

    def note(fact: Fact, subject: SubjectId, row: RecordedEvent) -> None:
        facts.setdefault(fact, {})[Id(subject.bytes)] = (row.log_partition, row.position)

    for event in batch.opened:
        row, payload, part = event.row, event.payload, event.account_part
        activity = ACTIVITY_OF_TOPIC.get(row.topic)
        if activity is None:
            continue
        at = (row.log_partition, row.position)
        if isinstance(payload, Tracked):
            fact = Fact(
                row.topic[: row.topic.index(".")], ACTIVITY, (activity, payload.activity.name)
            )
            subject = batch.survivors.get(row.stream, row.stream)
            facts.setdefault(fact, {})[Id(subject.bytes)] = at
        if part is not None and row.account is not None:
            fact = Fact("account", ACTIVITY, (activity, part.name))
            subject = batch.survivors.get(row.account, row.account)
            facts.setdefault(fact, {})[Id(subject.bytes)] = at
    for kind, _, subject, account, event in batch.changes:
        row = event.row
        if account is None and isinstance(event.payload, Dating):
            note(Fact(kind.value, REGISTERED), subject, row)
        match event.payload:
            case Registered() | Absorbed() | Erased():
                note(Fact(kind.value, EVERYTHING), subject, row)
            case MergedInto(survivor):
                note(Fact(kind.value, EVERYTHING), survivor, row)
            case Identified() | IdentitiesReleased():
                note(Fact(kind.value, IDENTITY), subject, row)
            case PropertiesChanged(values, deleted):
                for name in (*values, *deleted):
                    note(Fact(kind.value, PROPERTY, (name,)), subject, row)
            case DecisionEvent():
                note(decided(kind, event.payload), subject, row)
            case StageSet() | StageReleased():
                note(Fact(kind.value, BY_HAND), subject, row)
            case (
                MembershipStarted()
                | MembershipBackdated()
                | MembershipChanged()
                | MembershipEnded()
            ):
                note(Fact(kind.value, MEMBERSHIP), subject, row)
            case _:
                pass
        if account is not None:
            # Also of an erased user's membership: the account still has it.
            note(Fact("account", MEMBERSHIP), account, row)
    for event in batch.definitions:
        if isinstance(event.payload, ListChange):
            fact = listed(event.row.stream)
            for subject in event.payload.subjects:
                note(fact, subject, event.row)
    return facts
