"""Reading ahead changes nothing but the speed; and a fault of ours does not park the log."""

from __future__ import annotations

import psycopg
import pytest

from domain.commands import Request, Track
from infra.bootstrap.annals import Annals
from projections.models.activity_days import ActivityDays
from projections.projector.projector import Projector
from tests.infra.erasures import erase
from tests.projections.read_models import NOON, drain, dump, event, owner, user

PEOPLE = 12


def small_batches(annals: Annals) -> Projector:
    """Several events a batch, many batches: each but the last is read ahead."""
    return Projector(
        log=annals.log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=annals.workspace_now,
        batch_events=8,
    )


def some_logins(annals: Annals) -> None:
    tracked = Track(user("u0"), (), event("login"), NOON)
    annals.handler.handle(
        [
            Request(Track(user(f"u{n % PEOPLE}"), (), tracked.activities, NOON))
            for n in range(5 * PEOPLE)
        ]
    )


def test_an_erasure_reaches_what_was_read_ahead(annals: Annals, database_url: str) -> None:
    some_logins(annals)
    projector = small_batches(annals)
    projector.step()
    for n in range(PEOPLE):
        subject = annals.subject_lookup.find(user(f"u{n}")[0])
        assert subject is not None
        erase(annals, subject)
    drain(projector)
    projector.release()
    with owner(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM views.contacts").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM views.activity_days").fetchone() == (0,)


def test_what_comes_after_nothing_was_read_ahead_is_seen_by_the_next_step(annals: Annals) -> None:
    some_logins(annals)
    projector = small_batches(annals)
    drain(projector)
    annals.handler.handle(
        [Request(Track(user(f"u{n}"), (), event("login"), NOON)) for n in range(4)]
    )
    assert projector.step() == 4  # half of a batch: what follows is read ahead
    ahead = projector._reader._ahead
    assert ahead is not None
    assert not ahead.result().rows
    some_logins(annals)
    assert projector.step() > 0
    projector.release()


def test_starting_over_does_not_use_what_was_read_ahead(annals: Annals, database_url: str) -> None:
    some_logins(annals)
    projector = small_batches(annals)
    drain(projector)
    live = dump(database_url)
    projector.start_over()
    projector.step()
    projector.start_over()
    drain(projector)
    projector.release()
    assert dump(database_url) == live


def test_a_read_model_that_takes_nothing_stops_its_worker_and_parks_nothing(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: object) -> None:
        raise AttributeError("a fault of ours")

    some_logins(annals)
    monkeypatch.setattr(ActivityDays, "apply", faulty)
    projector = small_batches(annals)
    with pytest.raises(AttributeError):
        drain(projector)
    with pytest.raises(AttributeError):
        projector.step()
    projector.release()
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM views.parked").fetchone() == (0,)
