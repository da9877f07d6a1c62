"""Bodies of requests in memory: read in pieces under a limit, bounded over all requests at once.

A request reserves room for its body before the first byte is read, and gives it back when it is
answered. Until then the body waits in the sender's socket. Requests without a known API key share
a room of their own, so that they cannot keep out those with one.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from contextlib import suppress
from typing import Any, cast

from litestar.exceptions import ClientException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import HTTPReceiveMessage, HTTPScope, Receive

from domain.errors import InvalidInput, TooManyAtOnce

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_UNKEYED_BODY_BYTES = 512 * 1024
"""Longest body that is searched for the API key: Segment's browser client sends it there."""

KNOWN_ROOM = 16 * 1024 * 1024
UNKNOWN_ROOM = 4 * 1024 * 1024
MAX_WAITING = 64
PATIENCE_SECONDS = 5.0
_PIECE_BYTES = 64 * 1024
RESERVATION = "annals.reservation"
"""Where an ASGI scope has the reservation of its request."""


class Room:
    """Bytes that bodies may take up at the same time; a request waits in line for room."""

    def __init__(self, size: int, *, patience: float = PATIENCE_SECONDS) -> None:
        self._free = size
        self._patience = patience
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Raises: TooManyAtOnce: there is no room, and none came up in time."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        if len(self._waiting) >= MAX_WAITING:
            raise _no_room()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            else:
                with suppress(ValueError):  # `give_back` passes over those that gave up
                    self._waiting.remove((size, turn))
                self.give_back(0)
            if isinstance(error, TimeoutError):
                raise _no_room() from None
            raise

    def give_back(self, size: int) -> None:
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


def _no_room() -> TooManyAtOnce:
    return TooManyAtOnce("too many bodies are being read; wait, then send the same again")


class Rooms:
    """The rooms of a process."""

    def __init__(self) -> None:
        self.known = Room(KNOWN_ROOM)
        self.unknown = Room(UNKNOWN_ROOM)


class Reservation:
    """The room of one request, taken when its body is first asked for."""

    def __init__(self, rooms: Rooms, scope: HTTPScope, receive: Receive) -> None:
        self._rooms, self._scope, self._receive = rooms, scope, receive
        self._room: Room | None = None
        self._size = 0
        scope[RESERVATION] = self  # type: ignore[literal-required]  # a key of ours

    async def receive(self) -> HTTPReceiveMessage:
        """Stands in for the server's own `receive`.

        Raises:
            TooManyAtOnce: see `Room.take`.
        """
        if self._room is None:
            is_known = self._scope["state"].get("key_id") is not None
            room = self._rooms.known if is_known else self._rooms.unknown
            size = self._wanted(MAX_BODY_BYTES if is_known else MAX_UNKEYED_BODY_BYTES)
            await room.take(size)
            self._room, self._size = room, size
        return cast("HTTPReceiveMessage", await self._receive())

    def shrink(self, size: int) -> None:
        """Gives back all but `size` bytes, once the length of the body is known."""
        if self._room is not None and size < self._size:
            self._room.give_back(self._size - size)
            self._size = size

    def give_back(self) -> None:
        self.shrink(0)

    def _wanted(self, limit: int) -> int:
        """Bytes that the body can take up: as it comes, and unpacked beside that."""
        headers = dict(self._scope["headers"])
        length = headers.get(b"content-length", b"")
        wire = min(int(length), limit) if length.isdigit() else limit
        return wire + (limit if headers.get(b"content-encoding") == b"gzip" else 0)


def has_body(scope: HTTPScope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


async def read(scope: HTTPScope, receive: Receive, limit: int) -> bytearray:
    """A body as it was sent. The caller alone holds it: the framework's request does not.

    Raises:
        RequestEntityTooLarge: it is longer than `limit`; what was read is dropped.
        ClientException: the client left.
    """
    length = dict(scope["headers"]).get(b"content-length", b"")
    if length.isdigit() and int(length) > limit:
        raise RequestEntityTooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            del body
            raise ClientException("the body was cut short")
        body += message["body"]
        if len(body) > limit:
            del body, message
            raise RequestEntityTooLarge
        if not message["more_body"]:
            return body


def unpacked(packed: bytearray, limit: int = MAX_BODY_BYTES) -> bytearray:
    """The content of a gzip body. Empties `packed`.

    Raises:
        InvalidInput: it is not gzip, or cut short.
        RequestEntityTooLarge: it unpacks to more than `limit`.
    """
    inflater, plain = zlib.decompressobj(wbits=31), bytearray()
    try:
        for start in range(0, len(packed), _PIECE_BYTES):
            piece = bytes(packed[start : start + _PIECE_BYTES])
            while piece and len(plain) <= limit:
                plain += inflater.decompress(piece, _PIECE_BYTES)
                piece = inflater.unconsumed_tail
            if inflater.eof or len(plain) > limit:
                break
        is_whole, is_too_large = inflater.eof, len(plain) > limit
    except zlib.error:
        is_whole, is_too_large = None, False
    packed.clear()
    if is_too_large:
        plain.clear()
        raise RequestEntityTooLarge(detail=f"the body unpacks to more than {limit} bytes")
    if is_whole is None:
        plain.clear()
        raise InvalidInput("the body is not gzip, though Content-Encoding says so")
    if not is_whole:
        plain.clear()
        raise InvalidInput("the gzip body was cut short")
    return plain


def reservation_of(connection: Any) -> Reservation | None:
    """Of a request that has a body."""
    return connection.scope.get(RESERVATION)  # type: ignore[no-any-return]  # put there above
