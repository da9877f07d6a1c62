"""A subject's key goes on as a new version long before it has sealed all that it may."""

from __future__ import annotations

import os
import statistics
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from domain.activity import Activity, ActivityKind
from domain.errors import SubjectErased
from domain.events.event import Event
from domain.events.payloads import Tracked
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.subjects.user import User
from infra.bootstrap.annals import Annals
from infra.keys import key_versions
from infra.keys.key_encryption import KEY_BYTES
from infra.keys.key_ring import CACHE_SECONDS
from infra.keys.key_versions import INSERT_KEYS, LOCK_KEY, Sampler, new_keys
from infra.keys.opening import Tampered
from infra.keys.snapshot_sealing import SnapshotSealer
from tests.commands import identify
from tests.infra.commands import events_of, stored, subject_of, user_of
from tests.infra.erasures import destroy_keys, erase
from tests.infra.keys.test_sealing import placed

LIMIT = 1 << 32
"""Messages that AES-GCM with random nonces of 96 bits may seal under one key (SP 800-38D)."""


def new() -> SubjectId:
    return SubjectId(uuid.uuid4())


def tracked(user: SubjectId, account: SubjectId | None = None) -> Event:
    payload = Tracked(Activity(ActivityKind.EVENT, "login"))
    return Event(SubjectKind.USER, user, None, datetime.now(UTC), payload, account)


def versions(database_url: str, subject: SubjectId) -> list[tuple[int, str, int]]:
    with psycopg.connect(database_url) as conn:
        return conn.execute(
            "SELECT version, state, seals FROM keys.subject_keys WHERE subject = %s"
            " ORDER BY version",
            (subject,),
        ).fetchall()


def roll(annals: Annals, subject: SubjectId) -> None:
    """As if its newest version had sealed all that it should."""
    newest = annals.keys.fetch_anew({subject.int})[subject.int].version
    assert annals.keys.versions.add(subject, newest + 1)


@pytest.fixture
def every_seal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seal is drawn, and counts for one; ten are enough for a version."""
    monkeypatch.setattr(key_versions, "SEALS_A_COUNT", 1)
    monkeypatch.setattr(key_versions, "SEALS_A_VERSION", 10)
    monkeypatch.setattr(Sampler, "draw", lambda _, count: list(range(count)))


def test_the_limit_is_far_above_what_a_version_is_given() -> None:
    """Each seal can happen twice, as appends are tried again, and a process goes on with a key
    that it has cached: at a million a second, what is left is enough for that."""
    left = LIMIT - 2 * key_versions.SEALS_A_VERSION
    assert left > CACHE_SECONDS * 1_000_000
    # The count is a sum of chances: 1 in 100 is more than ten times its standard deviation off.
    draws = key_versions.SEALS_A_VERSION / key_versions.SEALS_A_COUNT
    assert draws**-0.5 < 0.01
    assert (1 << 15) * key_versions.SEALS_A_VERSION > 10**13  # as many versions as two bytes hold


@given(one_in=st.integers(2, 50), batches=st.lists(st.integers(0, 60), min_size=1))
def test_a_sampler_draws_within_what_it_is_given(one_in: int, batches: list[int]) -> None:
    sampler = Sampler(one_in)
    for count in batches:
        drawn = sampler.draw(count)
        assert drawn == sorted(set(drawn))
        assert all(0 <= index < count for index in drawn)


@pytest.mark.parametrize("batch", [1, 7, 1_000])
def test_a_sampler_draws_each_by_the_same_chance_however_they_come(batch: int) -> None:
    one_in, total = 50, 200_000
    drawn: list[int] = []
    sampler = Sampler(one_in)
    for start in range(0, total, batch):
        drawn += [start + n for n in sampler.draw(batch)]
        if start % 5 == 0:  # one that begins anew is as good as one that went on
            sampler = Sampler(one_in)
    expected = total / one_in
    assert abs(len([index for index in drawn if index < total]) - expected) < 8 * expected**0.5
    assert abs(statistics.mean(drawn) - total / 2) < 0.05 * total


def test_case_4_a_new_version_begins_when_the_old_one_has_sealed_enough(
    annals: Annals, database_url: str, every_seal_counts: None
) -> None:
    user, account = new(), new()
    rows = []
    for n in range(1, 13):
        rows += annals.sealer.seal_events([tracked(user, account if n % 2 else None)])
        annals.keys._cache.clear()  # as after its five minutes
    assert versions(database_url, user) == [(1, "active", 10), (2, "active", 2)]
    assert versions(database_url, account) == [(1, "active", 6)]
    assert [row.state[:2] for row in rows] == [b"\0\1"] * 10 + [b"\0\2"] * 2
    opened = annals.sealer.open_rows([placed(row) for row in rows])
    assert all(event.payload is not None for event in opened)


def test_snapshots_count_too(annals: Annals, database_url: str, every_seal_counts: None) -> None:
    user = User(new(), version=1)
    sealed = []
    for _ in range(11):
        sealed += SnapshotSealer(annals.keys).seal([user])
        annals.keys._cache.clear()
    assert versions(database_url, user.id) == [(1, "active", 10), (2, "active", 1)]
    for one in sealed:
        found = SnapshotSealer(annals.keys).open(SubjectKind.USER, [(user.id, 1, one)])
        assert found == {user.id: user}


def test_what_another_process_sealed_with_a_newer_version_opens(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    other, user, account = open_annals(), new(), new()
    rows = other.sealer.seal_events([tracked(user, account)])
    roll(annals, user)
    roll(annals, account)
    roll(annals, account)
    annals.keys.fetch_anew({user.int, account.int})
    rows += annals.sealer.seal_events([tracked(user, account)])
    state = SnapshotSealer(annals.keys).seal([User(user, version=3)])[0]
    assert (rows[1].state[:2], rows[1].account_state[:2]) == (b"\0\2", b"\0\3")
    assert other.keys.fetch({user.int})[user.int].version == 1
    found = SnapshotSealer(other.keys).open(SubjectKind.USER, [(user, 3, state)])
    assert found == {user: User(user, version=3)}
    other.keys._cache.clear()
    other.keys._cache[user.int] = other.keys.fetch({user.int})[user.int]._older
    for one in other.sealer.open_rows([placed(row) for row in rows]):
        assert one.payload is not None
        assert one.account_part is not None


@pytest.mark.parametrize("version", [b"\0\0", b"\0\2", b"\0\3", b"\xff\xff"])
def test_a_part_does_not_open_under_another_version_than_its_own(
    annals: Annals, version: bytes
) -> None:
    user = new()
    [row] = annals.sealer.seal_events([tracked(user)])
    roll(annals, user)
    moved = msgspec.structs.replace(placed(row), state=version + row.state[2:])
    for _ in range(2):
        with pytest.raises(Tampered, match="partition 3, position 7"):
            annals.sealer.open_rows([moved])
    assert annals.sealer.open_rows([placed(row)])[0].payload is not None


def test_an_erasure_destroys_all_versions_and_no_new_one_begins_after_it(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    stored(annals, identify("u1", name="Ada"))
    subject = subject_of(annals, "u1")
    roll(annals, subject)
    stored(annals, identify("u1", name="Countess"))
    assert len(events_of(annals, subject)) == 3
    destroy_keys(annals.keys, [subject])
    assert annals.keys.versions.add(subject, 3)
    annals.keys.versions.count(subject.int, 2)
    assert [version[:2] for version in versions(database_url, subject)] == [
        (1, "destroyed"),
        (2, "destroyed"),
    ]
    for process in (annals, open_annals()):
        assert events_of(process, subject) == []
        with pytest.raises(SubjectErased):
            process.keys.fetch_or_make({subject.int})


@pytest.mark.parametrize("takes_the_rows_first", [True, False])
def test_a_version_that_begins_while_the_subject_is_erased_is_destroyed_with_it(
    annals: Annals, database_url: str, takes_the_rows_first: bool
) -> None:
    subject = new()
    annals.keys.fetch_or_make({subject.int})
    second = new_keys(annals.key_rotation.current, [subject.int], 2, [os.urandom(KEY_BYTES)])
    place = {"partition": log_partition(subject), "subject": subject}

    def destroy() -> None:
        if takes_the_rows_first:
            destroy_keys(annals.keys, [subject])
            return
        with annals.keys._pool.connection() as conn, conn.transaction():
            annals.tombstones._destroy(conn, [subject])

    with psycopg.connect(database_url) as roller, ThreadPoolExecutor() as threads:
        roller.execute(LOCK_KEY, place)
        roller.execute(INSERT_KEYS, second)
        destruction = threads.submit(destroy)
        with psycopg.connect(database_url, autocommit=True) as watcher:
            while not watcher.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            ).fetchall():
                assert not destruction.done()
        roller.commit()
        destruction.result()
    assert [version[1] for version in versions(database_url, subject)] == ["destroyed"] * 2


@pytest.mark.parametrize("what", ["a version", "the first version, by the record of the erasure"])
def test_a_key_that_a_backup_brings_back_is_destroyed_before_anything_is_served(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str, what: str
) -> None:
    stored(annals, identify("u1", name="Ada"), identify("u2", name="Bob"))
    subject = subject_of(annals, "u1")
    with psycopg.connect(database_url, autocommit=True) as conn:
        backup = conn.execute(
            "SELECT * FROM keys.subject_keys WHERE subject = %s", (subject,)
        ).fetchone()
        identities = conn.execute(
            "SELECT * FROM keys.identities WHERE subject = %s", (subject,)
        ).fetchall()
        erase(annals, subject)
        if what == "a version":
            backup = (*backup[:2], 2, *backup[3:])
            conn.execute("DELETE FROM keys.erasures")
        else:
            conn.execute("DELETE FROM keys.subject_keys WHERE subject = %s", (subject,))
        marks = ", ".join(["%s"] * len(backup))
        conn.execute(f"INSERT INTO keys.subject_keys VALUES ({marks})", backup)
        for row in identities:
            conn.execute("INSERT INTO keys.identities VALUES (%s, %s, %s)", row)
    with capture_logs() as logged:
        after = open_annals()
    assert [(one["event"], one["subjects"]) for one in logged] == [("keys.destroyed_again", 1)]
    assert {state for _, state, _ in versions(database_url, subject)} == {"destroyed"}
    assert subject_of(after, "u1") is None
    for process in (annals, after):
        assert [event.topic for event in events_of(process, subject)] == ["user.erased"]
        assert user_of(process, "u2").properties == {"name": "Bob"}


def test_a_tombstone_wins_over_an_active_version_before_any_check(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    running, subject = open_annals(), new()
    annals.keys.fetch_or_make({subject.int})
    roll(annals, subject)
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "UPDATE keys.subject_keys SET state = 'destroyed', wrapped = NULL,"
            " destroyed_at = now() WHERE version = 1"
        )
    assert running.keys.fetch({subject.int}) == {}
    with pytest.raises(SubjectErased):
        running.keys.fetch_or_make({subject.int})
