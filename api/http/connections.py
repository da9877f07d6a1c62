"""Bounds on what a client does beside its requests: connections, heads, progress of bodies.

Uvicorn has none of these bounds with httptools, so its protocol gets them here. The server looks at
all connections once a second: a deadline costs a request two assignments and no timer.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.http.problems import problem_of
from api.http.proxies import is_trusted, parsed
from infra.settings import TrustedProxies

MAX_HEAD_BYTES = 64 * 1024
MAX_TARGET_BYTES = 32 * 1024
MAX_HEADERS = 100
HEAD_SECONDS = 10.0
"""From the first byte of a request to the end of its headers; also from connecting to that byte."""

PROGRESS_SECONDS = 10.0
MIN_PROGRESS_BYTES = 1_024
"""Bytes that a body must grow by within `PROGRESS_SECONDS`, while the server waits for it."""

BODY_SECONDS = 300.0
LINGER_SECONDS = 30.0
"""A body that was answered before it was read is read on for so long, and dropped: a sender that is
cut off while it sends does not see the answer."""

REFUSED_SECONDS = 1.0
MAX_PIPELINED = 8
MAX_CONNECTIONS = 1_000
MAX_CONNECTIONS_A_CLIENT = 250
_FILES_BESIDE = 200


class Doors:
    """Counts the connections of a server. Connections of a trusted proxy count for no single
    client."""

    def __init__(
        self,
        trusted: TrustedProxies = (),
        *,
        limit: int = MAX_CONNECTIONS,
        limit_a_client: int = MAX_CONNECTIONS_A_CLIENT,
    ) -> None:
        self._trusted = trusted
        self._limit, self._limit_a_client = limit, limit_a_client
        self._clients: Counter[str] = Counter()
        self._all = 0

    def enter(self, client: str) -> bool:
        """False: there are too many connections already, and this one is not counted."""
        if self._all >= self._limit:
            return False
        if self._clients[client] >= self._limit_a_client and not self._is_proxy(client):
            return False
        self._all += 1
        self._clients[client] += 1
        return True

    def leave(self, client: str) -> None:
        self._all -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    def _is_proxy(self, client: str) -> bool:
        address = parsed(client)
        return address is not None and is_trusted(address, self._trusted)


class Served(uvicorn.Config):
    """The settings of a server, and its doors.

    Args:
        app: the ASGI application.
        options: see `uvicorn.Config`.
    """

    def __init__(self, app: Any, doors: Doors, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, **options)
        self.doors = doors


class _Refused(Exception):
    """Ends the parsing of a head; the protocol knows why."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection. It is in one phase at a time: a head, a body, or neither."""

    def __init__(self, config: Config, *args: Any, **named: Any) -> None:
        super().__init__(config, *args, **named)
        self._doors = cast(Served, config).doors
        self._is_counted = False
        self._refusal: tuple[int, str, str] | None = None
        self._head_since: float | None = None
        self._head_bytes = 0
        self._body_since: float | None = None
        self._progress_since = 0.0
        self._progress_bytes = 0
        self._answered_since: float | None = None
        self._refused_at: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP alone
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._is_counted = self._doors.enter(self._client())
        if not self._is_counted:
            self._refuse(503, "unavailable", "too many connections are open; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_counted:
            self._is_counted = False
            self._doors.leave(self._client())
        super().connection_lost(exc)

    def _client(self) -> str:
        return "" if self.client is None else self.client[0]

    def data_received(self, data: bytes) -> None:
        """Hands a head on in pieces, so that the parser never holds more of one than is allowed.
        Drops what comes after a refusal."""
        while data and self._refusal is None:
            if self._body_since is not None:
                piece, data = data, b""
            else:
                room = MAX_HEAD_BYTES - self._head_bytes
                piece, data = data[:room], data[room:]
                self._head_bytes += len(piece)
            super().data_received(piece)
            if self._head_bytes >= MAX_HEAD_BYTES:
                self._refuse_head()
        self._stay_on_guard()

    def _stay_on_guard(self) -> None:
        """Sets a deadline where Uvicorn leaves none: after empty lines between two requests, and
        after a body that was dropped because it was answered before."""
        is_idle = self._head_since is None and self._body_since is None
        is_answered = self.cycle is not None and self.cycle.response_complete
        if is_idle and is_answered and self.timeout_keep_alive_task is None:
            if self._head_bytes:
                self._head_since = self.loop.time()
            else:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_since = self.loop.time()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(400, "invalid-input", "too many requests were sent before an answer")
            raise _Refused

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._refuse(
                414, "address-too-long", f"the address is longer than {MAX_TARGET_BYTES:,} bytes"
            )
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refuse_head()
            raise _Refused

    def on_headers_complete(self) -> None:
        self._head_since, self._head_bytes = None, 0
        self._body_since = self._progress_since = self.loop.time()
        self._progress_bytes = 0
        self._answered_since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._body_since is not None and self.cycle.response_complete:
            self._answered_since = self.loop.time()
            if self.expect_100_continue and not self._progress_bytes:
                # The client was not told to go on: what comes next can be a body or a request.
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuses a head that the parser rejects, or that was refused inside one of its calls."""
        self._refuse(400, "invalid-input", "this is no HTTP request")

    def look(self, now: float) -> None:
        """Ends the connection if it takes too long. `now` in seconds of the loop's clock."""
        if self.transport.is_closing():
            return
        if self._refused_at is not None:
            if now - self._refused_at > REFUSED_SECONDS:
                self.transport.close()
        elif self._head_since is not None and now - self._head_since > HEAD_SECONDS:
            if self._head_bytes:
                self._refuse(408, "too-slow", f"the head did not come in {HEAD_SECONDS:.0f} s")
            else:
                self.transport.close()
        elif self._body_since is not None:
            self._look_at_body(now, self._body_since)

    def _look_at_body(self, now: float, since: float) -> None:
        if self._answered_since is not None:
            if now - self._answered_since > LINGER_SECONDS:
                self.transport.close()
        elif self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._progress_since, self._progress_bytes = now, 0
        elif now - since > BODY_SECONDS or (
            now - self._progress_since > PROGRESS_SECONDS
            and self._progress_bytes < MIN_PROGRESS_BYTES
        ):
            self._refuse(408, "too-slow", "the body came too slowly, or not at all")
        elif now - self._progress_since > PROGRESS_SECONDS:
            self._progress_since, self._progress_bytes = now, 0

    def _refuse_head(self) -> None:
        self._refuse(
            431,
            "head-too-large",
            f"send at most {MAX_HEADERS} headers, {MAX_HEAD_BYTES:,} bytes with the request line",
        )

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answers for the application, and closes. The first reason counts.

        Data that the client still sends is dropped for a moment: a connection that is closed while
        data comes in loses the answer.
        """
        if self._refusal is not None:
            return
        self._refusal = (status, code, detail)
        is_answered = self.cycle is not None and self.cycle.response_started
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.pipeline.clear()
        if not is_answered or self.cycle.response_complete:
            content = msgspec.json.encode(problem_of(status, code, detail))
            retry = b"retry-after: 1\r\n" if status == 503 else b""
            self.transport.write(
                b"%scontent-type: application/problem+json\r\ncontent-length: %d\r\n"
                b"%sconnection: close\r\n\r\n%s"
                % (STATUS_LINE[status], len(content), retry, content)
            )
        if self._is_counted and self.transport.can_write_eof():
            self._refused_at = self.loop.time()
            self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()


def make_room_for_connections() -> None:
    """Raises the limit of open files of this process, up to the system's own limit."""
    wanted = MAX_CONNECTIONS + _FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
