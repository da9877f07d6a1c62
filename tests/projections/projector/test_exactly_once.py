"""Every event reaches the read models once, whatever becomes of the workers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from domain.commands import Change, Track
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.kernel.batch import Batch
from projections.models.activity_days import ActivityDays
from projections.models.catalogue import CatalogueModel
from projections.projector import leases
from projections.projector.checkpoints import PROJECTOR
from projections.projector.projector import Projector
from projections.queries.status import status
from tests.projections.read_models import (
    NOON,
    account,
    drain,
    dump,
    event,
    let_leases_expire,
    owner,
    project,
    user,
    write,
)

USERS = 20
LOGINS = 3
NOBODY = uuid.UUID(int=1)


def logins(annals: Annals) -> None:
    """`USERS` users who log in `LOGINS` times each, spread over the partitions."""
    for _ in range(LOGINS):
        write(annals, *(Track(user(f"u{n}"), (), event("login"), NOON) for n in range(USERS)))


def counted(url: str) -> list[int]:
    with owner(url) as conn:
        return [row[0] for row in conn.execute("SELECT count FROM views.activity_days")]


def progress(url: str) -> int:
    with owner(url) as conn:
        row = conn.execute("SELECT sum(position)::bigint FROM views.checkpoints").fetchone()
    return row[0] or 0 if row else 0


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, happen: Callable[[psycopg.Connection], None]
) -> None:
    """Something happens in the next batch, after every read model but the last has been written."""
    apply = CatalogueModel.apply

    def interrupted(model: CatalogueModel, conn: psycopg.Connection, batch: Batch) -> None:
        monkeypatch.setattr(CatalogueModel, "apply", apply)
        happen(conn)
        apply(model, conn, batch)

    monkeypatch.setattr(CatalogueModel, "apply", interrupted)


def test_a_crash_after_the_read_models_and_before_the_commit_leaves_neither(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(conn: psycopg.Connection) -> None:
        assert conn.execute("SELECT count(*) FROM views.activity_days").fetchone() == (USERS,)
        raise KeyboardInterrupt

    logins(annals)
    meanwhile(monkeypatch, crash)
    with pytest.raises(KeyboardInterrupt):
        annals.projector().step()
    assert (counted(database_url), progress(database_url)) == ([], 0)
    let_leases_expire(database_url)
    project(annals)
    assert counted(database_url) == [LOGINS] * USERS
    assert progress(database_url) == USERS * (LOGINS + 1)


def test_a_connection_that_is_killed_in_the_middle_costs_nothing_and_doubles_nothing(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(conn: psycopg.Connection) -> None:
        with owner(database_url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))

    logins(annals)
    meanwhile(monkeypatch, kill)
    projector = annals.projector()
    with pytest.raises(psycopg.OperationalError):
        projector.step()
    assert counted(database_url) == []
    drain(projector)
    assert counted(database_url) == [LOGINS] * USERS


def test_a_worker_that_lost_its_lease_cannot_write(annals: Annals, database_url: str) -> None:
    slow, quick = annals.projector(), annals.projector()
    assert slow.step() == 0  # holds every partition from here on, or so it thinks
    let_leases_expire(database_url)
    quick.step()
    logins(annals)
    slow.step()
    assert (counted(database_url), progress(database_url)) == ([], 0)
    drain(quick)
    assert counted(database_url) == [LOGINS] * USERS


def test_a_batch_that_takes_longer_than_a_lease_is_not_begun_by_another_worker(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = annals.projector(), annals.projector()
    begun: list[int] = []

    def overtake(_: psycopg.Connection) -> None:
        begun.append(quick.step())

    logins(annals)
    assert slow.step()
    logins(annals)
    let_leases_expire(database_url)
    meanwhile(monkeypatch, overtake)
    assert slow.step() == USERS * LOGINS
    assert begun == [0]
    assert counted(database_url) == [2 * LOGINS] * USERS


def test_many_workers_at_once_that_take_each_others_leases_count_everything_once(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0)
    stop = threading.Event()
    workers = [
        threading.Thread(
            target=process.projector().run,
            args=(stop, process.wakeups.sleeper("projector", eager=True)),
        )
        for process in (annals, open_annals())
    ]
    for worker in workers:
        worker.start()
    try:
        logins(annals)
        logins(annals)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    let_leases_expire(database_url)
    project(annals)
    assert counted(database_url) == [2 * LOGINS] * USERS


def test_a_second_worker_gets_its_share_and_one_that_ends_hands_its_own_back(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def holders() -> list[int]:
        with owner(database_url) as conn:
            rows = conn.execute(
                "SELECT count(*) FROM views.checkpoints WHERE worker IS NOT NULL GROUP BY worker"
            )
            return sorted(row[0] for row in rows)

    clock = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    first, second = annals.projector(), annals.projector()
    first.step()
    second.step()
    assert holders() == [256]
    for worker in (first, second):
        clock[0] += leases.LEASE_SECONDS
        worker.step()
    assert holders() == [128, 128]
    first.release()
    clock[0] += leases.LEASE_SECONDS
    second.step()
    assert holders() == [256]


def test_an_event_that_cannot_be_applied_is_parked_said_so_and_stops_nobody(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = ActivityDays.apply

    def picky(model: ActivityDays, conn: psycopg.Connection, batch: Batch) -> None:
        apply(model, conn, batch)
        if any(name == "unfit" for _, name in batch.uses):
            conn.execute("SELECT 1 / 0")

    logins(annals)
    write(annals, Track(user("u0"), (), event("unfit"), NOON))
    write(annals, Track(user("u0"), (), event("after"), NOON))
    monkeypatch.setattr(ActivityDays, "apply", picky)
    project(annals)
    heads = annals.log.heads(list(range(256)))
    with annals.queries.connect() as conn:
        told = status(conn, PROJECTOR, heads, [])
    assert (told.behind, told.parked) == (0, 2)
    assert told.parked_by_reader == {"main": 2}
    assert told.recorded == sum(heads.values())
    assert counted(database_url) == [LOGINS] * USERS
    with owner(database_url) as conn:
        rows = conn.execute("SELECT state, error, tries FROM views.parked ORDER BY position")
        assert rows.fetchall() == [("failed", "DivisionByZero", 3), ("waiting", None, 0)]


def test_an_altered_event_is_parked_and_those_of_others_are_not(
    annals: Annals, database_url: str
) -> None:
    logins(annals)
    with owner(database_url) as conn:
        conn.execute(
            "UPDATE log.events SET state = set_byte(state, 20, get_byte(state, 20) # 1)"
            " WHERE (log_partition, position) = (SELECT log_partition, position FROM log.events"
            " WHERE topic = 'user.event_tracked' ORDER BY log_partition, position LIMIT 1)"
        )
    project(annals)
    with owner(database_url) as conn:
        rows = conn.execute("SELECT error FROM views.parked ORDER BY position").fetchall()
    assert rows == [("Tampered",), (None,), (None,)]
    assert counted(database_url) == [LOGINS] * (USERS - 1)


@pytest.mark.parametrize("batch_events", [1, 7, 1000])
def test_the_size_of_the_batches_makes_no_difference(
    annals: Annals, database_url: str, batch_events: int
) -> None:
    logins(annals)
    write(annals, Change(SubjectKind.USER, user("u0") + user("u1"), {"plan": "pro"}, NOON))
    write(annals, Track(user("u1"), account("a"), event("login"), NOON + timedelta(days=1)))
    projector: Projector = Projector(
        log=annals.log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=annals.workspace_now,
        batch_events=batch_events,
    )
    drain(projector)
    projector.release()
    live = dump(database_url)
    with owner(database_url) as conn:
        conn.execute("UPDATE views.checkpoints SET position = 0")
        conn.execute(
            "TRUNCATE views.contacts, views.seen, views.merges, views.activity_days,"
            " views.catalogue, views.memberships, views.names, views.bar_counts"
        )
    project(annals)
    assert dump(database_url) == live
