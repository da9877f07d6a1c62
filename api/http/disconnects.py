"""Wraps every request: watches its client during the work, ends a stream that the client does not
take, and marks an answer that fails midway.

The queries of a client that leaves are cancelled in the database (`infra.postgres.readers`). A
request gives back its place (`infra.postgres.admission`) when its answer ends in any way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
from litestar.concurrency import sync_to_thread
from litestar.types import HTTPReceiveMessage, Message, Receive, Scope, Send

from infra.postgres import readers
from infra.postgres.admission import Admission, Demand
from infra.postgres.readers import Reader

SEND_SECONDS = 30.0
"""Seconds for which a client may take nothing of an answer."""

SLOW_SECONDS, SLOWEST_BYTES_A_SECOND = 120.0, 4_000
"""Of a stream the first may pass in waiting for its reader; then one more for so many bytes."""

END_SECONDS = 5.0
"""For a reader to take the rest of a stream that has been ended."""

TICK_SECONDS = 0.25

_BODILESS = {"GET", "HEAD", "DELETE", "OPTIONS"}

log = structlog.get_logger()


class TooSlow(Exception):
    """The reader of a stream takes nothing, or too little."""


class Ended(Exception):
    """A stream broke off; its last line says why."""


class Answer:
    """An answer in progress.

    Attributes:
        reader: who waits for it.
        is_over: says whether a stream should end though its reader has not taken all of it.
    """

    def __init__(self, reader: Reader, receiver: _Receiver) -> None:
        self.reader = reader
        self.is_over: Callable[[], bool] = lambda: False
        self._receiver = receiver
        self._places: list[tuple[Admission, Demand, UUID]] = []
        self._closing: list[Callable[[], None]] = []

    async def take_place(self, places: Admission, sort: Demand, key: UUID) -> None:
        """Takes a place until the end, and watches the client. Raises: TooManyAtOnce."""
        self.reader.key = key
        await places.take(sort, key)
        self._places.append((places, sort, key))
        self._receiver.watch()

    def at_end(self, close: Callable[[], None]) -> None:
        """Registers something to close, in a thread, however the answer ends."""
        self._closing.append(close)

    async def end(self) -> None:
        try:
            for close in self._closing:
                await sync_to_thread(close)
        finally:
            for places, sort, key in self._places:
                places.give_back(sort, key)


def answer_of(scope: Scope) -> Answer:
    """The answer to a request."""
    answer: Answer = scope["state"]["answer"]
    return answer


async def attended(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Answers a request by an application. API calls of the console belong to the reader of the
    console's own request."""
    # Not told by the context alone: where the server goes on reading a connection within the last
    # send of an answer, the next request of the connection inherits the context of that answer.
    outer = readers.current() if _transport_of(send) is None else None
    is_inner = outer is not None
    reader = outer or Reader()
    receiver = _Receiver(scope, receive, reader)
    answer = Answer(reader, receiver)
    sender = _Sender(send, answer)
    scope.setdefault("state", {})["answer"] = answer
    try:
        with readers.reading(reader):
            await app(scope, receiver, sender)
    except Exception as error:
        if is_inner or not sender.has_begun or sender.transport is None:
            raise
        reason = _reason(error)
        if not reader.has_left:
            path = scope.get("path_template", "")
            log.warning("answer.broken_off", error=type(reason).__name__, path=path)
        await sender.break_off(receiver, at_once=isinstance(reason, TooSlow))
    finally:
        receiver.is_answered = True
        await asyncio.shield(_ended(answer, receiver))


async def _ended(answer: Answer, receiver: _Receiver) -> None:
    try:
        await answer.end()
    finally:
        receiver.close()


def _reason(error: BaseException) -> BaseException:
    """Unwraps an error from exception groups and the framework's wrappers."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


class _Receiver:
    """Receives from the client; once watched, notices when the client leaves."""

    def __init__(self, scope: Scope, receive: Receive, reader: Reader) -> None:
        self._receive = receive
        self._reader = reader
        self._has_body = scope.get("method") not in _BODILESS
        self._messages: deque[HTTPReceiveMessage] = deque()
        self._is_watched = self._is_whole = False
        self._task: asyncio.Task[None] | None = None
        self.disconnected = asyncio.Event()
        self.is_answered = False

    async def __call__(self) -> Any:
        if self._messages:
            return self._messages.popleft()
        if self._task is not None:
            await self.disconnected.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._is_whole = True
            self._begin()
        return message

    def watch(self) -> None:
        """Watches the client from now on, or once the whole body has been read."""
        self._is_watched = True
        self._begin()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def wait_for_end(self, seconds: float) -> None:
        """Waits until the connection is closed, at most so many seconds."""
        if self._task is None:
            self._is_watched = self._is_whole = True
            self._begin()
        try:
            async with asyncio.timeout(seconds):
                await self.disconnected.wait()
        except TimeoutError:
            return

    def _begin(self) -> None:
        if self._is_watched and self._task is None and (self._is_whole or not self._has_body):
            if not self._is_whole:
                self._messages.append({"type": "http.request", "body": b"", "more_body": False})
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # a body where none belongs
        self.disconnected.set()
        if not self.is_answered:
            await asyncio.to_thread(self._reader.leave)


class _Sender:
    """Sends to the client, and ends an answer that the client takes too slowly."""

    def __init__(self, send: Send, answer: Answer) -> None:
        self._send = send
        self._answer = answer
        self.transport = _transport_of(send)
        self.has_begun = False
        self._is_stream = False
        self._sent, self._waited = 0, 0.0

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            self.has_begun = True
            await self._send(message)
            return
        if message.get("more_body"):
            self._is_stream = True
        if not self._is_stream:
            await self._send(message)
            return
        await self._send_in_time(message)
        self._sent += len(message.get("body", b""))

    async def _send_in_time(self, message: Message) -> None:
        """Raises: TooSlow."""
        now = asyncio.get_running_loop().time
        sending = asyncio.ensure_future(self._send(message))
        began = taken_at = now()
        left, ends_at = self._left(), float("inf")
        try:
            while not (await asyncio.wait({sending}, timeout=TICK_SECONDS))[0]:
                if self._left() != left:
                    left, taken_at = self._left(), now()
                if self._answer.is_over():
                    ends_at = min(ends_at, now() + END_SECONDS)
                may_wait = SLOW_SECONDS + self._sent / SLOWEST_BYTES_A_SECOND
                if (
                    now() - taken_at > SEND_SECONDS
                    or self._waited + now() - began > may_wait
                    or now() > ends_at
                ):
                    raise TooSlow
            sending.result()
        finally:
            self._waited += now() - began
            sending.cancel()

    def _left(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    async def break_off(self, receiver: _Receiver, *, at_once: bool) -> None:
        """Closes the connection amid the answer, which is how a client is told that it is not
        whole; what was sent may be taken before, unless that takes too long."""
        transport = self.transport
        assert transport is not None
        if not at_once:
            transport.close()
            await receiver.wait_for_end(END_SECONDS)
        transport.abort()
        await receiver.wait_for_end(END_SECONDS)


def _transport_of(send: Send) -> asyncio.WriteTransport | None:
    """The connection below: ASGI has no way to end one, and uvicorn's cycle of request and
    response, whose method this is, has it. None within a request of the console."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if hasattr(transport, "abort") else None
