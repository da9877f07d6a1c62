"""Projecting: all read models from the log of a made-up company, on one core; and their rebuild."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict

from api.demo import company
from api.intake import calls, segment
from domain.identity import LOG_PARTITIONS
from infra.bootstrap.annals import Annals
from tests.bench.figures import Figure, Report, median

COMPANY = {"users": 5_000, "accounts": 300, "until": datetime(2026, 5, 13, tzinfo=UTC)}
LIBRARY_EVENTS = 2_000


def run(annals: Annals, conninfo: str, report: Report, *, events: int) -> None:
    recorded = _fill(annals, report, events)
    rates = []
    projector = annals.projector()
    started = time.perf_counter()
    done = _project_all(projector)
    rates.append(done / (time.perf_counter() - started))
    assert done >= recorded
    library = _library(conninfo)
    report.add(Figure("project.all", round(median(rates), 1), "1/s", "eventsourcing",
                      round(median(rates) / library, 1)))  # fmt: skip
    report.note(f"project.all: {median(rates):,.0f}/s, eventsourcing {library:,.0f}/s")
    started = time.perf_counter()
    projector.start_over()
    done = _project_all(projector)
    seconds = time.perf_counter() - started
    theirs = done / library
    report.add(
        Figure("rebuild.all", round(seconds, 2), "s", "eventsourcing", round(seconds / theirs, 3))
    )
    report.note(f"rebuild.all: {done:,} events in {seconds:.1f} s, eventsourcing {theirs:,.0f} s")
    projector.release()


def _fill(annals: Annals, report: Report, events: int) -> int:
    before = sum(annals.log.heads(range(LOG_PARTITIONS)).values())
    received_at = datetime.now(UTC)
    requests = []
    for message in company.messages(events=events, **COMPANY):
        call = msgspec.convert(message, segment.Message)
        requests.append(calls.request(call, received_at, received_at))
    for start in range(0, len(requests), 2_000):
        annals.handler.handle(requests[start : start + 2_000])
    recorded = sum(annals.log.heads(range(LOG_PARTITIONS)).values()) - before
    report.note(f"{len(requests):,} messages of a company made {recorded:,} events")
    return recorded


def _project_all(projector: Any) -> int:
    done = 0
    while batch := projector.step():
        done += batch
    return done


class Subject(Aggregate):
    """As the library's examples have it."""

    @event("Registered")
    def __init__(self) -> None:
        self.count = 0

    @event("Tracked")
    def track(self, name: str) -> None:
        self.count += 1


class Counts(PostgresTrackingRecorder):
    """One read model of the library's kind: how often each subject did each thing."""

    def create_table(self) -> None:
        super().create_table()
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS bench_counts"
                " (subject uuid, name text, count bigint, PRIMARY KEY (subject, name))"
            )

    def count(self, subject: uuid.UUID, name: str, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(
                "INSERT INTO bench_counts AS c VALUES (%s, %s, 1)"
                " ON CONFLICT (subject, name) DO UPDATE SET count = c.count + 1",
                (subject, name),
            )


class Counting(Projection[Counts]):
    name = "counting"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        name = getattr(domain_event, "name", "registered")
        self.view.count(domain_event.originator_id, name, tracking)


def _library(conninfo: str) -> float:
    """Events a second through the library's own runner."""
    parts = conninfo_to_dict(conninfo)
    env = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": str(parts["port"]),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": "none",
    }
    application = Application[uuid.UUID](env=env)
    made = []
    for _ in range(LIBRARY_EVENTS // 20):
        subject = Subject()
        for n in range(19):
            subject.track(f"deed {n}")
        made.append(subject)
    last = application.save(*made)[-1].notification.id
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=Application, projection_class=Counting, view_class=Counts, env=env
    ) as runner:
        runner.wait(last, timeout=120)
    seconds = time.perf_counter() - started
    application.close()
    return LIBRARY_EVENTS / seconds
