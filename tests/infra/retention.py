"""What tests do with retention: write activity of three months, end a run, read the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domain.activity import Activity, ActivityKind
from domain.commands import Change, Join, Track
from domain.definitions.retention import Counts
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from tests.projections.read_models import (
    account,
    event,
    project,
    user,
    write,
)
from tests.serving import until

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
MAY = datetime(2024, 5, 31, 23, 30, tzinfo=UTC)
JULY = datetime(2024, 7, 4, 12, tzinfo=UTC)


def end(annals: Annals, before: datetime = JUNE, counts: Counts = Counts.KEEP) -> None:
    """A run to its end, with the read models up to date."""
    project(annals)
    annals.retention.begin(before, counts, by="a test")
    until(lambda: annals.retention.go_on() is None)


def recorded(annals: Annals, topic: str = "user.event_tracked") -> list[OpenedEvent]:
    annals.sealer.refresh()
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000)
    return [event for event in annals.sealer.open_rows(rows) if event.row.topic == topic]


def write_some(annals: Annals) -> None:
    write(
        annals,
        Change(SubjectKind.USER, user("ann"), {"name": "Ann"}, MAY),
        Join(user("ann"), account("acme"), {"plan": "pro"}, {"role": "owner"}, MAY),
        Track(user("ann"), account("acme"), event("login"), MAY - timedelta(days=40)),
        Track(user("ann"), account("acme"), event("login"), MAY),
        Track(user("ann"), (), (Activity(ActivityKind.EVENT, "paid", {"n": 1}),), MAY),
        Track(user("bob"), (), event("login"), MAY),
        Track((), account("acme"), event("synced"), MAY),
        Track(user("ann"), account("acme"), event("login"), JUNE),
        Track(user("ann"), account("acme"), event("login"), JULY),
    )
