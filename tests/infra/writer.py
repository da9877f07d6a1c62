"""What writer processes do. They say on their output what they sent and what is stored."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import uuid
from collections.abc import Callable

import psycopg

from domain.errors import DuplicateMessage, VersionConflict
from domain.events.recorded import SealedEvent
from domain.identity import SubjectId
from infra.log.event_log import EventLog
from infra.postgres import database
from tests.infra.rows import row


def say(word: str, *rest: object) -> None:
    os.write(1, (" ".join([word, *map(str, rest)]) + "\n").encode())


def ids(rows: list[SealedEvent]) -> str:
    return ",".join(str(event.event_id) for event in rows)


def append_until_known(log: EventLog, rows: list[SealedEvent], message: bytes) -> None:
    """As a sender does: what is unsure is sent again, under the same message id."""
    say("sent", ids(rows))
    while True:
        try:
            log.append(rows, [message])
        except psycopg.OperationalError:
            say("unsure", ids(rows))
        except DuplicateMessage:
            return say("stored", ids(rows))
        else:
            return say("stored", ids(rows))


def appends(log: EventLog, seed: int, rounds: int) -> None:
    """Batches from three threads at once, each again until its message is stored."""

    def run(n: int) -> None:
        chance = random.Random(f"{seed} {n}")
        for _ in range(rounds):
            rows = [row() for _ in range(chance.randint(1, 6))]
            append_until_known(log, rows, os.urandom(16))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def versions(log: EventLog, stream: SubjectId, wanted: int) -> None:
    """The next two versions of one stream, as an aggregate is written, so many times."""
    while wanted:
        past = log.read_streams({stream: 0})[stream]
        rows = [row(stream, len(past) + 1), row(stream, len(past) + 2), row()]
        try:
            log.append(rows)
        except VersionConflict:
            say("refused", ids(rows))
        else:
            say("stored", ids(rows))
            wanted -= 1


def messages(log: EventLog, seed: int, count: int) -> None:
    """Messages, their ids the same for every writer with the same seed."""
    names = [hashlib.sha256(f"{seed} {n}".encode()).digest()[:16] for n in range(count)]
    random.shuffle(names)
    while names:
        some, names = names[:3], names[3:]
        rows = [row(uuid.UUID(bytes=each, version=4)) for each in some]
        try:
            log.append(rows, some)
        except DuplicateMessage:
            unknown = [each for each in some if each not in log.known_messages(some)]
            names += unknown
        else:
            say("stored", ids(rows))


def work(url: str, job: Callable[..., None], *given: object) -> None:
    """Does one of the jobs above."""
    with database.pool(url, "annals_log", size=4) as pool:
        job(EventLog(pool), *given)
