"""A data folder from before days were kept as days: its events, states and read models."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from domain.commands import Change, Join
from domain.conditions import language as ask
from domain.conditions.counters import counter_of
from domain.errors import NotReady
from domain.events.payloads import PropertiesChanged
from domain.identity import SubjectKind
from domain.properties import parse_instant
from infra import migrations
from infra.bootstrap.annals import Annals
from tests.projections.counting import need
from tests.projections.read_models import (
    NOON,
    account,
    dump,
    forget_read_models,
    found,
    owner,
    project,
    user,
    write,
)

[MIGRATION] = Path(migrations.__file__).parent.glob("versions/*_days.py")

# As the projector of before wrote days.
AS_THEY_WERE = """
UPDATE views.contacts
SET properties = properties || '{"born": "1980-01-01T00:00:00Z"}',
    sent = CASE WHEN sent ? 'left' THEN sent || '{"left": "2024-02-01T00:00:00Z"}' ELSE sent END
WHERE properties ? 'born';
UPDATE views.contacts SET properties = properties || '{"left": "2024-02-01T00:00:00Z"}'
WHERE properties ? 'left';
UPDATE views.contacts SET properties = properties || '{"renews": "2024-12-31T00:00:00Z"}'
WHERE properties ? 'renews';
UPDATE views.memberships SET properties = properties || '{"invited": "2024-03-01T00:00:00Z"}';
"""


@contextmanager
def before() -> Iterator[None]:
    """Events are written as they were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domain.properties.parse_date", parse_instant)
        patch.setattr("infra.keys.sealing.WITH_VALUES", ())
        yield


def some(annals: Annals) -> None:
    text = {"note": "x", "code": "free text"}
    values = {"born": "1980-01-01", "met": "2024-05-01T09:30:00+02:00", "left": "2024-02-01"}
    write(
        annals,
        Change(SubjectKind.USER, user("ada"), text, NOON),
        Change(SubjectKind.USER, user("ben"), text, NOON),
        Change(SubjectKind.USER, user("ada"), {**values, "note": "2024-01-01T00:00:00Z"}, NOON),
        Change(SubjectKind.USER, user("ben"), {"code": "2024-01-01"}, NOON),
        Join(
            user("ada"), account("acme"), {"renews": "2024-12-31"}, {"invited": "2024-03-01"}, NOON
        ),
    )


def properties(annals: Annals, name: str) -> dict[str, object]:
    with annals.views.connection() as conn:
        select = "SELECT properties FROM views.contacts WHERE subject = %s"
        row = conn.execute(select, (found(annals, user(name)),)).fetchone()
    assert row is not None
    return dict(row[0])


def test_midnights_of_before_are_days_in_events_and_in_the_read_models(
    annals: Annals, database_url: str
) -> None:
    with before():
        some(annals)
    project(annals)
    ada = {
        "born": "1980-01-01",
        "met": "2024-05-01T07:30:00Z",
        "left": "2024-02-01",
        "note": "2024-01-01T00:00:00Z",
        "code": "free text",
    }
    assert properties(annals, "ada") == ada
    rebuilt = dump(database_url)
    with owner(database_url) as conn:
        conn.execute(AS_THEY_WERE)
        assert dump(database_url) != rebuilt
        for statements in ("CONTACTS", "MEMBERSHIPS", "ANEW"):
            conn.execute(runpy.run_path(str(MIGRATION))[statements])
    assert dump(database_url) == rebuilt
    forget_read_models(database_url)
    project(annals)
    assert dump(database_url) == rebuilt


def test_a_day_of_before_that_is_sent_again_changes_nothing(annals: Annals) -> None:
    with before():
        some(annals)
    ada = found(annals, user("ada"))
    versions = {ada: 0}
    known = len(annals.log.read_streams(versions)[ada])
    write(annals, Change(SubjectKind.USER, user("ada"), {"born": "1980-01-01"}, NOON))
    assert len(annals.log.read_streams(versions)[ada]) == known
    write(annals, Change(SubjectKind.USER, user("ada"), {"born": "1980-01-01T00:00:00Z"}, NOON))
    *_, last = annals.sealer.open_events(annals.log.read_streams(versions)[ada])
    assert last.payload == PropertiesChanged(
        {"born": parse_instant("1980-01-01")}, [], {"born": "1980-01-01"}
    )
    project(annals)
    assert properties(annals, "ada")["born"] == "1980-01-01T00:00:00Z"


def test_counters_that_compare_dates_are_counted_anew_and_the_others_stay(
    annals: Annals, database_url: str
) -> None:
    asking = [
        ask.Did("event", "paid", where=[ask.MetadataIs("due", test)])
        for test in (
            ask.Before("2024-05-13"),
            ask.After("2024-05-13"),
            ask.Contains('"op":"before"'),
        )
    ]
    with annals.queries.connect() as conn:
        for condition in asking:
            with suppress(NotReady):
                need(conn, condition)
    with owner(database_url) as conn:
        conn.execute("UPDATE views.counters SET state = 'ready'")
        conn.execute(runpy.run_path(str(MIGRATION))["ANEW"])
        states = dict(conn.execute("SELECT id, state FROM views.counters").fetchall())
    ids = [counter_of(condition).id for condition in asking]
    assert [states[id] for id in ids] == ["waiting", "waiting", "ready"]
