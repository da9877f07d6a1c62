"""A connection to the intake, with a thread that sends batches in order, each until it is
stored."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx
import msgspec

from api.demo.messages import Message
from api.demo.progress import Advance

ATTEMPTS = 8
TIMEOUT_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 20.0
_BATCHES_AHEAD = 4


class LoadError(Exception):
    """The intake refuses the messages, or cannot be reached; the text says why."""


class _Result(msgspec.Struct, frozen=True):
    status: Literal["stored", "duplicate", "refused"]


class _Answer(msgspec.Struct, frozen=True):
    results: list[_Result]


class _Problem(msgspec.Struct, frozen=True):
    detail: str | None = None
    message: str | None = None


@dataclass(slots=True)
class Sender:
    """Sends its messages in order, until it gets None or an error stops it."""

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
