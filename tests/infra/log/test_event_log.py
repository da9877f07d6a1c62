"""The log's laws in one process: all or nothing, once, in order, gapless, chained."""

from __future__ import annotations

import os
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commands import Position
from domain.errors import DuplicateMessage, VersionConflict
from domain.events.recorded import SealedEvent
from domain.identity import SubjectId, log_partition
from infra.bootstrap.annals import Annals
from infra.log.appending import ROWS_A_PIECE
from infra.log.event_log import EventLog
from tests.infra import chain
from tests.infra.rows import row, rows

ALL = dict.fromkeys(range(256), 0)
STREAMS = [SubjectId(uuid.UUID(int=n, version=4)) for n in range(4)]


def key() -> bytes:
    return os.urandom(16)


def everything(log: EventLog) -> dict[Position, SealedEvent]:
    return {
        Position(row.log_partition, row.position): row for row in log.read_after(ALL, 1_000_000)
    }


@contextmanager
def held(database_url: str) -> Iterator[None]:
    """Nobody can append meanwhile: whoever tries, waits."""
    with psycopg.connect(database_url) as conn:
        conn.execute("SELECT FROM log.heads FOR UPDATE")
        yield


def until_waiting(database_url: str, done: Callable[[], bool] = lambda: False) -> None:
    """Returns once a writer waits for a lock in the database."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        while not done():
            waiting = conn.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            if waiting[0]:
                return


@given(batches=st.lists(st.lists(rows(), max_size=8), max_size=6))
def test_what_is_appended_is_read_back_in_order_gapless_and_chained(
    annals: Annals, database_url: str, batches: list[list[SealedEvent]]
) -> None:
    before = annals.log.heads(range(256))
    appended: list[tuple[Position, SealedEvent]] = []
    for batch in batches:
        unversioned = [SealedEvent(**{**as_fields(row), "version": None}) for row in batch]
        appended += zip(annals.log.append(unversioned), unversioned, strict=True)
    stored = everything(annals.log)
    for position, given_row in appended:
        assert position.log_partition == log_partition(given_row.stream)
        assert as_fields(stored[position]) == as_fields(given_row)
    for partition, head in annals.log.heads(range(256)).items():
        new = [place.position for place, _ in appended if place.log_partition == partition]
        assert new == list(range(before[partition] + 1, head + 1))
    assert chain.problems(database_url) == []


def as_fields(one: SealedEvent) -> dict[str, object]:
    return {name: getattr(one, name) for name in SealedEvent.__struct_fields__}


@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(1, 4)), max_size=4),
            st.lists(st.sampled_from([bytes([n]) * 16 for n in range(5)]), max_size=2),
        ),
        max_size=10,
    )
)
def test_an_append_is_stored_whole_or_not_at_all(
    annals: Annals, database_url: str, steps: list[tuple[list[tuple[SubjectId, int]], list[bytes]]]
) -> None:
    salt = uuid.uuid4().int
    taken: set[tuple[uuid.UUID, int]] = set()
    remembered: set[bytes] = set()
    expected: list[uuid.UUID] = []
    for versions, messages in steps:
        batch = [row(uuid.UUID(int=one.int ^ salt, version=4), n) for one, n in versions]
        keys = [uuid.UUID(int=int.from_bytes(message) ^ salt).bytes for message in messages]
        new = [(row.stream, row.version) for row in batch]
        is_duplicate = len(set(keys)) < len(keys) or bool(remembered & set(keys))
        is_conflict = len(set(new)) < len(new) or bool(taken & set(new))
        if is_duplicate:
            with pytest.raises(DuplicateMessage):
                annals.log.append(batch, keys)
        elif is_conflict:
            with pytest.raises(VersionConflict):
                annals.log.append(batch, keys)
        else:
            assert len(annals.log.append(batch, keys)) == len(batch)
            taken.update(new)
            remembered.update(keys)
            expected += [row.event_id for row in batch]
        assert annals.log.known_messages(keys) == remembered & set(keys)
    mine = {stream for stream, _ in taken}
    stored = [row.event_id for row in everything(annals.log).values() if row.stream in mine]
    assert sorted(stored) == sorted(expected)
    assert chain.problems(database_url) == []


def together(
    annals: Annals, database_url: str, calls: list[tuple[list[SealedEvent], list[bytes]]]
) -> list[Future[list[Position]]]:
    """Appends that all wait for one another, so that they are written as a group."""
    with ThreadPoolExecutor(len(calls) + 1) as callers:
        with held(database_url):
            first = callers.submit(annals.log.append, [row()])
            until_waiting(database_url)
            futures = [callers.submit(annals.log.append, *call) for call in calls]
            wait_until_queued(annals.log, len(calls))
        wait([first, *futures])
    return futures


def wait_until_queued(log: EventLog, count: int) -> None:
    while len(log._appender._group_commit._waiting) < count:
        pass


def test_callers_that_wait_for_one_another_are_written_in_one_transaction(
    annals: Annals, database_url: str
) -> None:
    calls = [([row(), row()], [key()]) for _ in range(6)]
    positions = [future.result() for future in together(annals, database_url, calls)]
    stored = everything(annals.log)
    written = [stored[place] for places in positions for place in places]
    assert [one.event_id for one in written] == [one.event_id for rows, _ in calls for one in rows]
    assert len({row.recorded_at for row in written}) == 1
    assert chain.problems(database_url) == []


@pytest.mark.parametrize("fault", ["version", "message", "bytes"])
def test_the_error_of_one_caller_does_not_touch_the_others_of_its_group(
    annals: Annals, database_url: str, fault: str
) -> None:
    known_key, known_row = key(), row(version=1)
    annals.log.append([known_row], [known_key])
    bad = {
        "version": ([row(), row(known_row.stream, 1)], []),
        "message": ([row()], [known_key]),
        "bytes": ([row(topic="user.\0")], []),
    }[fault]
    expected = {
        "version": VersionConflict,
        "message": DuplicateMessage,
        "bytes": psycopg.DataError,
    }[fault]
    good = [([row()], [key()]) for _ in range(4)]
    outcomes = together(annals, database_url, [*good[:2], bad, *good[2:]])
    assert isinstance(outcomes.pop(2).exception(), expected)
    stored = everything(annals.log)
    for ([one], [known]), future in zip(good, outcomes, strict=True):
        assert stored[future.result()[0]].event_id == one.event_id
        assert annals.log.known_messages([known]) == {known}
    assert chain.problems(database_url) == []


def test_one_version_written_by_two_callers_of_a_group_is_won_by_one(
    annals: Annals, database_url: str
) -> None:
    stream = uuid.uuid4()
    calls = [([row(stream, 1), row()], [key()]) for _ in range(4)]
    outcomes = together(annals, database_url, calls)
    errors = [future.exception() for future in outcomes]
    assert [type(error) for error in errors if error] == [VersionConflict] * 3
    winner = errors.index(None)
    stored = {row.event_id for row in everything(annals.log).values()}
    for n, (batch, keys) in enumerate(calls):
        assert {row.event_id in stored for row in batch} == {n == winner}
        assert bool(annals.log.known_messages(keys)) == (n == winner)


def test_one_message_in_two_callers_of_a_group_is_stored_once(
    annals: Annals, database_url: str
) -> None:
    message = key()
    outcomes = together(annals, database_url, [([row()], [message]) for _ in range(4)])
    errors = [type(future.exception()) for future in outcomes if future.exception()]
    assert errors == [DuplicateMessage] * 3


def test_a_group_whose_connection_is_killed_is_answered_to_each_and_leaves_no_gap(
    annals: Annals, database_url: str
) -> None:
    good = annals.log.append([row()])
    with ThreadPoolExecutor(4) as callers:
        with held(database_url), psycopg.connect(database_url, autocommit=True) as killer:
            futures = [callers.submit(annals.log.append, [row(), row()]) for _ in range(3)]
            until_waiting(database_url)
            killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        results = [future.exception() or future.result() for future in futures]
    killed = [result for result in results if isinstance(result, psycopg.OperationalError)]
    written = [place for one in results if isinstance(one, list) for place in one]
    assert killed
    assert len(killed) * 2 + len(written) == 6
    assert set(everything(annals.log)) == {*good, *written}
    annals.log.append([row()])
    assert chain.problems(database_url) == []


def test_a_writer_that_is_interrupted_never_lets_another_be_acknowledged_unwritten(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = annals.log
    entered, go_on = threading.Event(), threading.Event()
    write, interruptions = log._appender._write, iter([SystemExit()])

    def interrupted_once(group: list[object]) -> list[list[Position]]:
        for error in interruptions:
            entered.set()
            go_on.wait()
            raise error
        return write(group)

    monkeypatch.setattr(log._appender._group_commit, "_do", interrupted_once)
    outcomes: list[object] = []

    def call(one: SealedEvent) -> None:
        try:
            outcomes.append((one, log.append([one])))
        except (psycopg.OperationalError, SystemExit) as error:
            outcomes.append((one, error))

    callers = [threading.Thread(target=call, args=(row(),)) for _ in range(3)]
    callers[0].start()
    entered.wait()
    for caller in callers[1:]:
        caller.start()
    wait_until_queued(log, 2)
    go_on.set()
    for caller in callers:
        caller.join()
    assert len(outcomes) == 3
    stored = everything(log)
    for one, answer in outcomes:
        if not isinstance(answer, BaseException):
            [position] = answer
            assert stored[position].event_id == one.event_id


def test_message_ids_are_forgotten_after_their_time_only(annals: Annals) -> None:
    old, new = key(), key()
    annals.log.append([row()], [old])
    [stored] = everything(annals.log).values()
    annals.log.append([row()], [new])
    between = max(row.recorded_at for row in everything(annals.log).values())
    assert annals.log.forget_messages(stored.recorded_at) == 0
    assert annals.log.forget_messages(between) == 1
    assert annals.log.known_messages([old, new]) == {new}


def test_an_empty_append_is_no_event_and_still_remembers_its_message(annals: Annals) -> None:
    message = key()
    assert annals.log.append([], [message]) == []
    assert annals.log.known_messages([message]) == {message}
    with pytest.raises(DuplicateMessage):
        annals.log.append([row()], [message])
    assert everything(annals.log) == {}


def test_rows_that_are_refused_in_an_early_piece_leave_nothing_of_the_append(
    annals: Annals,
) -> None:
    stream = SubjectId(uuid.uuid4())
    annals.log.append([row(stream, 1)])
    before = everything(annals.log)
    many = [row(stream, 1), *(row() for _ in range(3 * ROWS_A_PIECE))]
    with pytest.raises(VersionConflict):
        annals.log.append(many)
    assert everything(annals.log) == before
    assert len(annals.log.append(many[1:])) == 3 * ROWS_A_PIECE


def test_a_row_that_cannot_be_made_in_a_late_piece_leaves_nothing_of_the_append(
    annals: Annals,
) -> None:
    before = everything(annals.log)
    many = [row() for _ in range(3 * ROWS_A_PIECE)]
    with pytest.raises(struct.error):
        annals.log.append([*many, row(version=2**70)])
    assert everything(annals.log) == before
    assert len(annals.log.append(many)) == 3 * ROWS_A_PIECE
