"""Live: streams of server-sent events that announce a change, without its content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec
from litestar import Controller, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from api.http.as_of import Readings
from api.http.auth import PLACE, READERS, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import ContactId, reading_of
from api.http.problems import answers
from api.http.read_position import position_text
from domain.commands import Position
from domain.identity import SubjectId, SubjectKind
from infra.change_feed import ChangeFeed, Watch
from infra.postgres.admission import Demand
from projections.queries import contact_view

HEARTBEAT_SECONDS = 15.0
MAX_SECONDS = 3_600.0
"""The longest a stream lasts; clients then open another, as browsers do by themselves."""

RETRY_MILLISECONDS = 2_000
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Where(msgspec.Struct, frozen=True):
    """A position in the log; give it as `wait_for` to a read."""

    position: str


STREAM = {
    200: ResponseSpec(
        Where,
        generate_examples=False,
        media_type=MEDIA_TYPE,
        description="messages `open`, `changed` and `contact.erased`",
    )
}


class _Changes(Controller):
    """Routes that users and accounts share."""

    guards = (opens(*READERS),)
    kind: SubjectKind

    @get(
        "/changes",
        sync_to_thread=True,
        opt={PLACE: Demand.LIVE},
        summary="Server-sent events when any of them changes",
        responses=STREAM | answers(401, 403, 503),
    )
    def of_all(self, change_feed: Part[ChangeFeed], asker: Part[Asker]) -> Stream:
        return _stream(change_feed, asker, self.kind, None)

    @get(
        "/{id:str}/changes",
        sync_to_thread=True,
        opt={PLACE: Demand.LIVE},
        summary="Server-sent events when it changes or is erased",
        responses=STREAM | answers(400, 401, 403, 404, 503),
    )
    def of_one(
        self,
        change_feed: Part[ChangeFeed],
        readings: Part[Readings],
        asker: Part[Asker],
        id: ContactId,
    ) -> Stream:
        with reading_of(readings, self.kind, id, None) as (_, conn, subject):
            contact_view.require(conn, self.kind, subject)
        return _stream(change_feed, asker, self.kind, subject)


def _stream(
    change_feed: ChangeFeed, asker: Asker, kind: SubjectKind, subject: SubjectId | None
) -> Stream:
    change_feed.require_room()
    messages = _messages(change_feed, asker, kind, subject)
    return Stream(messages, media_type=MEDIA_TYPE, headers=HEADERS)


async def _messages(
    change_feed: ChangeFeed, asker: Asker, kind: SubjectKind, subject: SubjectId | None
) -> AsyncGenerator[bytes, None]:
    """The messages, until the subject is erased, the key is revoked or the process ends."""
    # A watch belongs to the event loop, which handlers in threads do not have.
    watch, until = Watch(kind, subject, asker.key_id), time.monotonic() + MAX_SECONDS
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    try:
        await asyncio.to_thread(change_feed.begin, watch)
        yield _message("open", [Position(*began) for began in sorted(watch.began_at.items())])
        while time.monotonic() < until:
            positions = await watch.changed(HEARTBEAT_SECONDS)
            if watch.is_erased:
                yield _message("contact.erased", positions)
            if watch.is_over:
                return
            yield _message("changed", positions) if positions else b":\n\n"
    finally:
        change_feed.end(watch)


def _message(event: str, positions: list[Position]) -> bytes:
    position = position_text(positions)
    data = msgspec.json.encode(Where(position)).decode()
    return f"event: {event}\nid: {position}\ndata: {data}\n\n".encode()


class UserChangesController(_Changes):
    path = "/api/users"
    tags = ("users",)
    kind = SubjectKind.USER


class AccountChangesController(_Changes):
    path = "/api/accounts"
    tags = ("accounts",)
    kind = SubjectKind.ACCOUNT
