"""Sends messages to Annals as any of Segment's clients would: batches over HTTP, retried.

Messages go to the connections by a hash of whom they are about, and each connection sends one
batch after the other, so that those of one subject arrive in their order (identify before track).
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console

from api.demo.messages import Message
from api.demo.progress import shown
from api.demo.sender import LoadError, Sender

__all__ = ["LoadError", "LoadReport", "connection_of", "load"]


class LoadReport(NamedTuple):
    """Counts of messages by their result, and the time that loading took."""

    sent: int
    stored: int
    duplicates: int
    refused: int
    seconds: float


def connection_of(message: Message, connections: int) -> int:
    """Which of the connections sends a message: the same for all that are about one subject."""
    subject = message.get("userId") or message.get("anonymousId") or message.get("groupId")
    return zlib.crc32(str(subject).encode()) % connections


def load(
    messages: Iterable[Message],
    *,
    url: str,
    write_key: str,
    total: int | None = None,
    title: str,
    connections: int = 2,
    batch: int = 100,
) -> LoadReport:
    """Sends everything; progress goes to standard error.

    Args:
        url: where Annals is, without `/v1/batch`.
        total: how many messages there are, if known.

    Raises:
        LoadError: a batch was refused, or could not be delivered in several attempts.
    """
    started = time.monotonic()
    with shown(title, total, Console(stderr=True)) as advance:
        headers = {"Authorization": f"Bearer {write_key}", "Content-Type": "application/json"}
        senders = [
            Sender(f"{url.rstrip('/')}/v1/batch", headers, advance) for _ in range(connections)
        ]
        stop = threading.Event()
        threads = [threading.Thread(target=sender.run, args=(stop,)) for sender in senders]
        for thread in threads:
            thread.start()
        try:
            _hand_out(messages, senders, batch, stop)
        except BaseException:
            stop.set()
            raise
        finally:
            for thread in threads:
                thread.join()
    for sender in senders:
        if sender.error is not None:
            raise sender.error
    counts = sum((sender.counts for sender in senders), Counter[str]())
    return LoadReport(
        counts.total(),
        counts["stored"],
        counts["duplicate"],
        counts["refused"],
        time.monotonic() - started,
    )


def _hand_out(
    messages: Iterable[Message], senders: list[Sender], batch: int, stop: threading.Event
) -> None:
    waiting: list[list[Message]] = [[] for _ in senders]
    for message in messages:
        number = connection_of(message, len(senders))
        waiting[number].append(message)
        if len(waiting[number]) == batch:
            if not senders[number].take(waiting[number], stop):
                return
            waiting[number] = []
    for sender, rest in zip(senders, waiting, strict=True):
        if rest:
            sender.take(rest, stop)
        sender.take(None, stop)
