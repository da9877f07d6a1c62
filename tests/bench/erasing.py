"""Erasing: whether a long history costs more than a short one, ten thousand while events stream in,
and what sealing, which makes it possible, costs at every append."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from random import Random
from statistics import median

import msgspec

from domain.activity import Activity, ActivityKind
from domain.commands import Change, Request, Stored, Track
from domain.conditions.language import AtLeast, PropertyIs
from domain.definitions.types import DefinitionId, Segment
from domain.erasure.erasure import Erasure
from domain.erasure.order import ErasureOrder, ErasureScope
from domain.events.event import Event
from domain.events.recorded import SealedEvent
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from tests.bench import append
from tests.bench.figures import Figure, Job, Report, in_turns
from tests.bench.stream import EDITOR, settle, user, working

USER = SubjectKind.USER
SHORT = 10
"""Events of the subject that the long one is held against."""

BATCH = 1_000
EVENTS_A_SECOND = 2_000
STREAMED = 250
KEPT = "kept on"
SUBJECTS_TO_SEAL = 20_000
BATCHES_A_ROUND = 20
MINUTES = 10


def seal_cost(annals: Annals, report: Report, *, rounds: int) -> None:
    """The row `seal.cost`: batches of the same events, encoded and appended, sealed and not. What
    is not sealed cannot be opened either: nothing is projected of this log."""
    subjects = [SubjectId(uuid.uuid4()) for _ in range(SUBJECTS_TO_SEAL)]
    annals.keys.refresh()
    for start in range(0, len(subjects), 5_000):
        annals.keys.fetch_or_make({one.int for one in subjects[start : start + 5_000]})
    drawn = append.evenly(subjects)

    def batches() -> list[list[Event]]:
        return [[append.event(one) for one in islice(drawn, BATCH)] for _ in range(BATCHES_A_ROUND)]

    def all_of(rows: Callable[[list[Event]], object]) -> Callable[[list[list[Event]]], int]:
        def do(work: list[list[Event]]) -> int:
            for batch in work:
                annals.log.append(rows(batch))
            return BATCH * BATCHES_A_ROUND

        return do

    jobs = {
        "sealed": Job(batches, all_of(annals.sealer.sealing)),
        "unsealed": Job(batches, all_of(lambda batch: [_unsealed(one) for one in batch])),
    }
    report.rates("seal.cost", in_turns(rounds, jobs))


def _unsealed(event: Event) -> SealedEvent:
    state = msgspec.msgpack.encode(event.payload)
    at, id = event.occurred_at, uuid.uuid4()
    return SealedEvent(event.stream, None, id, None, event.topic, 1, at, state, None)


def one(annals: Annals, report: Report, *, events: int, rounds: int) -> None:
    """The row `erase.one`: from the request to the answer that all of it is unreadable, in ms."""
    taken: dict[int, list[float]] = {events: [], SHORT: []}
    warm = _subject_with(annals, "to warm up", SHORT)
    annals.erasure_requests.take_on(_order(ErasureScope.ONE, [warm]), by=str(EDITOR))
    for n in range(min(rounds, 3)):
        for count, seconds in taken.items():
            subject = _subject_with(annals, f"{count} events, turn {n}", count)
            begun = time.perf_counter()
            erasure = annals.erasure_requests.take_on(
                _order(ErasureScope.ONE, [subject]), by=str(EDITOR)
            )
            seconds.append(time.perf_counter() - begun)
            assert erasure.unreadable_at is not None
            report.note(f"erase.one: {count:,} events in {seconds[-1] * 1e3:,.1f} ms")
    ratio = median(a / b for a, b in zip(taken[events], taken[SHORT], strict=True))
    value = round(median(taken[events]) * 1e3, 1)
    report.add(Figure("erase.one", value, "ms", f"one with {SHORT} events", round(ratio, 2)))


def _subject_with(annals: Annals, name: str, events: int) -> SubjectId:
    (identity,) = user(0)
    identity = msgspec.structs.replace(identity, value=name)
    annals.handler.handle([Request(Change(USER, (identity,), {"plan": "pro"}, datetime.now(UTC)))])
    subject = annals.subject_lookup.find(identity)
    assert subject is not None
    for start in range(0, events, BATCH):
        batch = [append.event(subject) for _ in range(min(BATCH, events - start))]
        annals.log.append(annals.sealer.sealing(batch))
    return subject


def _order(
    scope: ErasureScope, subjects: list[SubjectId], segment: uuid.UUID | None = None
) -> ErasureOrder:
    return ErasureOrder(scope=scope, kind=USER, subjects=subjects, segment=segment, reason="art-17")


def many(annals: Annals, url: str, report: Report, *, subjects: int) -> None:
    """The rows `erase.10k`: all of a segment, while as many others go on sending."""
    with working(annals.settings.data, url):
        report.note(f"{2 * subjects:,} users come to be known, half of them in a segment")
        _known(annals, 2 * subjects)
        id = DefinitionId(uuid.uuid4())
        segment = Segment(USER, "leaving", PropertyIs("leaves", AtLeast(1)))
        annals.definitions.decide(
            lambda state: editing.make(state, id, segment, EDITOR), datetime.now(UTC)
        )
        settle(annals)
        with annals.views.connection() as conn:
            query = "SELECT subject FROM views.segment_members WHERE segment = %s"
            members = [SubjectId(row[0]) for row in conn.execute(query, (id,))]
        assert len(members) == subjects, len(members)
        with _sending(annals, subjects) as sent, _carrying_on(annals):
            begun = time.perf_counter()
            order = _order(ErasureScope.SEGMENT, members, id)
            erasure = annals.erasure_requests.take_on(order, by=str(EDITOR))
            unreadable = _until(annals, erasure, lambda one: one.unreadable_at is not None) - begun
            forgotten = _until(annals, erasure, lambda one: one.forgotten_at is not None) - begun
            rate = sent[0] / (time.perf_counter() - begun)
        settle(annals)
        _assert_nothing_lost(annals, sent[0], subjects)
    report.note(
        f"erase.10k: unreadable in {unreadable:.1f} s, gone from views in {forgotten:.1f} s"
    )
    report.add(Figure("erase.10k.unreadable", round(unreadable, 2), "s"))
    report.add(Figure("erase.10k.forgotten", round(forgotten, 2), "s"))
    aimed = round(rate / EVENTS_A_SECOND, 2)
    report.add(Figure("erase.10k.intake", round(rate, 1), "1/s", "what is sent", aimed))


def _known(annals: Annals, subjects: int) -> None:
    """Every other one is to leave."""
    now = datetime.now(UTC)
    for start in range(0, subjects, BATCH):
        some = range(start, min(start + BATCH, subjects))
        annals.handler.handle(
            [Request(Change(USER, user(n), {"leaves": n % 2}, now)) for n in some]
        )


@contextmanager
def _sending(annals: Annals, subjects: int) -> Iterator[list[int]]:
    """A steady stream about those who stay; gives how many were taken."""
    stop, sent, chance = threading.Event(), [0], Random(1)

    def send() -> None:
        due = time.perf_counter()
        while not stop.is_set():
            now = datetime.now(UTC)
            deed = (Activity(ActivityKind.EVENT, KEPT),)
            outcomes = annals.handler.handle(
                [
                    Request(Track(user(2 * chance.randrange(subjects)), (), deed, now))
                    for _ in range(STREAMED)
                ]
            )
            sent[0] += sum(isinstance(one, Stored) for one in outcomes)
            due += STREAMED / EVENTS_A_SECOND
            stop.wait(max(0.0, due - time.perf_counter()))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        stop.set()
        sender.join()


@contextmanager
def _carrying_on(annals: Annals) -> Iterator[None]:
    """Erasures go on by themselves, as in a process that serves."""
    stop = threading.Event()
    thread = threading.Thread(target=annals.erasures.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        annals.erasures.wake()
        thread.join()


def _until(annals: Annals, erasure: Erasure, holds: Callable[[Erasure], bool]) -> float:
    """When an erasure is so far."""
    deadline = time.monotonic() + 60 * MINUTES
    while not holds(annals.erasures.record.get(erasure.id)):
        assert time.monotonic() < deadline, "the erasure does not get there"
        time.sleep(0.02)
    return time.perf_counter()


def _assert_nothing_lost(annals: Annals, sent: int, subjects: int) -> None:
    """Those who stay are all there, with all that was taken of them, and nobody else is."""
    with annals.views.connection() as conn:
        counted = conn.execute(
            "SELECT coalesce(sum(d.count), 0) FROM views.activity_days d"
            " JOIN views.names n ON n.id = d.name_id WHERE n.name = %s",
            (KEPT,),
        ).fetchone()
        left = conn.execute(
            "SELECT count(*) FROM views.contacts WHERE properties ? 'leaves'"
        ).fetchone()
    assert counted == (sent,), f"{sent:,} were taken, {counted} are shown"
    assert left == (subjects,), f"{subjects:,} stay, {left} are shown"
