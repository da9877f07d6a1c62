"""What hangs is cut off, says where it was, and goes on by smaller batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from infra.bootstrap.annals import Annals
from infra.pasts.databases import PastDatabases
from projections.kernel import fences, watchdog
from projections.kernel.fences import FenceTaken
from projections.kernel.watchdog import Hung, watched
from projections.models.contacts import Contacts
from projections.projector import pace
from projections.projector.checkpoints import PROJECTOR
from projections.projector.pace import MAX_PATIENCE, Pace
from tests.commands import group, identify
from tests.infra.commands import stored
from tests.pasts import copied, seen_at
from tests.projections.read_models import dump, forget_read_models, owner, parked, project
from tests.serving import until

PEOPLE = 40
EVENTS = 2 * PEOPLE + 1
"""Each of them begins, and joins an account that begins."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes more than some tenths of a second hangs."""
    monkeypatch.setattr(pace, "BASE_SECONDS", 0.3)
    monkeypatch.setattr(watchdog, "CANCEL_SECONDS", 0.5)


def people(annals: Annals) -> None:
    stored(annals, *(group(f"u{n}", "a1", role="guest") for n in range(PEOPLE)))


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Somebody else holds what every batch has to write."""
    with owner(url) as conn, conn.transaction():
        conn.execute("LOCK TABLE views.contacts IN ACCESS EXCLUSIVE MODE")
        yield


def shown(url: str) -> int:
    with owner(url) as conn:
        row = conn.execute("SELECT sum(position)::bigint FROM views.checkpoints").fetchone()
    return row[0] or 0 if row else 0


def hung(logs: list[dict[str, object]]) -> list[dict[str, object]]:
    return [entry for entry in logs if entry["event"] == "worker.hung"]


@given(st.integers(1, 20_000), st.lists(st.tuples(st.booleans(), st.integers(0, 20_000))))
def test_batches_shrink_while_they_hang_and_grow_back_within_bounds(
    most: int, history: list[tuple[bool, int]]
) -> None:
    pace = Pace(most)
    for hangs, events in history:
        before = pace.events
        if hangs:
            pace.hung(min(events, before))
            assert pace.events < before or pace.patience > 1
        else:
            pace.done()
            assert pace.events in (min(2 * before, most),)
        assert 1 <= pace.events <= most
        assert 1 <= pace.patience <= MAX_PATIENCE
    for _ in range(15):
        pace.done()
    assert (pace.events, pace.patience) == (most, 1)


def test_a_statement_that_waits_for_a_lock_is_cancelled_and_its_place_is_told(
    annals: Annals, database_url: str
) -> None:
    with (
        locked(database_url),
        capture_logs() as logs,
        pytest.raises(Hung),
        watched(annals.views, "a test", 0.2) as conn,
    ):
        conn.execute("SELECT 'a secret' FROM views.contacts")
    [line] = hung(logs)
    assert line["worker"] == "a test"
    at = line["at"]
    assert isinstance(at, list)
    assert any(frame.startswith(f"{__name__}.test_a_statement_that_waits") for frame in at)
    assert "secret" not in str(line)
    assert conn.closed


def test_what_no_cancellation_ends_has_its_socket_shut_down(
    annals: Annals, impatient: None
) -> None:
    with pytest.raises(Hung), watched(annals.views, "a test", 0.2) as conn:
        # For something that the server does not send: it has nothing to cancel.
        assert list(conn.notifies(timeout=60)) == []


def test_what_is_done_in_time_keeps_its_connection(annals: Annals) -> None:
    with watched(annals.views, "a test", 60) as conn:
        conn.execute("SELECT 1")
    assert not conn.closed
    with pytest.raises(ZeroDivisionError), watched(annals.views, "a test", 60):
        raise ZeroDivisionError


def test_a_projector_that_hangs_goes_on_by_smaller_batches_and_catches_up(
    annals: Annals, database_url: str, impatient: None
) -> None:
    people(annals)
    projector = annals.projector()
    with capture_logs() as logs, locked(database_url):
        assert projector.step() == 0
        assert projector.step() == 0
    assert {entry["worker"] for entry in hung(logs)} == {"projector"}
    assert "projections.models.contacts" in str(hung(logs)[0]["at"])
    assert projector._pace.events < EVENTS
    sizes = []
    while (size := projector.step()) or shown(database_url) < EVENTS:
        sizes.append(size)
    projector.release()
    assert 0 < sizes[0] < EVENTS
    assert parked(database_url) == []
    live = dump(database_url)
    forget_read_models(database_url)
    project(annals)
    assert dump(database_url) == live


def test_one_that_hangs_in_a_single_event_is_given_longer_each_time(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """An event that takes long, though not for ever, is projected at last."""
    apply = Contacts.apply

    def slowly(model: Contacts, conn: psycopg.Connection, batch: object) -> None:
        conn.execute("SELECT pg_sleep(0.7)").fetchall()
        apply(model, conn, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Contacts, "apply", slowly)
    stored(annals, identify("u1"))
    projector = annals.projector()
    steps = 0
    while not projector.step():
        steps += 1
        assert steps < 5
    assert steps >= 1
    projector.release()
    assert shown(database_url) == 1


def test_the_fence_is_waited_for_in_pieces_and_that_is_no_hang(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "WAIT_SECONDS", 0.2)
    people(annals)
    projector = annals.projector()
    with annals.views.connection() as conn:
        projector._leases.renew(conn)
    with capture_logs() as logs, owner(database_url) as conn, conn.transaction():
        fences.close(conn, PROJECTOR)
        assert projector.step() == 0
    assert [entry["event"] for entry in logs] == ["projector.waits_for_fence"]
    assert projector.step() == EVENTS
    with owner(database_url) as conn, conn.transaction():
        fences.wait_to_lock(conn, PROJECTOR, closes=False)
        assert conn.execute("SHOW lock_timeout").fetchone() == ("0",)
    with owner(database_url) as holder, holder.transaction():
        fences.close(holder, PROJECTOR)
        with pytest.raises(FenceTaken), owner(database_url) as conn, conn.transaction():
            fences.wait_to_lock(conn, PROJECTOR, closes=False)
    projector.release()


def test_starting_over_waits_for_readers_until_told_to_stop(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "WAIT_SECONDS", 0.2)
    people(annals)
    project(annals)
    live = dump(database_url)
    stop = threading.Event()
    projector = annals.projector()
    with owner(database_url) as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM views.contacts")
        threading.Timer(0.5, stop.set).start()
        projector.start_over(stop)
    assert dump(database_url) == live
    projector.start_over()
    assert dump(database_url)["contacts"] == []
    project(annals)
    assert dump(database_url) == live


def test_starting_over_goes_on_after_a_deadlock(annals: Annals, database_url: str) -> None:
    """A worker that reads, and then waits for the fence, waits for who waits for it."""
    people(annals)
    project(annals)
    live = dump(database_url)
    thread = threading.Thread(target=annals.projector().start_over, daemon=True)
    with owner(database_url) as worker, worker.transaction():
        worker.execute("SET LOCAL deadlock_timeout = '60s'")  # so that the other is ended
        worker.execute("SELECT count(*) FROM views.contacts")
        thread.start()
        with owner(database_url) as conn:
            waits = (
                "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE d.datname = current_database() AND NOT l.granted"
            )
            until(lambda: conn.execute(waits).fetchone() is not None)
        fences.share(worker, PROJECTOR)
    thread.join(60)
    assert not thread.is_alive()
    assert dump(database_url)["contacts"] == []
    project(annals)
    assert dump(database_url) == live


def test_a_past_whose_making_hangs_is_made_all_the_same(
    annals: Annals, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(PastDatabases, "create", copied)
    people(annals)
    hang_once(monkeypatch)
    at = annals.now()
    with capture_logs() as logs:
        past = seen_at(annals, at)
    assert hung(logs)
    with past.queries.connect() as conn:
        [count] = conn.exec_driver_sql("SELECT count(*) FROM views.contacts").one()
    assert count == PEOPLE + 1


def hang_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch waits in the server for much longer than it may."""
    apply: Callable[..., None] = Contacts.apply
    left = [1]

    def hanging(model: Contacts, conn: psycopg.Connection, batch: object) -> None:
        if left:
            left.pop()
            conn.execute("SELECT pg_sleep(60)").fetchall()
        apply(model, conn, batch)

    monkeypatch.setattr(Contacts, "apply", hanging)
