"""Retention by age: what becomes of tracked activity once it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from domain.activity import Activity, ActivityKind
from domain.commands import Alias, Command, Join, Refused, Request, Stored, Track
from domain.conditions import language as ask
from domain.definitions.retention import Counts, Retention, month_of
from domain.definitions.types import DefinitionId, Settings
from domain.errors import Conflict, NotReady, PeriodOver
from domain.events.event import Event
from domain.events.payloads import Tracked
from domain.identity import SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from infra.erasure import purge
from tests.examples import examples
from tests.infra.erasures import erase
from tests.infra.retention import JULY, JUNE, MAY, end, recorded, write_some
from tests.projections.counting import need
from tests.projections.read_models import (
    account,
    dump,
    empty,
    event,
    forget_read_models,
    found,
    owner,
    parked,
    project,
    user,
    write,
)
from tests.serving import until


def rebuilt(annals: Annals, url: str) -> dict[str, list[str]]:
    forget_read_models(url)
    project(annals)
    assert parked(url) == []
    return dump(url)


@pytest.mark.parametrize("counts", Counts)
def test_case_33_old_activity_is_unreadable_counts_are_as_chosen_and_newer_is_untouched(
    annals: Annals, database_url: str, counts: Counts
) -> None:
    write_some(annals)
    project(annals)
    before, newer = dump(database_url), [event for event in recorded(annals) if event.payload]
    end(annals, counts=counts)
    decrypted = recorded(annals)
    gone = [event for event in decrypted if event.row.occurred_at < JUNE]
    assert len(gone) == 4
    assert all(not each.is_kept and each.payload is None is each.account_part for each in gone)
    kept = [event for event in decrypted if event.row.occurred_at >= JUNE]
    assert kept == [event for event in newer if event.row.occurred_at >= JUNE]
    project(annals)
    live = dump(database_url)
    sums = [recorded(annals, f"{kind}.activity_summed") for kind in SubjectKind]
    assert [run.sums for run in annals.retention.runs()] == [sum(map(len, sums))]
    if counts is Counts.KEEP:
        assert all(sums)
        assert live == before
    else:
        assert not any(sums), "what was counted is nowhere, the log included"
        assert live["names"] == ["event login"]
        assert all("2024-07-04" in row for row in live["activity_days"])
    assert rebuilt(annals, database_url) == live


def test_one_row_ends_a_month_for_everybody(annals: Annals, database_url: str) -> None:
    write_some(annals)
    end(annals)
    with owner(database_url) as conn:
        rows = conn.execute(
            "SELECT period::text, state, wrapped IS NULL FROM keys.period_keys ORDER BY 1"
        ).fetchall()
        states = conn.execute("SELECT DISTINCT state FROM keys.subject_keys").fetchall()
    assert rows == [
        ("2024-04-01", "destroyed", True),
        ("2024-05-01", "destroyed", True),
        ("2024-06-01", "active", False),
        ("2024-07-01", "active", False),
    ]
    assert states == [("active",)]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "PATIENCE_SECONDS", 0)


@pytest.mark.usefixtures("_impatient")
def test_the_secret_of_a_month_goes_from_the_files_too(annals: Annals, database_url: str) -> None:
    write_some(annals)
    with owner(database_url) as conn:
        [(wrapped,)] = conn.execute(
            "SELECT wrapped FROM keys.period_keys WHERE period = '2024-05-01'"
        ).fetchall()
    with owner(database_url) as reader, reader.transaction():
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM keys.period_keys")
        project(annals)
        annals.retention.begin(JUNE, Counts.KEEP, by="a test")
        waits_for = annals.retention.go_on()
        assert waits_for is not None
        assert "still see" in waits_for
        assert wrapped in _file_of(database_url)
    until(lambda: annals.retention.go_on() is None)
    assert wrapped not in _file_of(database_url)


@pytest.mark.usefixtures("_impatient")
def test_it_stays_there_for_whoever_wrote_elsewhere_on_the_server_and_whoever_saw_that(
    annals: Annals, database_url: str
) -> None:
    """A snapshot is as old as the oldest transaction that writes, in whichever database."""
    write_some(annals)
    with owner(database_url) as conn:
        [(wrapped,)] = conn.execute(
            "SELECT wrapped FROM keys.period_keys WHERE period = '2024-05-01'"
        ).fetchall()
    project(annals)
    with psycopg.connect(make_conninfo(database_url, dbname="postgres")) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")
        annals.retention.begin(JUNE, Counts.KEEP, by="a test")
        assert "still see" in (annals.retention.go_on() or "")
        with owner(database_url) as reader, reader.transaction():
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT")
            elsewhere.rollback()
            assert "still see" in (annals.retention.go_on() or "")
            assert wrapped in _file_of(database_url)
    until(lambda: annals.retention.go_on() is None)
    assert wrapped not in _file_of(database_url)


def _file_of(url: str) -> bytes:
    """The file in which secrets of months are."""
    with owner(url) as conn:
        conn.execute("CHECKPOINT")
        [(file,)] = conn.execute(
            "SELECT pg_read_binary_file(pg_relation_filepath('keys.period_keys'))"
        ).fetchall()
    return bytes(file)


def test_a_run_is_on_record(annals: Annals) -> None:
    write_some(annals)
    assert annals.retention.count(JUNE) == (5, 0)
    end(annals)
    [run] = annals.retention.runs()
    assert (run.ends, run.counts, run.requested_by) == (JUNE, Counts.KEEP, "a test")
    assert (run.events, run.unsealed, run.sums, run.partitions) == (5, 0, 4, 256)
    assert run.destroyed_at is not None
    assert run.completed_at is not None


def test_a_late_event_is_refused_and_nothing_of_it_is_stored(annals: Annals) -> None:
    write_some(annals)
    end(annals)
    heads = annals.log.heads(range(256))
    late = Track(user("late"), (), event("login"), MAY)
    [refused, stored] = annals.handler.handle(
        [Request(late), Request(Track(user("ann"), (), event("login"), JULY))]
    )
    assert isinstance(refused, Refused)
    assert isinstance(stored, Stored)
    assert (refused.code, refused.pointer) == ("no-longer-kept", "/timestamp")
    assert "2024-06-01" in refused.detail
    assert annals.subject_lookup.find(user("late")[0]) is None
    assert sum(annals.log.heads(range(256)).values()) == sum(heads.values()) + 1
    did = Tracked(Activity(ActivityKind.EVENT, "login"))
    event_of_may = Event(SubjectKind.USER, found(annals, user("ann")), None, MAY, did)
    with pytest.raises(PeriodOver):
        annals.sealer.sealing([event_of_may])


def test_what_was_on_its_way_when_a_run_began_is_not_kept(
    annals: Annals, database_url: str
) -> None:
    write_some(annals)
    ann = found(annals, user("ann"))
    did = Tracked(Activity(ActivityKind.EVENT, "slow"))
    on_its_way = annals.sealer.sealing([Event(SubjectKind.USER, ann, None, MAY, did)])
    project(annals)
    annals.retention.begin(JUNE, Counts.KEEP, by="a test")
    annals.log.append(on_its_way)
    project(annals)
    assert "event slow" not in dump(database_url)["names"]
    until(lambda: annals.retention.go_on() is None)
    live = dump(database_url)
    assert rebuilt(annals, database_url) == live


def test_nothing_is_destroyed_before_the_read_models_have_counted_it(
    annals: Annals, database_url: str
) -> None:
    write_some(annals)
    project(annals)
    write(annals, Track(user("ann"), (), event("login"), MAY))
    annals.retention.begin(JUNE, Counts.KEEP, by="a test")
    waits_for = annals.retention.go_on()
    assert waits_for is not None
    assert "read models" in waits_for
    assert [run.waits_for for run in annals.retention.runs()] == [waits_for]
    assert all(event.payload is not None for event in recorded(annals))
    project(annals)
    until(lambda: annals.retention.go_on() is None)
    live = dump(database_url)
    assert rebuilt(annals, database_url) == live


def test_a_legal_hold_forbids_a_run_to_begin_and_to_end(annals: Annals) -> None:
    write_some(annals)
    ann = found(annals, user("ann"))
    hold = annals.holds.place(SubjectKind.USER, ann, reason="case-7", by="an officer")
    with pytest.raises(Conflict, match="case-7"):
        annals.retention.begin(JUNE, Counts.KEEP, by="a test")
    annals.holds.release(hold.id, reason="over", by="an officer")
    project(annals)
    annals.retention.begin(JUNE, Counts.KEEP, by="a test")
    hold = annals.holds.place(SubjectKind.USER, ann, reason="case-8", by="an officer")
    assert annals.retention.go_on() == "the release of a legal hold, for case-8"
    assert all(event.payload is not None for event in recorded(annals))
    annals.holds.release(hold.id, reason="over", by="an officer")
    until(lambda: annals.retention.go_on() is None)
    assert not any(event.is_kept for event in recorded(annals) if event.row.occurred_at < JUNE)


def test_metadata_is_counted_from_the_first_whole_day_that_is_kept(
    law: Annals, database_url: str
) -> None:
    login = (Activity(ActivityKind.EVENT, "login", {"n": 5}),)
    for at in (MAY, JUNE + timedelta(hours=1), JULY):
        write(law, Track(user("ann"), (), login, at))
    project(law)
    assert len(dump(database_url)["counter_days"]) == 2  # one o'clock and midnight are one day
    end(law)
    live = dump(database_url)
    assert len(live["counter_days"]) == 1
    assert rebuilt(law, database_url) == live


def test_counts_that_a_run_will_drop_are_there_until_it_does(
    annals: Annals, database_url: str
) -> None:
    write_some(annals)
    project(annals)
    before = dump(database_url)
    annals.retention.begin(JUNE, Counts.DROP, by="a test")
    assert rebuilt(annals, database_url) == before


class _Killed(Exception):
    """Where a process dies."""


@pytest.mark.parametrize("place", ["between partitions", "in a partition", "once destroyed"])
def test_a_run_that_is_killed_is_gone_on_with(
    annals: Annals, database_url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_some(annals)
    project(annals)
    before = dump(database_url)
    annals.retention.begin(JUNE, Counts.KEEP, by="a test")
    left = 2 if place == "in a partition" else 1

    def die(*_: object, **__: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise _Killed

    if place == "between partitions":
        with pytest.raises(_Killed):
            annals.retention.go_on(die)
    else:
        if place == "in a partition":
            append = annals.working_log.append
            monkeypatch.setattr(
                annals.working_log,
                "append",
                lambda rows: (append(rows), die()),
            )
        else:
            monkeypatch.setattr("infra.erasure.retention.read_models.forget", die)
        with pytest.raises(_Killed):
            annals.retention.go_on()
        monkeypatch.undo()
    until(lambda: annals.retention.go_on() is None)
    [run] = annals.retention.runs()
    assert run.completed_at is not None
    assert run.events == 5
    assert len(recorded(annals, "user.activity_summed")) == 3
    project(annals)
    assert dump(database_url) == before
    assert rebuilt(annals, database_url) == before


def test_period_keys_move_with_the_key_encryption_key(annals: Annals, database_url: str) -> None:
    write_some(annals)
    wrapping = annals.key_rotation
    before = wrapping.current.id
    after = wrapping.begin_rotation()
    assert not wrapping.end_rotation()
    for _ in wrapping.rewrap():
        pass
    assert wrapping.outstanding() == 0
    assert wrapping.end_rotation()
    with owner(database_url) as conn:
        under = conn.execute("SELECT DISTINCT key_encryption_key FROM keys.period_keys").fetchall()
    assert under == [(after,)]
    assert after != before
    annals.sealer.refresh()
    assert all(event.payload is not None for event in recorded(annals))


def test_what_was_sealed_before_there_were_period_keys_opens_until_it_is_over(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("infra.keys.sealing.MONTH_KEYS_VERSION", 1)
        before.setattr("infra.keys.subject_key.SubjectKey.of_month", lambda key, _: key)
        write_some(annals)
    write(annals, Track(user("ann"), (), event("login"), MAY))
    assert {event.row.schema_version for event in recorded(annals)} == {1, 2}
    assert all(event.payload is not None for event in recorded(annals))
    assert annals.retention.count(JUNE) == (6, 5)
    end(annals)
    assert annals.retention.runs()[0].unsealed == 5
    assert not any(event.is_kept for event in recorded(annals) if event.row.occurred_at < JUNE)
    live = dump(database_url)
    assert rebuilt(annals, database_url) == live


def test_erasures_go_with_sums_as_with_activity(annals: Annals, database_url: str) -> None:
    write_some(annals)
    end(annals)
    ann = found(annals, user("ann"))
    erase(annals, ann)
    project(annals)
    live = dump(database_url)
    assert not any(str(ann) in row for row in live["activity_days"])
    assert any("login" in row for row in live["activity_days"])
    assert rebuilt(annals, database_url) | {"catalogue": []} == live | {"catalogue": []}


def test_the_account_of_somebody_erased_before_keeps_its_counts(
    annals: Annals, database_url: str
) -> None:
    write_some(annals)
    ann = found(annals, user("ann"))
    erase(annals, ann)
    project(annals)
    before = dump(database_url)["activity_days"]
    end(annals)
    assert dump(database_url)["activity_days"] == before
    assert rebuilt(annals, database_url)["activity_days"] == before


def test_a_database_that_was_restored_ends_again_what_is_over(
    open_annals: Callable[[], Annals], database_url: str
) -> None:
    annals = open_annals()
    write_some(annals)
    with owner(database_url) as conn:
        for table in ("period_keys", "retention_runs"):
            conn.execute(f"CREATE TABLE backup_{table} AS SELECT * FROM keys.{table}")
    end(annals)
    project(annals)
    before = dump(database_url)
    sums = len(recorded(annals, "user.activity_summed"))
    with owner(database_url) as conn:
        for table in ("period_keys", "retention_runs"):
            conn.execute(f"DELETE FROM keys.{table}")
            conn.execute(f"INSERT INTO keys.{table} SELECT * FROM backup_{table}")
        conn.execute("UPDATE keys.generation SET value = value + 1")
    assert all(event.payload is not None for event in recorded(annals))
    again = open_annals()
    assert not any(event.is_kept for event in recorded(again) if event.row.occurred_at < JUNE)
    assert len(recorded(again, "user.activity_summed")) == sums
    project(again)
    assert dump(database_url) == before
    assert [run.ends for run in again.retention.runs()] == [JUNE]


def test_time_passes_and_the_upkeep_does_what_was_chosen(annals: Annals) -> None:
    write_some(annals)
    project(annals)
    now = datetime(2025, 6, 15, tzinfo=UTC)
    annals.retention.upkeep(now)
    assert annals.retention.runs() == []
    chosen = Settings(retention=Retention(12))
    by = uuid4()
    annals.definitions.decide(
        lambda state: editing.choose(state, DefinitionId(uuid4()), chosen, by), now
    )
    project(annals)
    annals.retention.upkeep(now)
    annals.retention.upkeep(now + timedelta(days=1))
    [run] = annals.retention.runs()
    assert (run.ends, run.requested_by) == (JUNE, "upkeep")
    assert run.completed_at is not None
    annals.retention.upkeep(now + timedelta(days=30))
    assert [run.ends for run in annals.retention.runs()] == [
        datetime(2024, 7, 1, tzinfo=UTC),
        JUNE,
    ]


def test_months_are_those_of_utc() -> None:
    east = MAY.astimezone(datetime.fromisoformat("2024-01-01T00:00+02:00").tzinfo)
    assert east.month == 6
    assert month_of(east) == month_of(MAY) == 2024 * 12 + 4


# About where months meet, in UTC and two hours before that in Brussels.
_instants = st.builds(
    lambda month, hours: datetime(2024, month, 1, tzinfo=UTC) + timedelta(hours=hours),
    st.integers(4, 7),
    st.sampled_from([-400, -30, -3, -2, -1, 0, 1, 21, 22, 50]),
)
_users, _accounts = st.sampled_from("abc"), st.sampled_from("xy")
_tracks = st.builds(
    lambda u, a, name, at, n: Track(
        user(u) if u else (),
        account(a) if a or not u else (),
        (Activity(ActivityKind.EVENT, name, {"n": n}), Activity(ActivityKind.PAGE, f"{name}.be")),
        at,
    ),
    _users | st.none(),
    _accounts,
    st.sampled_from(["login", "paid"]),
    _instants,
    st.integers(0, 3),
) | st.builds(lambda u, at: Track(user(u), (), event("solo"), at), _users, _instants)
_commands: st.SearchStrategy[Command] = (
    _tracks
    | _tracks
    | st.builds(lambda u, v, at: Alias(user(u), user(v), at), _users, _users, _instants)
    | st.builds(
        lambda u, a, at: Join(user(u), account(a), {}, {}, at), _users, _accounts, _instants
    )
)
_runs = st.builds(
    lambda month, counts: (datetime(2024, month, 1, tzinfo=UTC), counts),
    st.integers(4, 7),
    st.sampled_from(Counts),
)


@settings(max_examples=examples(10))
@given(st.lists(st.tuples(st.lists(_commands, max_size=6), _runs), min_size=1, max_size=3))
def test_live_equals_rebuilt_whatever_was_ended_when(
    database_url: str, law: Annals, steps: list[tuple[list[Command], tuple[datetime, Counts]]]
) -> None:
    empty(database_url)
    with owner(database_url) as conn:
        conn.execute("DELETE FROM keys.period_keys; DELETE FROM keys.retention_runs")
        conn.execute("UPDATE keys.generation SET value = value + 1")
    choose_brussels(law)
    ended = datetime(1, 1, 1, tzinfo=UTC)
    for commands, (ends, counts) in steps:
        law.handler.handle([Request(command) for command in commands])
        if ends > ended:
            end(law, ends, counts)
            ended = ends
    project(law)
    live = dump(database_url)
    assert rebuilt(law, database_url) == live


def choose_brussels(annals: Annals) -> None:
    chosen = Settings(time_zone="Europe/Brussels")
    annals.definitions.decide(
        lambda state: editing.choose(state, DefinitionId(uuid4()), chosen, uuid4()), MAY
    )


@pytest.fixture
def law(annals: Annals) -> Annals:
    """In a workspace whose days are not those of UTC, that counts some metadata."""
    choose_brussels(annals)
    condition = ask.Did(
        "event", "login", ask.Occurred(), None, [ask.MetadataIs("n", ask.AtLeast(2))]
    )
    with pytest.raises(NotReady), annals.queries.connect() as conn:
        need(conn, condition)
    filler = annals.filler()
    while filler.step():
        pass
    return annals
