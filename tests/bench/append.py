"""Appending: batches of a thousand, and single events from 32 callers at once."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from random import Random

from api.demo import WIKIPEDIA_FILE, wikipedia
from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import Tracked
from domain.events.recorded import RecordedEvent, SealedEvent
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.bootstrap.annals import Annals
from tests.bench.figures import Job, Report, in_turns
from tests.bench.peers import BareCopy, LibraryRecorder, stored_events

BATCH = 1_000
BATCHES_A_ROUND = 20
SUBJECTS = 20_000
CALLERS = 32
SINGLES = 100
STATE_BYTES = 118
"""What the sealed payload of such an event has."""


def run(annals: Annals, conninfo: str, report: Report, *, rounds: int) -> None:
    subjects = [SubjectId(uuid.uuid4()) for _ in range(SUBJECTS)]
    annals.keys.refresh()
    for start in range(0, SUBJECTS, 5_000):
        annals.keys.fetch_or_make({one.int for one in subjects[start : start + 5_000]})
    _batches(annals, conninfo, report, subjects, rounds)
    _singles(annals, conninfo, report, subjects, rounds)


def _batches(
    annals: Annals, conninfo: str, report: Report, subjects: list[SubjectId], rounds: int
) -> None:
    bare, library = BareCopy(conninfo), LibraryRecorder(conninfo)
    real, even = _as_in_the_sample(subjects, annals.settings.demo_data), evenly(subjects)

    def drawn(
        draw: Iterator[SubjectId], make: Callable[[SubjectId], object]
    ) -> Callable[[], list[list[object]]]:
        return lambda: [
            [make(subject) for subject in islice(draw, BATCH)] for _ in range(BATCHES_A_ROUND)
        ]

    def all_of(append: Callable[[list[object]], Sequence[object] | int]) -> Callable[..., int]:
        def do(batches: list[list[object]]) -> int:
            for batch in batches:
                append(batch)
            return BATCH * BATCHES_A_ROUND

        return do

    log, sealer = annals.log, annals.sealer

    def append_sealed(batch: list[Event]) -> Sequence[object]:
        return log.append(sealer.sealing(batch))

    jobs = {
        "sealed": Job(drawn(real, event), all_of(append_sealed)),
        "sealed.even": Job(drawn(even, event), all_of(append_sealed)),
        "unsealed": Job(drawn(real, _row), all_of(log.append)),
        "copy": Job(drawn(real, _recorded_row), all_of(bare.append)),
        "eventsourcing": Job(
            lambda: [stored_events(BATCH, STATE_BYTES) for _ in range(BATCHES_A_ROUND)],
            all_of(library.append),
        ),
    }
    rates = in_turns(rounds, jobs)
    for bench in ("sealed", "sealed.even", "unsealed"):
        peers = {name: rates[name] for name in (bench, "copy", "eventsourcing")}
        report.rates(f"append.batch.{bench}", peers)
    bare.close()
    library.close()


def _singles(
    annals: Annals, conninfo: str, report: Report, subjects: list[SubjectId], rounds: int
) -> None:
    library = LibraryRecorder(conninfo, connections=CALLERS)
    random = Random(1)

    def prepared(make: Callable[[], object]) -> Callable[[], list[list[object]]]:
        return lambda: [[make() for _ in range(SINGLES)] for _ in range(CALLERS)]

    def from_all_callers(append: Callable[[object], object]) -> Callable[[list[list[object]]], int]:
        def work(mine: list[object]) -> None:
            for one in mine:
                append(one)

        def do(work_of_each: list[list[object]]) -> int:
            threads = [threading.Thread(target=work, args=(mine,)) for mine in work_of_each]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return CALLERS * SINGLES

        return do

    log, sealer = annals.log, annals.sealer
    jobs = {
        "annals": Job(
            prepared(lambda: event(random.choice(subjects))),
            from_all_callers(lambda one: log.append(sealer.sealing([one]))),
        ),
        "eventsourcing": Job(
            prepared(lambda: stored_events(1, STATE_BYTES)), from_all_callers(library.append)
        ),
    }
    report.rates("append.single.32", in_turns(rounds, jobs))
    library.close()


def _as_in_the_sample(subjects: list[SubjectId], folder: Path) -> Iterator[SubjectId]:
    """In the order in which people edit Wikipedia, in the sample of a day: of a thousand edits that
    follow one another, half are by somebody else each. Over and over."""
    path = folder / WIKIPEDIA_FILE
    if not path.exists():
        raise SystemExit(f"there is no {path}: name its folder by ANNALS_DEMO_DATA")
    edits = (one for one in wikipedia.messages(path) if one["type"] == "track")
    numbers: dict[object, int] = {}
    order = [numbers.setdefault(one["userId"], len(numbers)) for one in edits]
    return cycle([subjects[n] for n in order])


def evenly(subjects: list[SubjectId]) -> Iterator[SubjectId]:
    """The hardest draw: nearly every event of a batch has a subject, and so a key, of its own."""
    random = Random(1)
    while True:
        yield random.choice(subjects)


def event(subject: SubjectId) -> Event:
    metadata = {"amount": 1_250, "plan": "business", "seats": 12, "trial": True}
    activity = Activity(ActivityKind.EVENT, "invoice sent", metadata)
    return Event(SubjectKind.USER, subject, None, datetime.now(UTC), Tracked(activity))


def _row(subject: SubjectId) -> SealedEvent:
    state, topic = os.urandom(STATE_BYTES), "user.event_tracked"
    return SealedEvent(subject, None, uuid.uuid4(), None, topic, 1, datetime.now(UTC), state, None)


def _recorded_row(subject: SubjectId) -> RecordedEvent:
    row, at = _row(subject), datetime.now(UTC)
    return RecordedEvent(
        *(getattr(row, name) for name in row.__struct_fields__),
        log_partition(subject),
        0,
        at,
        bytes(32),
    )
