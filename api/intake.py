"""HTTP intake: Segment's batch protocol, with a result for each message."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from anyio.to_thread import run_sync
from litestar import Controller, post
from litestar import Request as HttpRequest
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from api import segment
from api.auth import Route, authorised, presented_key, route_of
from api.positions import position_text
from api.problems import ProblemException, answers
from domain.access import ApiScope
from domain.commands import Duplicate, Outcome, Position, Refused, Request, Stored
from domain.errors import InvalidInput
from domain.properties import RefusedValue
from infra.wiring import Annals

MAX_BODY_BYTES = 4 * 1024 * 1024


class MessageResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one message of a batch.

    Attributes:
        messageId: as sent; null where there was none, or one that cannot be.
        refused: values that were left out of a message that was stored.
        code, detail, place: why a message was refused, and where (JSON pointer into the batch).
    """

    status: Literal["stored", "duplicate", "refused"]
    messageId: str | None = None
    refused: tuple[RefusedValue, ...] = ()
    code: str | None = None
    detail: str | None = None
    place: str | None = None


class BatchResult(msgspec.Struct, frozen=True):
    """
    Attributes:
        success: whether every message was stored, now or before.
        position: where the read models have to be to show it; give it as `wait_for`.
    """

    success: bool
    results: list[MessageResult]
    position: str


@dataclass
class BatchOperation(Operation):
    """Says what a batch is, which the route itself reads as bytes."""

    def __post_init__(self) -> None:
        message = Schema(
            type=OpenAPIType.OBJECT,
            properties={"type": Schema(type=OpenAPIType.STRING, enum=list(segment.CALLS))},
            description="a call of Segment's protocol",
        )
        batch = Schema(
            type=OpenAPIType.OBJECT,
            required=["batch"],
            properties={
                "batch": Schema(type=OpenAPIType.ARRAY, items=message),
                "writeKey": Schema(type=OpenAPIType.STRING),
                "sentAt": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
            },
        )
        self.request_body = RequestBody(
            {"application/json": OpenAPIMediaType(batch)}, required=True
        )


class IntakeController(Controller):
    """Segment's clients post here, with the write key as Basic user name or in the body."""

    tags = ("intake",)
    request_max_body_size = MAX_BODY_BYTES

    @post(
        ["/v1/batch", "/backend/v1/batch", "/v1/import"],
        status_code=200,
        summary="Take a batch of identify, group, track, page, screen and alias calls",
        operation_class=BatchOperation,
        responses=answers(400, 401, 403, 413, 415, 503),
        security=[{"ApiKey": []}, {"WriteKey": []}, {}],
    )
    async def batch(self, request: HttpRequest[Any, Any, Any]) -> BatchResult:
        body = await request.body()
        return await run_sync(
            take,
            request.app.state.annals,
            body,
            request.headers.get("content-encoding", ""),
            presented_key(request.headers.get("authorization")),
            route_of(request),
        )


def take(annals: Annals, body: bytes, encoding: str, key: str | None, route: Route) -> BatchResult:
    """What comes of a batch: its body, as sent, and the key presented with it.

    Raises:
        InvalidInput: nothing of the body can be read.
        ProblemException: a key that may not send; a body too large or in an unknown encoding.
    """
    received_at = datetime.now(UTC)
    if key is not None:
        authorised(annals, key, route, ApiScope.WRITE)
    envelope = segment.decoded(_decompressed(body, encoding))
    if key is None:
        authorised(annals, envelope.write_key, route, ApiScope.WRITE)
    requests: list[Request] = []
    results: list[MessageResult | None] = []
    ids: list[str | None] = []
    for n, message in enumerate(envelope.messages):
        try:
            if isinstance(message, InvalidInput):
                ids.append(None)
                raise message
            ids.append(message.messageId if segment.is_message_id(message.messageId) else None)
            requests.append(segment.request(message, received_at, envelope.sent_at))
            results.append(None)
        except InvalidInput as error:
            results.append(_refused(ids[n], error.code, error.detail, f"/batch/{n}{error.place}"))
    outcomes = iter(annals.handler.handle(requests) if requests else [])
    reached: dict[int, int] = {}
    answered: list[MessageResult] = []
    for n, result in enumerate(results):
        if result is not None:
            answered.append(result)
            continue
        outcome = next(outcomes)
        answered.append(_result(ids[n], outcome, n))
        if isinstance(outcome, Stored):
            for one in outcome.positions:
                reached[one.log_partition] = max(one.position, reached.get(one.log_partition, 0))
    return BatchResult(
        all(one.status != "refused" for one in answered),
        answered,
        position_text(Position(*one) for one in sorted(reached.items())),
    )


def _result(message_id: str | None, outcome: Outcome, n: int) -> MessageResult:
    match outcome:
        case Stored():
            return MessageResult("stored", message_id, outcome.refused)
        case Duplicate():
            return MessageResult("duplicate", message_id)
        case Refused():
            return _refused(message_id, outcome.code, outcome.detail, f"/batch/{n}{outcome.place}")


def _refused(message_id: str | None, code: str, detail: str, place: str) -> MessageResult:
    return MessageResult("refused", message_id, (), code, detail, place)


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise ProblemException(
            415, "unknown-encoding", "send the body plain or with Content-Encoding: gzip"
        )
    try:
        inflater = zlib.decompressobj(wbits=31)
        plain = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise InvalidInput("the body is not gzip, though Content-Encoding says so") from None
    if len(plain) > MAX_BODY_BYTES:
        raise ProblemException(
            413, "too-large", f"the body unpacks to more than {MAX_BODY_BYTES} bytes"
        )
    if not inflater.eof:
        raise InvalidInput("the gzip body was cut short")
    return plain
