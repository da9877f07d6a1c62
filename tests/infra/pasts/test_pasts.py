"""Pasts: made from the log as it stood, shared, few, and gone when somebody is erased. Cases go by
their numbers in the list of adversarial cases."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.conditions.language import AtLeastTimes, Did, Is, MetadataIs
from domain.errors import NotFound, NotReady, NotYours, TooManyAtOnce, Unavailable
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.bootstrap.annals import Annals
from infra.log.log_as_of import bounds_at
from infra.pasts import filling, registry
from infra.pasts.databases import PastDatabases
from projections.queries import contact_view
from tests.commands import group, identify, track
from tests.infra.commands import stored, subject_of
from tests.infra.erasures import ask, erased
from tests.pasts import copied, databases, seen_at
from tests.projections.counting import need
from tests.projections.read_models import owner, project
from tests.projections.segments import define

PLANTED = "zq-planted-name"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PastDatabases, "create", copied)


def name_of(annals: Annals, id: SubjectId | None) -> str | None:
    assert id is not None
    with annals.queries.connect() as conn:
        return contact_view.view(conn, SubjectKind.USER, id, renewal_property="renewal").name


def state_of(annals: Annals, at: datetime) -> str:
    [state] = [past.state for past in annals.pasts.all() if past.at == at]
    return state


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Holds every past that is being made, until it is called."""
    go_on = threading.Event()
    real_bounds_at = filling.bounds_at

    def slowly(*params: object) -> list[int]:
        go_on.wait(30)
        return real_bounds_at(*params)

    monkeypatch.setattr(filling, "bounds_at", slowly)
    yield go_on.set
    go_on.set()


def test_a_past_is_made_by_the_migrations_and_shows_what_was_known_then(
    annals: Annals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    stored(annals, identify("u1", name="Ada"))
    at = datetime.now(UTC)
    stored(annals, identify("u1", name="Ada Lovelace"), identify("u2"))
    project(annals)
    past = seen_at(annals, at)
    assert name_of(past, subject_of(annals, "u1")) == "Ada"
    with pytest.raises(NotFound):
        name_of(past, subject_of(annals, "u2"))
    assert (past.now(), annals.moment) == (at, None)


def test_what_stands_behind_a_later_event_is_later_whatever_its_own_stamp_says(
    annals: Annals, database_url: str
) -> None:
    for name in ("Ada", "Ada L", "Ada Lovelace"):
        stored(annals, identify("u1", name=name))
    id = subject_of(annals, "u1")
    assert id is not None
    partition, at = log_partition(id), datetime(2026, 1, 2, tzinfo=UTC)
    stamps = [at - timedelta(days=1), at, at + timedelta(seconds=1), at - timedelta(hours=1)]
    with owner(database_url) as conn:
        heads = annals.log.heads([partition])
        assert heads[partition] >= 3
        for position in range(1, heads[partition] + 1):
            conn.execute(
                "UPDATE log.events SET recorded_at = %s WHERE (log_partition, position) = (%s, %s)",
                (stamps[position - 1], partition, position),
            )
    pool = annals.timelines._pool
    assert bounds_at(pool, at)[partition] == 2
    assert bounds_at(pool, at - timedelta(days=2))[partition] == 0
    assert bounds_at(pool, at + timedelta(days=2))[partition] == heads[partition]


def test_all_processes_share_a_past_which_lives_as_long_as_the_one_that_made_it(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    stored(annals, identify("u1", name="Ada"))
    at = datetime.now(UTC)
    seen_at(annals, at)
    other = open_annals()
    assert name_of(other.as_of(at), subject_of(annals, "u1")) == "Ada"
    assert len(databases(database_url)) == 1
    annals.pasts.close()
    assert databases(database_url) == []
    with pytest.raises(NotReady):
        other.as_of(at)


def test_the_past_that_was_longest_unread_gives_way(annals: Annals, database_url: str) -> None:
    stored(annals, identify("u1"))
    now = datetime.now(UTC)
    first, second, third, fourth = (now - timedelta(seconds=n) for n in range(4))
    for at in (first, second, third):
        seen_at(annals, at)
    with owner(database_url) as conn:
        conn.execute("UPDATE views.pasts SET used_at = now() - interval '11 minutes'")
    annals.as_of(first)
    annals.as_of(third)
    seen_at(annals, fourth)
    assert {past.at for past in annals.pasts.all()} == {first, third, fourth}
    annals.pasts.tidy()
    assert len(databases(database_url)) == registry.KEPT


def test_what_others_read_gives_way_to_nobody_and_ones_own_does(annals: Annals) -> None:
    now, mine, others = datetime.now(UTC), uuid.uuid4(), uuid.uuid4()
    instants = [now - timedelta(seconds=n) for n in range(registry.KEPT + 2)]
    for at in instants[:2]:
        seen_at(annals, at, others)
    seen_at(annals, instants[2], mine)
    seen_at(annals, instants[3], mine)
    assert {past.at for past in annals.pasts.all()} == {*instants[:2], instants[3]}
    seen_at(annals, instants[3], others)
    with pytest.raises(Unavailable, match="others read them"):
        annals.pasts.begin(instants[4], mine)
    assert len(annals.pasts.all()) == registry.KEPT


def test_a_past_goes_when_all_keys_that_asked_for_it_have_given_it_up(
    annals: Annals, database_url: str
) -> None:
    at, first, second, none = datetime.now(UTC), uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    id = annals.pasts.begin(at, first).id
    seen_at(annals, at, second)
    seen_at(annals, at, second)
    with pytest.raises(NotYours):
        annals.pasts.give_up(id, none)
    annals.pasts.give_up(id, first)
    with pytest.raises(NotYours):
        annals.pasts.give_up(id, first)
    assert annals.pasts.find(id).state == "ready"
    annals.pasts.give_up(id, second)
    with pytest.raises(NotFound):
        annals.pasts.find(id)
    assert databases(database_url) == []


def test_no_more_are_made_at_once_than_are_kept(annals: Annals, held: Callable[[], None]) -> None:
    now = datetime.now(UTC)
    begun = [annals.pasts.begin(now - timedelta(seconds=n)) for n in range(registry.KEPT)]
    assert annals.pasts.begin(now).id == begun[0].id
    with pytest.raises(TooManyAtOnce, match="being made"):
        annals.pasts.begin(now - timedelta(days=1))
    with pytest.raises(NotReady, match=str(begun[0].id)):
        annals.as_of(now)
    annals.pasts.forget(begun[1].id)
    annals.pasts.begin(now - timedelta(days=1))
    held()


def test_what_is_idle_lost_or_nobodys_goes_and_what_is_read_stays(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1"))
    now = datetime.now(UTC)
    idle, lost, read = (now - timedelta(seconds=n) for n in range(3))
    for at in (idle, lost, read):
        seen_at(annals, at)
    stray = PastDatabases(database_url).url_of(uuid.uuid4())
    name = psycopg.conninfo.conninfo_to_dict(stray)["dbname"]
    with owner(database_url) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(str(name))))
        conn.execute(
            "UPDATE views.pasts SET used_at = now() - interval '61 minutes' WHERE at = %s", (idle,)
        )
        conn.execute(
            "UPDATE views.pasts SET seen_at = now() - interval '2 minutes' WHERE at = %s", (lost,)
        )
        [[id]] = conn.execute("SELECT id FROM views.pasts WHERE at = %s", (lost,)).fetchall()
    assert len(databases(database_url)) == 4
    annals.pasts._filler.let_go([id])
    annals.pasts.tidy()
    assert [past.at for past in annals.pasts.all()] == [read]
    assert len(databases(database_url)) == 1
    annals.as_of(read)


def test_a_past_that_fails_says_so_leaves_nothing_and_can_be_begun_anew(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime.now(UTC)

    def fails(*_: object) -> None:
        raise RuntimeError(PLANTED)

    with monkeypatch.context() as patched:
        patched.setattr(filling.filters, "refresh", fails)
        with pytest.raises(Unavailable, match="operator's log") as said:
            seen_at(annals, at)
    assert PLANTED not in said.value.detail
    assert state_of(annals, at) == "failed"
    annals.pasts.begin(at)
    seen_at(annals, at)
    annals.pasts.tidy()
    assert len(databases(database_url)) == 1


def test_without_the_right_to_create_databases_it_is_said_which_is_needed(
    database_url: str,
) -> None:
    without = make_conninfo(database_url, options="-c role=annals_views")
    with pytest.raises(Unavailable, match="CREATEDB"):
        PastDatabases(without).require_right()


def test_only_the_owner_may_connect_to_a_past(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    seen_at(annals, datetime.now(UTC))
    [name] = databases(database_url)
    with owner(database_url) as conn:
        query = "SELECT has_database_privilege('annals_log', %s, 'CONNECT')"
        assert conn.execute(query, (name,)).fetchone() == (False,)


def test_a_condition_on_metadata_is_counted_when_it_is_first_asked_of_a_past(
    annals: Annals,
) -> None:
    stored(annals, track("u1"), track("u1"))
    define(annals, Did("event", "login", where=[MetadataIs("where", Is("the web"))]))
    at = datetime.now(UTC)
    stored(annals, track("u1"))
    past = seen_at(annals, at)
    condition = Did("event", "login", AtLeastTimes(1), None, [MetadataIs("where", Is("app"))])
    with past.queries.connect() as conn, pytest.raises(NotReady):
        need(conn, condition)
    annals.pasts.count()
    with past.queries.connect() as conn:
        need(conn, condition)
        # Nothing decides there, so what was defined then is not counted before somebody asks.
        assert conn.scalar(sa.text("SELECT count(*) FROM views.counters")) == 1


class TestErased:
    """Whoever is erased now is erased in every past: in one that is there, in one that is being
    made, and in one that is made later."""

    def test_case_21_time_travel_to_before_the_erasure_shows_the_erased_nowhere(
        self, annals: Annals, open_annals: Callable[[], Annals], database_url: str
    ) -> None:
        stored(annals, identify("u1", name=PLANTED), group("u1", "a1"), track("u1", "a1"))
        stored(annals, identify("u2", name="Bob"))
        project(annals)
        at = datetime.now(UTC)
        id, elsewhere = subject_of(annals, "u1"), open_annals()
        assert name_of(seen_at(annals, at), id) == PLANTED
        assert name_of(elsewhere.as_of(at), id) == PLANTED
        [before] = databases(database_url)
        findings = annals.residue_scan.scan([PLANTED]).findings
        assert any(before in finding.place for finding in findings)
        request = ask(elsewhere, id)
        for process in (annals, elsewhere):
            with pytest.raises(NotReady):
                process.as_of(at)
        done = erased(elsewhere, id)
        assert done.id == request.id
        assert before not in databases(database_url)
        past = seen_at(annals, at)
        with pytest.raises(NotFound):
            name_of(past, id)
        assert name_of(past, subject_of(annals, "u2")) == "Bob"
        assert annals.residue_scan.scan([PLANTED]).findings == []

    def test_a_past_that_is_being_made_ends_with_the_key(
        self, annals: Annals, database_url: str, held: Callable[[], None]
    ) -> None:
        stored(annals, identify("u1", name=PLANTED))
        project(annals)
        at, id = datetime.now(UTC), subject_of(annals, "u1")
        begun = annals.pasts.begin(at)
        ask(annals, id)
        held()
        annals.pasts._threads.submit(lambda: None).result(30)
        with pytest.raises(NotFound):
            annals.pasts.find(begun.id)
        assert databases(database_url) == []
        with pytest.raises(NotFound):
            name_of(seen_at(annals, at), id)

    def test_an_erasure_waits_for_the_pasts_to_be_dropped(
        self, annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored(annals, identify("u1", name=PLANTED))
        project(annals)
        id = subject_of(annals, "u1")
        seen_at(annals, datetime.now(UTC))
        request = ask(annals, id)
        project(annals)

        def stays(*_: object) -> None:
            raise psycopg.errors.ObjectInUse

        with monkeypatch.context() as patched:
            patched.setattr(PastDatabases, "drop", stays)
            annals.erasures.step()
            waiting = annals.erasures.record.get(request.id)
            assert waiting.forgotten_at is None
            assert waiting.waits_for == "the databases of pasts cannot be dropped yet"
        assert len(databases(database_url)) == 1
        annals.erasures.step()
        assert annals.erasures.record.get(request.id).forgotten_at is not None
        assert databases(database_url) == []
