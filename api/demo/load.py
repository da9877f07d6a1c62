"""Sends messages to Annals as any of Segment's clients would: batches over HTTP, retried.

Messages go to the connections by a hash of whom they are about, and each connection sends one
batch after the other, so that those of one subject arrive in their order (identify before track).
"""

from __future__ import annotations

import queue
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

import httpx
import msgspec
from rich.console import Console

from api.demo.messages import Message
from api.demo.progress import Advance, shown

ATTEMPTS = 8
TIMEOUT_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 20.0
_BATCHES_AHEAD = 4


class LoadError(Exception):
    """The intake does not take what is sent, or cannot be reached; the text says why."""


class LoadReport(NamedTuple):
    """How many messages were sent and what became of them, and how long it took."""

    sent: int
    stored: int
    duplicates: int
    refused: int
    seconds: float


class _Result(msgspec.Struct, frozen=True):
    status: Literal["stored", "duplicate", "refused"]


class _Answer(msgspec.Struct, frozen=True):
    results: list[_Result]


class _Problem(msgspec.Struct, frozen=True):
    detail: str | None = None
    message: str | None = None


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
            _Sender(f"{url.rstrip('/')}/v1/batch", headers, advance) for _ in range(connections)
        ]
        stop = threading.Event()
        threads = [threading.Thread(target=one.run, args=(stop,)) for one in senders]
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
    messages: Iterable[Message], senders: list[_Sender], batch: int, stop: threading.Event
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


@dataclass(slots=True)
class _Sender:
    """One connection and its thread: sends what it is given, in that order."""

    url: str
    headers: dict[str, str]
    advance: Advance
    counts: Counter[str] = field(default_factory=Counter)
    error: BaseException | None = None
    _batches: queue.Queue[list[Message] | None] = field(
        default_factory=lambda: queue.Queue(_BATCHES_AHEAD)
    )

    def take(self, messages: list[Message] | None, stop: threading.Event) -> bool:
        """Waits until there is room; False once the load has stopped. None is the end."""
        while not stop.is_set():
            try:
                self._batches.put(messages, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def run(self, stop: threading.Event) -> None:
        try:
            with httpx.Client(headers=self.headers, timeout=TIMEOUT_SECONDS) as client:
                while not stop.is_set():
                    try:
                        messages = self._batches.get(timeout=0.2)
                    except queue.Empty:
                        continue
                    if messages is None:
                        return
                    self._send(client, messages, stop)
        except BaseException as error:
            self.error = error
            stop.set()

    def _send(self, client: httpx.Client, messages: list[Message], stop: threading.Event) -> None:
        failure = ""
        for attempt in range(ATTEMPTS):
            body = msgspec.json.encode({"batch": messages, "sentAt": datetime.now(UTC)})
            delay = min(0.25 * 2**attempt, MAX_BACKOFF_SECONDS)
            try:
                response = client.post(self.url, content=body)
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    results = _results(response, len(messages))
                    self.counts.update(result.status for result in results)
                    self.advance(len(messages))
                    return
                failure = f"{response.status_code}: {_detail(response)}"
                if response.status_code != 429 and response.status_code < 500:
                    raise LoadError(failure)
                delay = _retry_after(response.headers.get("retry-after"), delay)
            if attempt + 1 < ATTEMPTS and stop.wait(delay):
                return
        raise LoadError(f"gave up after {ATTEMPTS} attempts; the last one: {failure}")


def _results(response: httpx.Response, expected: int) -> list[_Result]:
    try:
        results = msgspec.json.decode(response.content, type=_Answer).results
    except msgspec.MsgspecError as error:
        raise LoadError(f"the answer is not that of Annals' intake: {error}") from None
    if len(results) != expected:
        raise LoadError(f"the answer has {len(results)} results for {expected} messages")
    return results


def _detail(response: httpx.Response) -> str:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    return problem.detail or problem.message or response.reason_phrase


def _retry_after(value: str | None, otherwise: float) -> float:
    """Seconds, or a date (RFC 9110)."""
    if value is None:
        return otherwise
    try:
        if value.strip().isdigit():
            return float(value)
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return otherwise
