"""The library's interfaces over our log: what is inserted, selected, replayed, snapshotted."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest
from eventsourcing.application import AggregateNotFoundError
from eventsourcing.persistence import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import PropertiesChanged, Registered, Tracked
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, log_partition
from domain.subjects.history import new_subject, replay
from domain.subjects.subject import SNAPSHOT_EVERY
from domain.subjects.user import User
from infra.bootstrap import Annals
from infra.log.event_log import READ_STREAMS
from infra.write.aggregates import LogRecorder, SealingMapper
from tests.commands import AT
from tests.infra.erasures import destroy_keys
from tests.infra.plans import nodes

LOGIN = Tracked(Activity(ActivityKind.EVENT, "login"))


def new() -> SubjectId:
    return SubjectId(uuid.uuid4())


def history(user: SubjectId, count: int) -> list[Event]:
    begun = Registered((Identity(Scheme.USER_ID, str(user)),))
    payloads = [begun, *(PropertiesChanged({f"p{n % 7}": n}) for n in range(2, count + 1))]
    return [Event(SubjectKind.USER, user, n, AT, one) for n, one in enumerate(payloads, 1)]


def append(annals: Annals, *events: Event) -> None:
    annals.log.append(annals.sealer.seal_events(events))


def from_the_beginning(events: list[Event]) -> object:
    return replay(new_subject(SubjectKind.USER, events[0].stream), events)


def snapshots(database_url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as conn:
        return conn.execute("SELECT stream, version FROM log.snapshots").fetchall()


@given(
    gt=st.none() | st.integers(0, 9),
    lte=st.none() | st.integers(0, 9),
    desc=st.booleans(),
    limit=st.none() | st.integers(0, 9),
)
def test_selecting_is_as_the_library_says(
    annals: Annals, gt: int | None, lte: int | None, desc: bool, limit: int | None
) -> None:
    mapper, recorder, user = SealingMapper(annals.sealer), LogRecorder(annals.log), new()
    events = history(user, 6)
    recorder.insert_events([mapper.to_stored_event(one) for one in events])
    append(annals, Event(SubjectKind.USER, user, None, AT, LOGIN))
    chosen = recorder.select_events(user, gt=gt, lte=lte, desc=desc, limit=limit)
    expected = [
        one
        for one in events
        if (gt is None or one.version > gt) and (lte is None or one.version <= lte)
    ]
    expected = (expected[::-1] if desc else expected)[:limit]
    assert [one.originator_version for one in chosen] == [one.version for one in expected]
    assert {one.originator_id for one in chosen} <= {user}
    assert [mapper.to_domain_event(one) for one in chosen] == expected


def test_inserting_a_version_that_exists_is_an_integrity_error_and_stores_nothing(
    annals: Annals,
) -> None:
    mapper, recorder, user = SealingMapper(annals.sealer), LogRecorder(annals.log), new()
    stored = [mapper.to_stored_event(one) for one in history(user, 4)]
    recorder.insert_events(stored[:2])
    with pytest.raises(IntegrityError):
        recorder.insert_events(stored[1:])
    assert [one.originator_version for one in recorder.select_events(user)] == [1, 2]
    recorder.insert_events(stored[2:])
    assert len(recorder.select_events(user)) == 4


@given(lengths=st.lists(st.integers(1, 2 * SNAPSHOT_EVERY + 5), min_size=1, max_size=3))
def test_loading_equals_replaying_from_the_beginning_with_and_without_snapshots(
    annals: Annals, lengths: list[int]
) -> None:
    user, events = new(), history(new(), sum(lengths))
    events = [Event(one.kind, user, one.version, one.occurred_at, one.payload) for one in events]
    done = 0
    for length in lengths:
        append(annals, *events[done : done + length])
        done += length
        for _ in range(2):
            loaded = annals.aggregates.load({user: SubjectKind.USER})
            assert loaded == {user: from_the_beginning(events[:done])}
    for version in {1, done // 2, done} - {0}:
        at_version = annals.aggregates.at_version(user, SubjectKind.USER, version)
        assert at_version == from_the_beginning(events[:version])


def test_many_subjects_are_loaded_at_once_and_those_that_have_not_begun_have_version_0(
    annals: Annals,
) -> None:
    users, nobody = [new() for _ in range(20)], new()
    for n, user in enumerate(users, 1):
        append(annals, *history(user, n))
    loaded = annals.aggregates.load(dict.fromkeys([*users, nobody], SubjectKind.USER))
    assert loaded.pop(nobody) == User(nobody)
    assert loaded == {user: from_the_beginning(history(user, n)) for n, user in enumerate(users, 1)}
    with pytest.raises(AggregateNotFoundError):
        annals.aggregates.at_version(nobody, SubjectKind.USER, 1)


def test_a_snapshot_is_taken_when_enough_happened_and_is_then_all_that_is_read(
    annals: Annals, database_url: str
) -> None:
    user, events = new(), history(new(), SNAPSHOT_EVERY + 1)
    events = [Event(one.kind, user, one.version, one.occurred_at, one.payload) for one in events]
    append(annals, *events[: SNAPSHOT_EVERY - 1])
    annals.aggregates.load({user: SubjectKind.USER})
    assert snapshots(database_url) == []
    append(annals, *events[SNAPSHOT_EVERY - 1 :])
    expected = annals.aggregates.load({user: SubjectKind.USER})
    assert snapshots(database_url) == [(user, SNAPSHOT_EVERY + 1)]
    with psycopg.connect(database_url) as conn:
        conn.execute("DELETE FROM log.events")
    assert annals.aggregates.load({user: SubjectKind.USER}) == expected


def test_a_snapshot_is_never_replaced_by_an_older_one(annals: Annals, database_url: str) -> None:
    user = new()
    annals.sealer.seal_events(history(user, 1))
    annals.aggregates._save([User(user, version=80)])
    annals.aggregates._save([User(user, version=60)])
    assert snapshots(database_url) == [(user, 80)]


def test_the_snapshot_of_an_erased_subject_is_of_no_use(annals: Annals) -> None:
    user = new()
    append(annals, *history(user, SNAPSHOT_EVERY))
    assert annals.aggregates.load({user: SubjectKind.USER})[user].version == SNAPSHOT_EVERY
    destroy_keys(annals.keys, [user])
    assert annals.aggregates.load({user: SubjectKind.USER}) == {user: User(user)}
    with pytest.raises(LookupError):
        annals.aggregates.at_version(user, SubjectKind.USER, 1)


def test_loading_reads_no_tracked_activity_however_much_there_is(
    annals: Annals, database_url: str
) -> None:
    user = new()
    append(annals, *history(user, 3))
    append(annals, *[Event(SubjectKind.USER, user, None, AT, LOGIN)] * 20_000)
    with psycopg.connect(database_url) as conn:
        conn.execute("ANALYZE log.events")
        [[[plan]]] = conn.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON)" + READ_STREAMS, ([log_partition(user)], [user], [0])
        ).fetchall()
    reads = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == "events"]
    assert len(reads) == 1, json.dumps(plan)
    assert reads[0]["Index Name"] == "events_version"
    assert reads[0]["Actual Rows"] * reads[0]["Actual Loops"] == 3
    assert not reads[0].get("Rows Removed by Filter")
