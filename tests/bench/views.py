"""One subject with a million events: its 360 view, and pages of its timeline at any depth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from statistics import median

import psycopg
import sqlalchemy as sa

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment
from domain.commands import Change, Request
from domain.definitions.types import Preferred
from domain.events.event import Event
from domain.events.payloads import Payload, PropertiesChanged, Tracked
from domain.identity import Identity, Scheme, SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from projections.kernel.paging import encoded
from projections.queries import contact_view
from projections.queries.overview import overview
from projections.queries.timeline import ALL, Wanted, timeline
from tests.bench.figures import Figure, Report

KIND = SubjectKind.USER
DAYS, NAMES, OTHERS = 400, 40, 2_000
NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
ASKED = 200
"""Times that each page is asked for, beginning at another place."""
BATCH = 5_000
SELDOM, PROPERTY_EVERY, LOOK_EVERY = 20_000, 500, 20

# By hand: a page of sealed rows, with nothing opened and nobody named.
PAGE = """
SELECT * FROM log.events WHERE stream = %s AND occurred_at < %s
ORDER BY occurred_at DESC LIMIT 51"""

Ask = Callable[[sa.Connection, datetime], object]


def run(annals: Annals, url: str, report: Report, *, events: int) -> None:
    subject = _fill(annals, url, report, events)
    places = _places()

    def page(wanted: Wanted = ALL) -> Ask:
        def ask(conn: sa.Connection, at: datetime) -> object:
            there = contact_view.survivor_of(conn, subject)
            contact_view.require(conn, KIND, there)
            return timeline(
                conn,
                annals.timelines,
                annals.sealer,
                KIND,
                contact_view.streams_of(conn, there),
                wanted,
                cursor=encoded("timeline:newest", at, 0, 0),
                limit=50,
            )

        return ask

    def view(conn: sa.Connection, _: datetime) -> object:
        there = contact_view.survivor_of(conn, subject)
        return contact_view.view(conn, KIND, there, renewal_property="renewal_date")

    def look(conn: sa.Connection, _: datetime) -> object:
        moment = Moment(NOW, UTC)
        return overview(conn, annals.timelines, annals.sealer, KIND, subject, Preferred(), moment)

    report.add(_figure("view.million", _times(annals, view, places["first"])))
    report.add(_figure("view.million.overview", _times(annals, look, places["first"])))
    for depth, at in places.items():
        times = _times(annals, page(), at)
        by_hand = _by_hand(url, subject, at)
        pairs = zip(times, by_hand, strict=True)
        ratio = round(median(own / other for own, other in pairs), 2)
        report.add(
            Figure(f"timeline.deep_page.{depth}", round(median(times), 2), "ms", "SQL", ratio)
        )
        for name, wanted in (
            ("property", Wanted(types=("property",))),
            ("page", Wanted(types=("page",))),
            ("event", Wanted(types=("event",))),
            ("name", Wanted(names=("event 07",))),
            ("seldom", Wanted(names=("seldom",))),
        ):
            report.add(
                _figure(f"timeline.deep_page.{depth}.{name}", _times(annals, page(wanted), at))
            )


def _places() -> dict[str, list[datetime]]:
    """Where pages begin: in the newest, the middle and the oldest hundredth of the timeline."""
    random, whole = Random(3), timedelta(days=DAYS)
    return {
        depth: [NOW - whole * (start + random.random() / 100) for _ in range(ASKED)]
        for depth, start in (("first", 0), ("middle", 0.5), ("last", 0.985))
    }


def _times(annals: Annals, ask: Ask, places: list[datetime]) -> list[float]:
    """In milliseconds, the connection at hand."""
    times = []
    with annals.queries.connect() as conn:
        for at in [*places[:10], *places]:
            started = time.perf_counter()
            ask(conn, at)
            times.append(1_000 * (time.perf_counter() - started))
    return times[10:]


def _by_hand(url: str, subject: SubjectId, places: list[datetime]) -> list[float]:
    times = []
    with psycopg.connect(url, autocommit=True) as conn:
        for at in [*places[:10], *places]:
            started = time.perf_counter()
            conn.execute(PAGE, (subject, at), binary=True).fetchall()
            times.append(1_000 * (time.perf_counter() - started))
    return times[10:]


def _figure(bench: str, times: list[float]) -> Figure:
    return Figure(bench, round(median(times), 2), "ms")


def _fill(annals: Annals, url: str, report: Report, events: int) -> SubjectId:
    """A subject with so many events, a tenth as many of others, and the read models of all."""
    who = [(Identity(Scheme.USER_ID, f"user-{n}"),) for n in range(OTHERS + 1)]
    for start in range(0, len(who), 500):
        annals.handler.handle(
            [
                Request(Change(KIND, one, {"name": "Somebody", "plan": "pro"}, NOW))
                for one in who[start : start + 500]
            ]
        )
    found = [annals.subject_lookup.find(one[0]) for one in who]
    subject, *others = [one for one in found if one is not None]
    remaining = _events(subject, others, events)
    while batch := list(islice(remaining, BATCH)):
        annals.log.append(annals.sealer.sealing(batch))
    projector = annals.projector()
    while projector.step():
        pass
    projector.release()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
    report.note(f"{events:,} events of one user, {events // 10:,} of {OTHERS:,} others")
    return subject


def _events(subject: SubjectId, others: list[SubjectId], count: int) -> Iterator[Event]:
    random = Random(7)
    step = timedelta(days=DAYS) / count
    for n in range(count):
        at = NOW - step * (count - n)
        yield Event(KIND, subject, None, at, _payload(random, n))
        if n % 10 == 0:
            yield Event(KIND, random.choice(others), None, at, _payload(random, 1))


def _payload(random: Random, n: int) -> Payload:
    if n % SELDOM == 0:
        return Tracked(Activity(ActivityKind.EVENT, "seldom"))
    if n % PROPERTY_EVERY == 0:
        return PropertiesChanged({"seats": n}, [], {"seats": n - PROPERTY_EVERY})
    if n % LOOK_EVERY == 0:
        return Tracked(Activity(ActivityKind.PAGE, f"acme.example/{random.randrange(50)}"))
    metadata = {"amount": n, "plan": "business"}
    name = f"event {random.randrange(NAMES):02}"
    return Tracked(Activity(ActivityKind.EVENT, name, dict(metadata)))
