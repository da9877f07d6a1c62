"""The erase command: unreadable at once, nobody else touched, finished after any crash."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from domain.commands import Command, Outcome, Position, Request, Stored
from domain.erasure.erasure import Erasure
from domain.errors import NotFound, Unavailable
from domain.events.payloads import Tracked
from domain.identity import SubjectId, SubjectKind
from domain.subjects.subject import SNAPSHOT_EVERY
from infra.bootstrap.annals import Annals
from tests.commands import AT, alias, group, identify, named, track, values
from tests.infra import chain
from tests.infra.commands import events_of, loaded, stored, subject_of, user_of
from tests.infra.erasures import erase
from tests.serving import until


def answer(server: Annals, requests: list[Request]) -> list[Outcome]:
    """As a sender does: what cannot be answered now is sent again."""
    while True:
        try:
            return server.handler.handle(requests)
        except Unavailable:
            continue


def unfinished(database_url: str) -> list[SubjectId]:
    with psycopg.connect(database_url) as conn:
        return [
            row[0]
            for row in conn.execute("SELECT subject FROM keys.erasures WHERE completed_at IS NULL")
        ]


def test_case_7_an_erased_users_events_are_unreadable_in_every_process(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    other = open_annals()
    stored(annals, identify("u1", name="Ada"), track("u1", "a1"), identify("u2", name="Bob"))
    gone, kept = subject_of(annals, "u1"), subject_of(annals, "u2")
    assert events_of(other, gone)
    account = loaded(annals, "a1")
    partition, _, position = erase(annals, gone).position.partition(":")
    for process in (annals, other):
        assert [event.topic for event in events_of(process, gone)] == ["user.erased"]
        assert process.aggregates.load({gone: SubjectKind.USER})[gone].version == 0
        assert subject_of(process, "u1") is None
        assert user_of(process, "u2").properties == {"name": "Bob"}
        assert loaded(process, "a1") == account
    assert len(events_of(annals, kept)) == 2
    assert annals.log.heads([int(partition)]) == {int(partition): int(position)}
    assert chain.problems(database_url) == []


def test_the_same_identity_again_is_a_new_subject_with_an_empty_history(annals: Annals) -> None:
    stored(annals, identify("u1 ada@example.com", name="Ada"), group("u1", "a1"))
    gone = subject_of(annals, "u1")
    erase(annals, gone)
    stored(annals, track("ada@example.com"))
    assert subject_of(annals, "u1") is None
    again = user_of(annals, "ada@example.com")
    assert again.id != gone
    assert (values(again.identities), again.properties, again.memberships) == (
        ["ada@example.com"],
        {},
        {},
    )
    assert [event.topic for event in events_of(annals, gone)] == ["user.erased"]


def test_an_erasure_reaches_all_that_was_merged_into_the_subject(annals: Annals) -> None:
    stored(annals, *(identify(f"u{n}", name=f"n{n}") for n in range(4)))
    ids = [subject_of(annals, f"u{n}") for n in range(4)]
    stored(annals, alias("u1", "u0"), alias("u2", "u1"))
    erase(annals, ids[0])  # asked for by the oldest of its ids
    assert {subject.topic for subject in events_of(annals, *ids[:3])} == {"user.erased"}
    assert [subject_of(annals, f"u{n}") for n in range(4)] == [None, None, None, ids[3]]
    assert user_of(annals, "u3").properties == {"name": "n3"}


MERGES = [alias("u1", "u2"), alias("u2", "u1"), identify("u1 u2")]


@pytest.mark.parametrize("merge", MERGES)
def test_whoever_is_merged_with_a_subject_before_its_key_goes_is_erased_too(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    merge: Command,
) -> None:
    other = open_annals()
    stored(annals, identify("u2", name="Countess"), identify("u3"), alias("u3", "u2"))
    stored(annals, identify("u1", name="Ada"), identify("u4", name="Bob"))
    erased, merged = subject_of(annals, "u1"), user_of(annals, "u2")
    everything = {erased, merged.id, *merged.absorbed}
    destroy = annals.erasure_requests._destruction.destroy

    def destroy_late(*given: Any) -> Any:
        monkeypatch.undo()
        stored(other, merge)
        return destroy(*given)

    monkeypatch.setattr(annals.erasure_requests._destruction, "destroy", destroy_late)
    erase(annals, erased)
    for process in (annals, other):
        seen = events_of(process, *everything)
        assert {each.stream for each in seen} == everything
        assert {each.topic for each in seen} == {"user.erased"}
        assert [subject_of(process, f"u{n}") for n in (1, 2, 3)] == [None] * 3
        assert user_of(process, "u4").properties == {"name": "Bob"}
    assert unfinished(database_url) == []
    assert chain.problems(database_url) == []


@pytest.mark.parametrize("merge", MERGES)
def test_a_merge_with_somebody_who_was_erased_meanwhile_takes_nobody_along(
    annals: Annals,
    open_annals: Callable[[], Annals],
    monkeypatch: pytest.MonkeyPatch,
    merge: Command,
) -> None:
    """It names somebody who is new by then, whatever the name was before."""
    other = open_annals()
    stored(annals, identify("u1", name="Ada"), identify("u2", name="Bob"))
    gone, kept = subject_of(annals, "u1"), subject_of(annals, "u2")
    annals.holds.place(SubjectKind.USER, kept, reason="lawsuit-7", by="an officer")
    sealing = other.sealer.sealing

    def sealed_late(*events: Any) -> Any:
        monkeypatch.undo()
        sealed = sealing(*events)
        erase(annals, gone)
        return sealed

    monkeypatch.setattr(other.sealer, "sealing", sealed_late)
    stored(other, merge)
    for process in (annals, other):
        assert {event.topic for event in events_of(process, gone)} == {"user.erased"}
        assert subject_of(process, "u1") == subject_of(process, "u2") == kept
        assert user_of(process, "u2").properties == {"name": "Bob"}
        assert user_of(process, "u2").absorbed == ()


def test_an_erasure_waits_for_a_merge_that_is_being_written_and_reaches_both(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = open_annals()
    stored(annals, identify("u1", name="Ada"), identify("u2", name="Bob"))
    both = [subject_of(annals, name) for name in ("u1", "u2")]
    append = other.log.append
    with ThreadPoolExecutor(1) as threads:
        erasing: list[Future[Erasure]] = []

        def append_late(*rows: Any) -> list[Position]:
            monkeypatch.undo()
            erasing.append(threads.submit(erase, annals, both[0]))
            until(lambda: somebody_waits(database_url))
            return append(*rows)

        monkeypatch.setattr(other.log, "append", append_late)
        stored(other, alias("u1", "u2"))
        assert erasing[0].result().outcomes == {"erased": 1}
    assert {subject.stream for subject in events_of(annals, *both)} == set(both)
    assert {subject.topic for subject in events_of(annals, *both)} == {"user.erased"}


def somebody_waits(database_url: str) -> bool:
    """Whether a session of the database waits for a lock."""
    with psycopg.connect(database_url) as conn:
        backend = conn.execute(
            "SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return backend.fetchone() is not None


def test_an_erased_account_leaves_its_users(annals: Annals) -> None:
    stored(annals, group("u1", "a1", role="owner"), track("u1", "a1"), track("", "a1"))
    account, user = subject_of(annals, "a1"), subject_of(annals, "u1")
    erase(annals, account, SubjectKind.ACCOUNT)
    assert [event.topic for event in events_of(annals, account)] == ["account.erased"]
    assert set(user_of(annals, "u1").memberships) == {account}
    assert sum(isinstance(event.payload, Tracked) for event in events_of(annals, user)) == 1
    stored(annals, track("u1", "a1"), group("u1", "a1"))
    assert subject_of(annals, "a1") != account
    assert user_of(annals, "u1").id == user


def test_what_never_was_or_is_of_the_other_kind_cannot_be_erased(annals: Annals) -> None:
    stored(annals, identify("u1", name="Ada"), group("u2", "a1"))
    user, account = subject_of(annals, "u1"), subject_of(annals, "a1")
    for nobody, kind in (
        (SubjectId(uuid.uuid4()), SubjectKind.USER),
        (user, SubjectKind.ACCOUNT),
        (account, SubjectKind.USER),
    ):
        with pytest.raises(NotFound, match=f"there is no such {kind}"):
            erase(annals, nobody, kind)
        with pytest.raises(NotFound, match=f"there is no such {kind}"):
            annals.holds.place(kind, nobody, reason="lawsuit-7", by="an officer")
    assert user_of(annals, "u1").properties == {"name": "Ada"}
    assert set(user_of(annals, "u2").memberships) == {account}


def test_an_erased_subjects_snapshot_goes_and_an_older_copy_of_it_is_of_no_use(
    annals: Annals, database_url: str
) -> None:
    stored(annals, *(identify("u1", n=n) for n in range(SNAPSHOT_EVERY + 1)))
    id = user_of(annals, "u1").id  # loading it takes the snapshot
    with psycopg.connect(database_url) as conn:
        [copy] = conn.execute("SELECT * FROM log.snapshots").fetchall()
        assert copy[1] == id
        conn.commit()
        erase(annals, id)
        assert conn.execute("SELECT FROM log.snapshots").fetchall() == []
        conn.execute("INSERT INTO log.snapshots VALUES (%s, %s, %s, %s, %s)", copy)
    assert annals.aggregates.load({id: SubjectKind.USER})[id].version == 0


@pytest.mark.parametrize("step", ["forget", "append", "complete"])
def test_an_erasure_that_a_crash_cut_short_is_finished(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    stored(annals, identify("u1", name="Ada"), identify("u2"), alias("u1", "u2"))
    stored(annals, identify("u3"), group("u3", "a1"))
    id = subject_of(annals, "u1")
    everything = {id, *user_of(annals, "u1").absorbed}

    def die(*_: object) -> None:
        raise SystemExit

    target, name = {
        "forget": (annals.aggregates, "forget"),
        "append": (annals.log, "append"),
        "complete": (annals.erasure_records, "complete"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, die)
        with pytest.raises(SystemExit):
            erase(annals, id)
    after = open_annals()
    assert [event.topic for event in events_of(after, id) if event.topic != "user.erased"] == []
    assert subject_of(after, "u1") is None
    assert set(unfinished(database_url)) == everything
    assert after.erasure_completion.complete_unfinished(AT) == 2
    assert {subject.stream for subject in events_of(after, *everything)} == everything
    assert {subject.topic for subject in events_of(after, *everything)} == {"user.erased"}
    assert unfinished(database_url) == []
    assert after.erasure_completion.complete_unfinished(AT) == 0
    assert user_of(after, "u3").version > 0


def test_an_identity_that_a_slow_writer_tied_to_an_erased_subject_comes_free(
    annals: Annals,
) -> None:
    stored(annals, identify("u1"))
    gone = subject_of(annals, "u1")
    erase(annals, gone)
    # What a writer leaves that looked before the erasure and claimed after it.
    assert annals.handler._identities.claim({named("ada@example.com"): gone})
    stored(annals, identify("ada@example.com u1", name="Ada"))
    assert user_of(annals, "u1").properties == {"name": "Ada"}
    assert subject_of(annals, "ada@example.com") == subject_of(annals, "u1") != gone


@pytest.mark.parametrize("command", [track("u1"), identify("u1", x=1), group("u1", "a1")])
def test_a_writer_with_the_key_still_in_memory_starts_a_new_subject(
    annals: Annals, open_annals: Callable[[], Annals], command: object
) -> None:
    other = open_annals()
    stored(other, identify("u1"), track("u1"))
    gone = subject_of(annals, "u1")
    erase(annals, gone)
    stored(other, command)
    assert subject_of(other, "u1") not in (None, gone)


def test_case_16_of_writers_during_an_erasure_each_gets_an_answer_and_none_revives_it(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    servers = [annals, open_annals(), open_annals()]
    stored(annals, identify("u1 ada@example.com", name="Ada"), identify("u2"))
    gone, bystander = subject_of(annals, "u1"), subject_of(annals, "u2")
    start = threading.Barrier(21)
    before = {event.version for event in events_of(annals, gone)}
    assert before

    def write(n: int) -> list[tuple[str, Outcome]]:
        answers = []
        start.wait()
        for m in range(6):
            name = f"by {n} {m}"
            command = (
                track("u1", "", name),
                track("u1 ada@example.com", "a1", name),
                identify(f"u1 extra{n}@example.com", **{f"p{n}": m}),
            )[(n + m) % 3]
            requests = [Request(command, name), Request(track("u2", "", name), f"{name} too")]
            answers += [(name, each) for each in answer(servers[n % 3], requests)]
        return answers

    with ThreadPoolExecutor(21) as threads:
        writers = [threads.submit(write, n) for n in range(20)]
        start.wait()
        erase(annals, gone)
        answers = [each for writer in writers for each in writer.result()]
    assert len(answers) == 20 * 6 * 2
    assert all(isinstance(each, Stored) for _, each in answers)
    annals.sealer.refresh()
    assert {event.topic for event in events_of(annals, gone)} == {"user.erased"}
    assert sum(isinstance(e.payload, Tracked) for e in events_of(annals, bystander)) == 120
    stored(
        annals, track("u1 ada@example.com"), *(track(f"extra{n}@example.com") for n in range(20))
    )
    for name in ["u1", "ada@example.com", *(f"extra{n}@example.com" for n in range(20))]:
        assert subject_of(annals, name) != gone
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    assert {place for _, each in answers for place in each.positions} <= {
        Position(row.log_partition, row.position) for row in rows
    }
    assert chain.problems(database_url) == []
