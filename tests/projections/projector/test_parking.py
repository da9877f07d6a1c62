"""An event that cannot be applied waits with the rest of its stream, and everybody else goes on.

What makes events fail here is a constraint on a table of the read models, and what repairs them is
to take it away again: the database refuses and takes the same rows as it would for another reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg import errors as pg
from psycopg_pool import ConnectionPool

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment, Zones
from domain.commands import Alias, Change, Join, Position, Track
from domain.conditions import language as ask
from domain.conditions.language import Attribute, AttributeIs, In, IsSet
from domain.errors import NotReady
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, SubjectKind
from domain.parked_events import Retried
from domain.workspace.workspace import Workspace
from infra.bootstrap.annals import Annals
from infra.log.event_log import EventLog
from projections.conditions.compiler import predicate
from projections.kernel.batch import Batch
from projections.kernel.merges import survivors
from projections.kernel.tables import contacts
from projections.models.activity_days import ActivityDays
from projections.models.catalogue import CatalogueModel
from projections.projector import projector as projector_module
from projections.projector.checkpoints import PROJECTOR
from projections.projector.projector import Projector
from tests.examples import examples
from tests.infra.erasures import erase
from tests.pasts import seen_at
from tests.projections.counting import need
from tests.projections.projector.test_live_equals_model import ZONE, Erase, Stop, World, steps
from tests.projections.read_models import (
    NOON,
    account,
    drain,
    dump,
    event,
    forget_read_models,
    found,
    let_leases_expire,
    owner,
    project,
    user,
    write,
)
from tests.projections.segments import define

UNFIT = {
    "contacts": "properties ->> 'plan' IS DISTINCT FROM 'pro'",
    "memberships": "role IS DISTINCT FROM 'owner'",
    "catalogue": "name <> 'two'",
}
"""By table, what a row of it has to be like."""

CROWDED = {"activity_days": "count < 2"}
"""The same, of what rests on other events too."""

ACCOUNTS_KEEP = {"catalogue", "activity_days"}
"""Of what somebody did in an account: what is unfit stays so when he is erased, and is dropped."""


@contextmanager
def refusing(url: str, table: str, condition: str) -> Iterator[None]:
    """A table takes no rows that break a condition, inside the block."""
    with owner(url) as conn:
        conn.execute(f"ALTER TABLE views.{table} ADD CONSTRAINT unfit CHECK ({condition})")
    try:
        yield
    finally:
        with owner(url) as conn:
            conn.execute(f"ALTER TABLE views.{table} DROP CONSTRAINT unfit")


def listed(url: str) -> list[tuple[str, str, str | None]]:
    """State, topic and error of what is parked, in order."""
    with owner(url) as conn:
        return conn.execute(
            "SELECT state, topic, error FROM views.parked ORDER BY log_partition, position"
        ).fetchall()


def plan(name: str, plan: str) -> Change:
    return Change(SubjectKind.USER, user(name), {"plan": plan}, NOON)


def login(name: str, *, of: str | None = None) -> Track:
    return Track(user(name), account(of) if of else (), event("login"), NOON)


def names(annals: Annals) -> list[str]:
    with annals.queries.connect() as conn:
        return sorted(
            row[0]
            for row in conn.exec_driver_sql(
                "SELECT external_id FROM views.contacts WHERE external_id IS NOT NULL"
            )
        )


def rebuilt(annals: Annals, url: str) -> dict[str, list[str]]:
    projector = annals.projector()
    projector.start_over()
    drain(projector)
    projector.release()
    return dump(url)


def test_more_bad_events_of_one_sender_than_any_count_stop_nobody(
    annals: Annals, database_url: str
) -> None:
    write(annals, *(login(f"bad{n}") for n in range(25)))
    project(annals)
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        write(annals, *(plan(f"bad{n}", "pro") for n in range(25)))
        write(annals, login("good"))
        project(annals)
        assert "good" in names(annals)
        assert annals.status().parked_by_reader == {PROJECTOR: 25}
        assert annals.status().behind == 0
    assert set(listed(database_url)) == {("failed", "user.properties_changed", "CheckViolation")}


def test_later_events_of_the_stream_wait_in_order_and_are_applied_once_it_is_repaired(
    annals: Annals, database_url: str
) -> None:
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        write(annals, plan("ada", "pro"), login("bob"))
        project(annals)
        write(annals, login("ada", of="acme"), login("ada"), login("bob", of="acme"))
        project(annals)
        assert [state for state, *_ in listed(database_url)] == ["failed", "waiting", "waiting"]
        before = dump(database_url)
        ada = found(annals, user("ada"))
        assert annals.projector().retrying.retry(ada) == Retried(0, 3, "CheckViolation")
        assert dump(database_url) == before
    with owner(database_url) as conn:
        tries = conn.execute("SELECT tries, tried_at IS NULL FROM views.parked ORDER BY position")
        assert tries.fetchall() == [(4, False), (0, True), (0, True)]
    assert annals.projector().retrying.retry(ada) == Retried(3, 0, None)
    assert listed(database_url) == []
    live = dump(database_url)
    assert live != before
    assert rebuilt(annals, database_url) == live


def test_what_is_tried_again_stops_at_the_next_that_cannot_be_applied(
    annals: Annals, database_url: str
) -> None:
    with refusing(database_url, "memberships", UNFIT["memberships"]):
        with refusing(database_url, "contacts", UNFIT["contacts"]):
            write(annals, plan("ada", "pro"))
            write(annals, Join(user("ada"), account("acme"), {}, {"role": "owner"}, NOON))
            write(annals, login("ada"))
            project(annals)
        ada = found(annals, user("ada"))
        assert annals.projector().retrying.retry(ada) == Retried(1, 2, "CheckViolation")
        assert [(state, topic) for state, topic, _ in listed(database_url)] == [
            ("failed", "user.membership_started"),
            ("waiting", "user.event_tracked"),
        ]
    assert annals.projector().retrying.retry(ada) == Retried(2, 0, None)
    live = dump(database_url)
    assert rebuilt(annals, database_url) == live


def test_a_merge_waits_in_the_stream_of_whoever_is_merged_and_the_other_goes_on(
    annals: Annals, database_url: str
) -> None:
    with refusing(database_url, "catalogue", UNFIT["catalogue"]):
        write(annals, Track(user("old"), (), event("two"), NOON), login("new"))
        old, new = found(annals, user("old")), found(annals, user("new"))
        write(annals, Alias(user("new"), user("old"), NOON + timedelta(days=1)))
        write(annals, login("old"), login("new"))
        project(annals)
        with psycopg.connect(database_url) as conn:
            assert survivors(conn, [old]) == {}
        assert [(state, topic) for state, topic, _ in listed(database_url)] == [
            ("failed", "user.event_tracked"),
            ("waiting", "user.merged_into"),
        ]
        assert "new" in names(annals)
    assert annals.projector().retrying.retry(old) == Retried(2, 0, None)
    with psycopg.connect(database_url) as conn:
        assert survivors(conn, [old]) == {old: new}
    live = dump(database_url)
    assert rebuilt(annals, database_url) == live


def test_an_erasure_waits_for_nothing_and_takes_the_parked_events_along(
    annals: Annals, database_url: str
) -> None:
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        write(annals, plan("ada", "pro"), login("ada", of="acme"), plan("eve", "pro"))
        project(annals)
        write(annals, login("ada", of="acme"))
        erase(annals, found(annals, user("ada")))
        project(annals)
        with owner(database_url) as conn:
            streams = [row[0] for row in conn.execute("SELECT stream FROM views.parked")]
        assert streams == [found(annals, user("eve"))]
        # The account goes on counting what was done in it.
        with owner(database_url) as conn:
            assert conn.execute("SELECT count FROM views.activity_days").fetchall() == [(2,)]
    assert annals.projector().retrying.retry(found(annals, user("eve"))).left == 0
    live = dump(database_url)
    assert rebuilt(annals, database_url) == live


def test_parked_events_of_an_erased_subject_that_fail_even_so_are_dropped(
    annals: Annals, database_url: str
) -> None:
    with refusing(database_url, "activity_days", CROWDED["activity_days"]):
        write(annals, login("ada", of="acme"))
        write(annals, login("ada", of="acme"))
        project(annals)
        assert len(listed(database_url)) == 1
        erase(annals, found(annals, user("ada")))
        project(annals)
        assert listed(database_url) == []
        assert annals.status().behind == 0


def test_where_not_even_known_events_can_be_applied_nothing_is_parked_and_all_comes_back(
    annals: Annals, database_url: str
) -> None:
    write(annals, login("ada", of="acme"), login("bob"))
    projector = annals.projector()
    with refusing(database_url, "activity_days", "false"), pytest.raises(pg.CheckViolation):
        drain(projector)
    assert listed(database_url) == []
    with owner(database_url) as conn:
        assert conn.execute("SELECT name FROM views.names WHERE name ~ 'probe'").fetchall() == []
    drain(projector)
    projector.release()
    assert annals.status().behind == 0


def test_an_event_that_is_stood_in_the_way_of_is_tried_again_and_not_parked(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, left = CatalogueModel.apply, [3]

    def contended(model: CatalogueModel, conn: psycopg.Connection, batch: Batch) -> None:
        if left[0]:
            left[0] -= 1
            conn.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        apply(model, conn, batch)

    monkeypatch.setattr(CatalogueModel, "apply", contended)
    write(annals, login("ada"))
    project(annals)
    assert (left, listed(database_url)) == ([0], [])
    assert annals.status().behind == 0


def test_an_event_that_is_always_stood_in_the_way_of_is_parked_like_any_other(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = ActivityDays.apply

    def contended(model: ActivityDays, conn: psycopg.Connection, batch: Batch) -> None:
        if any(name == "unlucky" for _, name in batch.uses):
            conn.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        apply(model, conn, batch)

    monkeypatch.setattr(ActivityDays, "apply", contended)
    monkeypatch.setattr(projector_module, "CONTENDED_SECONDS", 0.0)
    write(annals, Track(user("ada"), (), event("unlucky"), NOON), login("bob"))
    project(annals)
    assert listed(database_url) == [("failed", "user.event_tracked", "SerializationFailure")]
    assert "bob" in names(annals)


class Without(EventLog):
    """A log in which some events never were."""

    def __init__(self, pool: ConnectionPool, places: set[tuple[int, int]]) -> None:
        super().__init__(pool)
        self._places = places

    def read_after(self, after: Mapping[int, int], limit: int) -> list[RecordedEvent]:
        rows = super().read_after(after, limit + len(self._places))
        return [row for row in rows if (row.log_partition, row.position) not in self._places]


def places(url: str) -> set[tuple[int, int]]:
    with owner(url) as conn:
        return set(conn.execute("SELECT log_partition, position FROM views.parked").fetchall())


def catch_up(world: World) -> Projector:
    """Has all read models as far as they get, by one worker."""
    let_leases_expire(world.url)
    worker = world._projector(100)
    drain(worker)
    worker.release()
    world.workers = [None, None]
    return worker


def shown(url: str, happening: Sequence[object]) -> dict[str, list[str]]:
    """What is to be the same however it came about. Names are numbered before it is known whether
    they are needed; and what somebody did before an erasure stays in the catalogue, which is not
    what a rebuild reads."""
    by_table = dump(url)
    del by_table["names"]
    if any(isinstance(step, Erase) for step in happening):
        del by_table["catalogue"]
    return by_table


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, set[str]]:
    """Rows, by table, that are in one alone."""
    found = {table: set(before[table]) ^ set(after[table]) for table in before}
    return {table: rows for table, rows in found.items() if rows}


def streams_parked(url: str) -> list[SubjectId]:
    with owner(url) as conn:
        return [row[0] for row in conn.execute("SELECT DISTINCT stream FROM views.parked")]


@settings(max_examples=examples(8), phases=[Phase.generate])
@given(
    happening=st.lists(steps, min_size=4, max_size=12),
    unfit=st.sampled_from([*UNFIT.items(), *CROWDED.items()]),
)
def test_after_repair_and_retry_all_is_as_if_nothing_had_failed(
    annals: Annals, database_url: str, happening: Sequence[object], unfit: tuple[str, str]
) -> None:
    world = World(annals, database_url)
    with refusing(database_url, *unfit):
        for step in happening:
            if not (isinstance(step, Erase) and unfit[0] in ACCOUNTS_KEEP):
                world.take(step)
        worker = catch_up(world)
        for stream in streams_parked(database_url):
            worker.retrying.retry(stream)
    for stream in streams_parked(database_url):
        assert worker.retrying.retry(stream).left == 0
    assert listed(database_url) == []
    live = shown(database_url, happening)
    forget_read_models(database_url)
    catch_up(world)
    assert differences(shown(database_url, happening), live) == {}


@settings(max_examples=examples(8), phases=[Phase.generate])
@given(
    happening=st.lists(
        steps.filter(lambda step: not isinstance(step, Stop)), min_size=4, max_size=12
    ),
    unfit=st.sampled_from(list(UNFIT.items())),
)
def test_everybody_else_is_shown_as_if_the_parked_events_had_never_been(
    annals: Annals, database_url: str, happening: Sequence[object], unfit: tuple[str, str]
) -> None:
    world = World(annals, database_url)
    with refusing(database_url, *unfit):
        for step in happening:
            if not (isinstance(step, Erase) and unfit[0] in ACCOUNTS_KEEP):
                world.take(step)
        catch_up(world)
    live = shown(database_url, happening)
    parked = places(database_url)
    forget_read_models(database_url)
    worker: Projector = Projector(
        log=Without(annals.log._pool, parked),
        opener=annals.sealer,
        pool=annals.views,
        workspace=lambda: Workspace(Zones(ZONE)),
        batch_events=100,
    )
    drain(worker)
    worker.release()
    assert differences(shown(database_url, happening), live) == {}


MUCH = ask.Did("event", "paid", ask.ExactlyTimes(1), None, [ask.MetadataIs("sum", ask.IsSet())])


def payers(annals: Annals) -> set[SubjectId]:
    """Those who paid once, by the counter of it."""
    with annals.queries.connect() as conn:
        need(conn, MUCH)
        test = predicate(MUCH, SubjectKind.USER, Moment(NOON, ZoneInfo("UTC")))
        return set(conn.scalars(sa.select(contacts.c.subject).where(test)))


@pytest.mark.parametrize("is_filled_before", [True, False])
def test_a_counter_counts_what_was_parked_once(
    annals: Annals, database_url: str, is_filled_before: bool
) -> None:
    paid = (Activity(ActivityKind.EVENT, "paid", {"sum": 5}),)
    with refusing(database_url, "catalogue", "name <> 'paid'"):
        write(annals, Track(user("ann"), (), paid, NOON), login("bob"))
        project(annals)
        with pytest.raises(NotReady):
            payers(annals)
        filler = annals.filler()
        if is_filled_before:
            while filler.step():
                pass
            assert payers(annals) == set()
        else:  # it has begun, and not come to what is parked
            filler.step()
            with owner(database_url) as conn:
                conn.execute("UPDATE views.counters SET state = 'filling'")
                conn.execute(
                    "INSERT INTO views.counter_fills (log_partition, counter, position, upto)"
                    " SELECT p, id, 0, 1000 FROM views.counters, generate_series(0, 255) p"
                    " ON CONFLICT (log_partition, counter) DO UPDATE SET position = 0, upto = 1000"
                )
    ann = found(annals, user("ann"))
    assert annals.projector().retrying.retry(ann) == Retried(1, 0, None)
    while filler.step():
        pass
    assert payers(annals) == {ann}
    assert rebuilt(annals, database_url)["counter_days"] == dump(database_url)["counter_days"]


def test_definitions_wait_for_one_another_and_what_an_erasure_says_of_them_does_not(
    annals: Annals, database_url: str
) -> None:
    vips = AttributeIs(Attribute.EMAIL, In(["ada@example.com"]))
    write(annals, Change(SubjectKind.USER, user("ada@example.com"), {"plan": "free"}, NOON))
    define(annals, vips, name="VIPs")
    with refusing(database_url, "definitions", "name IS DISTINCT FROM 'bad'"):
        define(annals, AttributeIs(Attribute.NAME, IsSet()), name="bad")
        define(annals, AttributeIs(Attribute.NAME, IsSet()), name="good")
        project(annals)
        assert [state for state, *_ in listed(database_url)] == ["failed", "waiting"]
        write(annals, login("bob"))
        erase(annals, found(annals, user("ada@example.com")))
        project(annals)
        assert len(listed(database_url)) == 2
        with owner(database_url) as conn:
            said = conn.execute("SELECT name, definition::text FROM views.definitions").fetchall()
        assert [name for name, _ in said] == ["VIPs"]
        assert "ada@example.com" not in said[0][1]
        assert names(annals) == ["bob"]
    assert annals.projector().retrying.retry(annals.definitions.stream).left == 0
    live = dump(database_url)
    del live["catalogue"]
    again = rebuilt(annals, database_url)
    assert {table: again[table] for table in live} == live


def test_a_past_goes_on_without_what_is_skipped(annals: Annals, database_url: str) -> None:
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        write(annals, plan("ada", "pro"), login("ada"))
        project(annals)
    ada = found(annals, user("ada"))
    with owner(database_url) as conn:
        rows = conn.execute(
            "SELECT log_partition, position FROM views.parked WHERE state = 'failed'"
        )
        [place] = [Position(*row) for row in rows]
    assert annals.parked().skip(PROJECTOR, place, "no longer true", "operator") == Retried(
        1, 0, None
    )
    past = seen_at(annals, datetime.now(UTC))
    with past.queries.connect() as conn:
        row = conn.exec_driver_sql("SELECT subject, properties FROM views.contacts").one()
    assert (row[0], row[1]) == (ada, {})
