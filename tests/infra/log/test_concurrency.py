"""The log's laws among many writers: threads, processes, killed connections, killed writers."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, log_partition
from infra.log.event_log import EventLog
from infra.postgres import database
from tests.infra import chain
from tests.infra.rows import row
from tests.infra.writer import appends, messages, versions, work
from tests.processes import Process, await_fork_server


class Writer:
    """A writer process, and what it said so far."""

    def __init__(self, url: str, job: Callable[..., None], *given: object) -> None:
        self.said: list[tuple[str, list[str]]] = []
        self.process = Process(work, url, job, *given)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            word, _, ids = line.strip().partition(" ")
            self.said.append((word, ids.split(",")))

    def ids(self, word: str) -> set[str]:
        return {one for said, ids in list(self.said) if said == word for one in ids}

    def has_stored(self, count: int) -> bool:
        return sum(word == "stored" for word, _ in list(self.said)) >= count

    def kill(self) -> None:
        self.process.kill()
        self._listener.join()

    def join(self) -> int:
        code = self.process.wait()
        self._listener.join()
        return code

    def close(self) -> None:
        self.kill()
        self.process.close()


@pytest.fixture
def write(database_url: str) -> Iterator[Callable[..., Writer]]:
    await_fork_server()
    with ExitStack() as stack:

        def start(job: Callable[..., None], *given: object) -> Writer:
            return stack.enter_context(closing(Writer(database_url, job, *given)))

        yield start


@pytest.fixture
def log(database_url: str) -> Iterator[EventLog]:
    with database.pool(database_url, "annals_log", size=4) as pool:
        yield EventLog(pool)


class Tail:
    """A reader that follows the log from its beginning, in small steps."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._done = threading.Event()
        self._vector = dict.fromkeys(range(256), 0)
        self.seen: list[RecordedEvent] = []
        self.disorder: list[str] = []
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while True:
            last_round = self._done.is_set()
            try:
                rows = self._log.read_after(self._vector, 3)
            except psycopg.OperationalError:
                continue
            for one in rows:
                if one.position != self._vector[one.log_partition] + 1:
                    self.disorder.append(f"{one.log_partition}:{one.position}")
                self._vector[one.log_partition] = one.position
            self.seen += rows
            if last_round and not rows:
                return

    def finish(self) -> list[str]:
        self._done.set()
        self._thread.join()
        return [str(event.event_id) for event in self.seen]


@contextmanager
def tailed(log: EventLog) -> Iterator[Tail]:
    tail = Tail(log)
    try:
        yield tail
    finally:
        tail.finish()


@contextmanager
def chaos(database_url: str, *, kill: bool) -> Iterator[None]:
    """Transactions that write into the log and give up; and, if asked for, connections killed."""
    over = threading.Event()

    def abort() -> None:
        with psycopg.connect(database_url) as conn:
            while not over.is_set():
                conn.execute("SET LOCAL role = annals_log")
                conn.execute(
                    "WITH h AS (SELECT * FROM log.heads WHERE log_partition %% 7 = %s"
                    " ORDER BY log_partition FOR UPDATE), e AS (INSERT INTO log.events"
                    " SELECT log_partition, head + 1, gen_random_uuid(), NULL, gen_random_uuid(),"
                    " NULL, 'user.aborted', 1, now(), now(), '', NULL, '' FROM h)"
                    " UPDATE log.heads SET head = h.head + 1 FROM h"
                    " WHERE h.log_partition = heads.log_partition",
                    (random.randrange(7),),
                )
                conn.rollback()

    def cut() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            while not over.wait(0.02):
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'annals_log'"
                    " AND state <> 'idle' ORDER BY random() LIMIT 1"
                )

    threads = [threading.Thread(target=one) for one in ((abort, cut) if kill else (abort,))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def stored_ids(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as conn:
        return [str(one) for (one,) in conn.execute("SELECT event_id FROM log.events")]


@pytest.mark.parametrize("kill", [False, True], ids=["aborted", "aborted and killed"])
def test_writers_lose_and_double_nothing_and_a_reader_sees_all_in_order(
    database_url: str, log: EventLog, write: Callable[..., Writer], kill: bool
) -> None:
    with tailed(log) as tail, chaos(database_url, kill=kill):
        writers = [write(appends, seed, 30) for seed in range(3)]
        assert [writer.join() for writer in writers] == [0, 0, 0]
    stored = stored_ids(database_url)
    assert len(stored) == len(set(stored))
    assert set(stored) == set.union(*(writer.ids("stored") for writer in writers))
    assert tail.disorder == []
    assert Counter(tail.finish()) == Counter(stored)
    assert chain.problems(database_url) == []


def test_killed_writers_leave_whole_batches_and_block_nobody(
    database_url: str, log: EventLog, write: Callable[..., Writer]
) -> None:
    with tailed(log) as tail, chaos(database_url, kill=False):
        writers = [write(appends, seed, 1_000_000) for seed in range(3)]
        for writer in writers:
            while not writer.has_stored(15):
                assert writer.process.poll() is None, writer.process.errors()
                time.sleep(0.01)
            writer.kill()
        survivor = write(appends, 9, 5)
        assert survivor.join() == 0
    stored = Counter(stored_ids(database_url))
    assert set(stored.values()) == {1}
    for writer in [*writers, survivor]:
        assert writer.ids("stored") <= set(stored)
        for word, ids in writer.said:
            assert word != "sent" or len({one in stored for one in ids}) == 1
    assert set(stored) <= set.union(*(one.ids("sent") for one in [*writers, survivor]))
    assert Counter(tail.finish()) == stored
    assert tail.disorder == []
    assert chain.problems(database_url) == []


def test_of_writers_of_one_version_one_wins_and_the_others_store_nothing(
    database_url: str, log: EventLog, write: Callable[..., Writer]
) -> None:
    stream = SubjectId(uuid.uuid4())
    writers = [write(versions, stream, 15) for _ in range(3)]
    assert [writer.join() for writer in writers] == [0, 0, 0]
    history = log.read_streams({stream: 0})[stream]
    assert [one.version for one in history] == list(range(1, 3 * 15 * 2 + 1))
    stored = set(stored_ids(database_url))
    for writer in writers:
        assert writer.ids("stored") <= stored
        assert not writer.ids("refused") & stored
    assert chain.problems(database_url) == []


def test_a_message_that_several_writers_send_at_once_is_stored_once(
    database_url: str, write: Callable[..., Writer]
) -> None:
    writers = [write(messages, 4, 60) for _ in range(3)]
    assert [writer.join() for writer in writers] == [0, 0, 0]
    with psycopg.connect(database_url) as conn:
        counts = conn.execute("SELECT count(*) FROM log.events GROUP BY stream").fetchall()
    assert counts == [(1,)] * 60
    said = [one for writer in writers for one in writer.ids("stored")]
    assert sorted(said) == sorted(stored_ids(database_url))


def test_appends_that_touch_the_same_partitions_in_any_order_do_not_deadlock(
    database_url: str,
) -> None:
    streams = [SubjectId(uuid.uuid4()) for _ in range(40)]
    errors: list[BaseException] = []

    def run(seed: int) -> None:
        chance = random.Random(seed)
        with database.pool(database_url, "annals_log", size=1) as pool:
            log = EventLog(pool)
            try:
                for _ in range(15):
                    log.append([row(one) for one in chance.sample(streams, 20)])
            except psycopg.Error as error:
                errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    heads = dict.fromkeys({log_partition(one) for one in streams})
    assert heads
    assert len(stored_ids(database_url)) == 4 * 15 * 20
    assert chain.problems(database_url) == []
