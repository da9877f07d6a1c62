"""Pipelines never wait for what was not sent: none is entered within another, and the projector
goes on however little the socket takes at a time."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from domain.conditions import language as ask
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from infra.postgres import database
from projections.kernel.pipeline import NestedPipeline, pipeline
from projections.projector.projector import Projector
from tests.commands import AT, alias, group, identify, leave, track
from tests.infra.commands import stored
from tests.infra.erasures import erase
from tests.projections.read_models import dump, forget_read_models, found, user
from tests.projections.segments import define
from tests.sockets import nested_pipelines, small_buffers

LONG = "x" * 480
PRO = ask.PropertyIs("plan", ask.Is("pro"))
PACKAGES = ("domain", "projections", "infra", "api")


@pytest.fixture
def small_pool(database_url: str) -> Iterator[ConnectionPool]:
    """Connections that take some kilobytes at a time."""
    with small_buffers():
        pool = database.pool(database_url, "annals_views", size=3)
        pool.wait()
        yield pool
        pool.close()


def steps_within(projector: Projector, seconds: float) -> int:
    """The events of a step. A step that hangs is left behind, and the test fails."""
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(projector.step()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "the projector hangs"
    return done[0]


def test_a_pipeline_within_another_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        with pipeline(conn):
            rows = conn.execute("SELECT 1")
            with pytest.raises(NestedPipeline), pipeline(conn):
                pass
            assert rows.fetchall() == [(1,)]
        with pipeline(conn):
            pass


def test_pipelines_are_entered_in_one_place_alone() -> None:
    root = Path(__file__).parents[3]
    entering = {
        str(file.relative_to(root))
        for package in PACKAGES
        for file in (root / package).rglob("*.py")
        if re.search(r"\.pipeline\(|\bPipeline\(", file.read_text())
    }
    assert entering == {"projections/kernel/pipeline.py"}


def test_a_batch_larger_than_the_sockets_buffers_is_projected(
    annals: Annals, database_url: str, small_pool: ConnectionPool
) -> None:
    """Memberships that change or end are written one by one, after much that the server has not
    taken yet: there psycopg once waited for the server, and the server for psycopg."""
    people = [f"u{n}" for n in range(40)]
    stored(annals, *(group(person, "a1", role="guest") for person in people))
    projector = annals.projector()
    while projector.step():
        pass
    projector.release()
    later = AT + timedelta(hours=1)
    stored(
        annals,
        *(identify(person, later, **{f"trait{n}": LONG for n in range(20)}) for person in people),
    )
    stored(
        annals, *(group(person, "a1", later, role="owner", trait=LONG) for person in people[:20])
    )
    stored(annals, *(leave(person, "a1", later + timedelta(hours=1)) for person in people[20:]))
    small = Projector(
        log=annals.log, opener=annals.sealer, pool=small_pool, workspace=annals.workspace_now
    )
    while steps_within(small, 30):
        pass
    small.release()
    live = dump(database_url)
    assert len(live["memberships"]) == len(people)
    forget_read_models(database_url)
    rebuilder = annals.projector()
    while rebuilder.step():
        pass
    rebuilder.release()
    assert dump(database_url) == live


def test_no_read_model_enters_a_pipeline_within_that_of_the_batch(annals: Annals) -> None:
    """All sorts of events in one batch: whatever a read model does, it does in this pipeline. Every
    other test is held to it as well (`tests/conftest.py`)."""
    define(annals, PRO, name="Pro")
    define(annals, PRO, SubjectKind.ACCOUNT, name="Pro accounts")
    stored(
        annals,
        *(identify(f"u{n}", plan="pro") for n in range(4)),
        group("u1", "a1", role="guest"),
        group("u2", "a1", role="guest"),
        group("u1", "a1", role="owner"),
        leave("u2", "a1"),
        track("u1", "a1", "login"),
        alias("u1", "u3"),
    )
    erase(annals, found(annals, user("u2")), kind=SubjectKind.USER)
    projector = annals.projector()
    decider = annals.decider()
    while projector.step() or decider.step() or decider.sweep():
        pass
    projector.release()
    assert nested_pipelines() == []
