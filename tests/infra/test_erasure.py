"""The erase command: unreadable at once, nobody else touched, finished after any crash."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from domain.commands import Command, Outcome, Position, Request, Stored
from domain.errors import NotFound, Unavailable
from domain.events import Tracked
from domain.identity import SubjectId, SubjectKind
from domain.subjects import SNAPSHOT_EVERY
from infra.wiring import Annals
from tests.infra import chain
from tests.infra.commands import (
    AT,
    alias,
    events_of,
    group,
    identify,
    loaded,
    named,
    stored,
    subject_of,
    track,
    user_of,
    values,
)


def erase(annals: Annals, id: SubjectId, kind: SubjectKind = SubjectKind.USER) -> list[Position]:
    return list(annals.handler.erase(kind, id, at=AT, requested_by="an officer", reason="asked"))


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


def test_an_erased_users_events_are_unreadable_in_every_process(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    other = open_annals()
    stored(annals, identify("u1", name="Ada"), track("u1", "a1"), identify("u2", name="Bob"))
    gone, kept = subject_of(annals, "u1"), subject_of(annals, "u2")
    assert events_of(other, gone)
    account = loaded(annals, "a1")
    [place] = erase(annals, gone)
    for process in (annals, other):
        assert [one.topic for one in events_of(process, gone)] == ["user.erased"]
        assert process.aggregates.load({gone: SubjectKind.USER})[gone].version == 0
        assert subject_of(process, "u1") is None
        assert user_of(process, "u2").properties == {"name": "Bob"}
        assert loaded(process, "a1") == account
    assert len(events_of(annals, kept)) == 2
    assert annals.log.heads([place.log_partition])[place.log_partition] == place.position
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
    assert [one.topic for one in events_of(annals, gone)] == ["user.erased"]


def test_an_erasure_reaches_all_that_was_merged_into_the_subject(annals: Annals) -> None:
    stored(annals, *(identify(f"u{n}", name=f"n{n}") for n in range(4)))
    ids = [subject_of(annals, f"u{n}") for n in range(4)]
    stored(annals, alias("u1", "u0"), alias("u2", "u1"))
    erase(annals, ids[0])  # asked for by the oldest of its ids
    assert {one.topic for one in events_of(annals, *ids[:3])} == {"user.erased"}
    assert [subject_of(annals, f"u{n}") for n in range(4)] == [None, None, None, ids[3]]
    assert user_of(annals, "u3").properties == {"name": "n3"}


@pytest.mark.parametrize("merge", [alias("u1", "u2"), alias("u2", "u1"), identify("u1 u2")])
@pytest.mark.parametrize("lands", ["before the destruction", "after it"])
def test_whoever_is_merged_with_a_subject_while_it_is_erased_is_erased_too(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    merge: Command,
    lands: str,
) -> None:
    other = open_annals()
    stored(annals, identify("u2", name="Countess"), identify("u3"), alias("u3", "u2"))
    stored(annals, identify("u1", name="Ada"), identify("u4", name="Bob"))
    erased, merged = subject_of(annals, "u1"), user_of(annals, "u2")
    everything = {erased, merged.id, *merged.absorbed}
    destroy, append = annals.keys.destroy, other.log.append

    def destroy_late(*subjects: Any, **why: Any) -> None:
        monkeypatch.undo()
        stored(other, merge)
        destroy(*subjects, **why)

    def append_late(*rows: Any) -> list[Position]:
        monkeypatch.undo()
        erase(annals, erased)
        return append(*rows)

    if lands == "before the destruction":
        monkeypatch.setattr(annals.keys, "destroy", destroy_late)
        erase(annals, erased)
    else:
        monkeypatch.setattr(other.log, "append", append_late)
        stored(other, merge)
    for process in (annals, other):
        seen = events_of(process, *everything)
        assert {one.stream for one in seen} == everything
        assert {one.topic for one in seen} == {"user.erased"}
        assert [subject_of(process, f"u{n}") for n in (1, 2, 3)] == [None] * 3
        assert user_of(process, "u4").properties == {"name": "Bob"}
    assert unfinished(database_url) == []
    assert chain.problems(database_url) == []


def test_an_erased_account_leaves_its_users(annals: Annals) -> None:
    stored(annals, group("u1", "a1", role="owner"), track("u1", "a1"), track("", "a1"))
    account, user = subject_of(annals, "a1"), subject_of(annals, "u1")
    erase(annals, account, SubjectKind.ACCOUNT)
    assert [one.topic for one in events_of(annals, account)] == ["account.erased"]
    assert set(user_of(annals, "u1").memberships) == {account}
    assert sum(isinstance(one.payload, Tracked) for one in events_of(annals, user)) == 1
    stored(annals, track("u1", "a1"), group("u1", "a1"))
    assert subject_of(annals, "a1") != account
    assert user_of(annals, "u1").id == user


def test_what_is_erased_or_never_was_cannot_be_erased(annals: Annals) -> None:
    stored(annals, identify("u1"))
    id = subject_of(annals, "u1")
    erase(annals, id)
    for nobody in (id, SubjectId(uuid.uuid4())):
        with pytest.raises(NotFound, match="there is no such user"):
            erase(annals, nobody)


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
        "complete": (annals.keys, "complete_erasures"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, die)
        with pytest.raises(SystemExit):
            erase(annals, id)
    after = open_annals()
    assert [one.topic for one in events_of(after, id) if one.topic != "user.erased"] == []
    assert subject_of(after, "u1") is None
    assert set(unfinished(database_url)) == everything
    assert after.handler.finish_erasures(AT) == 2
    assert {one.stream for one in events_of(after, *everything)} == everything
    assert {one.topic for one in events_of(after, *everything)} == {"user.erased"}
    assert unfinished(database_url) == []
    assert after.handler.finish_erasures(AT) == 0
    assert user_of(after, "u3").version > 0


def test_an_identity_that_a_slow_writer_tied_to_an_erased_subject_comes_free(
    annals: Annals,
) -> None:
    stored(annals, identify("u1"))
    gone = subject_of(annals, "u1")
    erase(annals, gone)
    # What a writer leaves that looked before the erasure and claimed after it.
    assert annals.handler._lookup.claim({named("ada@example.com"): gone})
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


def test_of_writers_during_an_erasure_each_gets_an_answer_and_none_revives_it(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    servers = [annals, open_annals(), open_annals()]
    stored(annals, identify("u1 ada@example.com", name="Ada"), identify("u2"))
    gone, bystander = subject_of(annals, "u1"), subject_of(annals, "u2")
    start = threading.Barrier(21)
    before = {one.version for one in events_of(annals, gone)}
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
            answers += [(name, one) for one in answer(servers[n % 3], requests)]
        return answers

    with ThreadPoolExecutor(21) as threads:
        writers = [threads.submit(write, n) for n in range(20)]
        start.wait()
        erase(annals, gone)
        answers = [one for writer in writers for one in writer.result()]
    assert len(answers) == 20 * 6 * 2
    assert all(isinstance(one, Stored) for _, one in answers)
    annals.sealer.refresh()
    assert {one.topic for one in events_of(annals, gone)} == {"user.erased"}
    assert sum(isinstance(e.payload, Tracked) for e in events_of(annals, bystander)) == 120
    stored(
        annals, track("u1 ada@example.com"), *(track(f"extra{n}@example.com") for n in range(20))
    )
    for name in ["u1", "ada@example.com", *(f"extra{n}@example.com" for n in range(20))]:
        assert subject_of(annals, name) != gone
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    assert {place for _, one in answers for place in one.positions} <= {
        Position(row.log_partition, row.position) for row in rows
    }
    assert chain.problems(database_url) == []
