"""Aggregates are loaded from snapshots and events, many at once."""

from __future__ import annotations

import json

import psycopg
from hypothesis import given
from hypothesis import strategies as st

from domain.events.event import Event
from domain.identity import SubjectKind, log_partition
from domain.subjects.subject import SNAPSHOT_EVERY
from domain.subjects.user import User
from infra.bootstrap.annals import Annals
from infra.log.event_log import SELECT_STREAMS
from tests.infra.erasures import destroy_keys
from tests.infra.plans import nodes
from tests.infra.rows import AT
from tests.infra.write.histories import LOGIN, append, from_the_beginning, history, new


def snapshots(database_url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as conn:
        return conn.execute("SELECT stream, version FROM log.snapshots").fetchall()


@given(lengths=st.lists(st.integers(1, 2 * SNAPSHOT_EVERY + 5), min_size=1, max_size=3))
def test_loading_equals_replaying_from_the_beginning_with_and_without_snapshots(
    annals: Annals, lengths: list[int]
) -> None:
    user = new()
    events = history(user, sum(lengths))
    done = 0
    for length in lengths:
        append(annals, *events[done : done + length])
        done += length
        for _ in range(2):
            loaded = annals.aggregates.load({user: SubjectKind.USER})
            assert loaded == {user: from_the_beginning(events[:done])}


def test_many_subjects_are_loaded_at_once_and_those_that_have_not_begun_have_version_0(
    annals: Annals,
) -> None:
    users, nobody = [new() for _ in range(20)], new()
    for n, user in enumerate(users, 1):
        append(annals, *history(user, n))
    loaded = annals.aggregates.load(dict.fromkeys([*users, nobody], SubjectKind.USER))
    assert loaded.pop(nobody) == User(nobody)
    assert loaded == {user: from_the_beginning(history(user, n)) for n, user in enumerate(users, 1)}


def test_a_snapshot_is_taken_when_enough_happened_and_is_then_all_that_is_read(
    annals: Annals, database_url: str
) -> None:
    user = new()
    events = history(user, SNAPSHOT_EVERY + 1)
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


def test_loading_reads_no_tracked_activity_however_much_there_is(
    annals: Annals, database_url: str
) -> None:
    user = new()
    append(annals, *history(user, 3))
    append(annals, *[Event(SubjectKind.USER, user, None, AT, LOGIN)] * 20_000)
    with psycopg.connect(database_url) as conn:
        conn.execute("ANALYZE log.events")
        [[[plan]]] = conn.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON)" + SELECT_STREAMS,
            {"partitions": [log_partition(user)], "streams": [user], "after": [0]},
        ).fetchall()
    reads = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == "events"]
    assert len(reads) == 1, json.dumps(plan)
    assert reads[0]["Index Name"] == "events_version"
    assert reads[0]["Actual Rows"] * reads[0]["Actual Loops"] == 3
    assert not reads[0].get("Rows Removed by Filter")
