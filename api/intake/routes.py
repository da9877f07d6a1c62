"""HTTP intake: Segment's batch protocol, with a result for each message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from anyio.to_thread import run_sync
from litestar import Controller, post
from litestar import Request as HttpRequest
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from api.http.auth import authorised, presented_key
from api.http.bodies import MAX_BODY_BYTES, MAX_UNKEYED_BODY_BYTES, read, reservation_of, unpacked
from api.http.dependencies import Part
from api.http.limits import Limits
from api.http.problems import ProblemException, answers
from api.http.read_position import position_text
from api.intake import calls, segment
from api.intake.segment import Envelope
from domain.access import ApiScope
from domain.commands import Duplicate, Outcome, Position, Refused, Request, Stored
from domain.errors import InvalidInput
from domain.properties import RefusedValue
from infra.write.command_handler import CommandHandler

UNKEYED = (
    "send the API key as Authorization: Bearer <key>; only a plain body of up to"
    f" {MAX_UNKEYED_BODY_BYTES:,} bytes is searched for a writeKey"
)


class MessageResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one message of a batch.

    Attributes:
        messageId: as sent; null: it was missing or invalid.
        refused: values left out of a stored message.
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
        position: the read models show the batch from here on; give it as `wait_for`.
    """

    success: bool
    results: list[MessageResult]
    position: str


@dataclass
class BatchOperation(Operation):
    """Describes a batch, which the route reads as bytes."""

    def __post_init__(self) -> None:
        message = Schema(
            type=OpenAPIType.OBJECT,
            properties={"type": Schema(type=OpenAPIType.STRING, enum=list(calls.CALLS))},
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
    async def batch(
        self, request: HttpRequest[Any, Any, Any], handler: Part[CommandHandler]
    ) -> BatchResult:
        limits: Limits = request.app.state.limits
        encoding = request.headers.get("content-encoding", "")
        if encoding not in ("", "identity", "gzip"):
            raise ProblemException(
                415, "unknown-encoding", "send the body plain or with Content-Encoding: gzip"
            )
        key = presented_key(request.headers.get("authorization"))
        if key is None:
            body, key, key_id = await _read_for_its_key(request, encoding)
        else:
            key_id, key = (await authorised(request, key, ApiScope.WRITE)).key_id, None
            body = await read(request.scope, request.receive, MAX_BODY_BYTES)
        if encoding == "gzip":
            body = await run_sync(unpacked, body)
        reservation = reservation_of(request)
        if reservation is not None:
            reservation.shrink(len(body))
        parcel = [body]
        del body
        return await run_sync(_take, handler, limits, key_id, key, parcel)


async def _read_for_its_key(
    request: HttpRequest[Any, Any, Any], encoding: str
) -> tuple[bytearray, str, UUID]:
    """Returns a body without a key in a header, the key in the body, and the key's id.

    Raises:
        ProblemException: 401: the body is packed or long, so that it is not looked at; or it holds
            no key that opens this.
    """
    length = request.headers.get("content-length", "")
    if encoding == "gzip" or (length.isdecimal() and int(length) > MAX_UNKEYED_BODY_BYTES):
        raise ProblemException(401, "missing-key", UNKEYED)
    try:
        body = await read(request.scope, request.receive, MAX_UNKEYED_BODY_BYTES)
    except RequestEntityTooLarge:
        raise ProblemException(401, "missing-key", UNKEYED) from None
    key = segment.write_key_of(body)
    try:
        key_id = (await authorised(request, key, ApiScope.WRITE)).key_id
    except BaseException:
        body.clear()
        raise
    assert key is not None
    return body, key, key_id


def _take(
    handler: CommandHandler, limits: Limits, key_id: UUID, key: str | None, parcel: list[bytearray]
) -> BatchResult:
    """Stores the batch in a body, which it takes out of the parcel to free its memory early.

    Args:
        key: the key in the body, if the body was read for it.

    Raises:
        InvalidInput: nothing of the body can be read.
        ProblemException: the body says another key than it was read for.
    """
    envelope = segment.decoded(parcel.pop())
    if key is not None and envelope.write_key != key:
        raise ProblemException(401, "unknown-key", "the API key is unknown or was revoked")
    limits.key_rates.spend(key_id, envelope.count)
    return take(handler, envelope)


def take(handler: CommandHandler, envelope: Envelope) -> BatchResult:
    """Stores the messages of a batch; returns the result of each."""
    received_at = datetime.now(UTC)
    requests: list[Request] = []
    results: list[MessageResult | None] = []
    ids: list[str | None] = []
    for n, message in enumerate(envelope.messages):
        try:
            if isinstance(message, InvalidInput):
                ids.append(None)
                raise message
            ids.append(calls.message_id(message.messageId))
            requests.append(calls.request(message, received_at, envelope.sent_at))
            results.append(None)
        except InvalidInput as error:
            results.append(_refused(ids[n], error.code, error.detail, f"/batch/{n}{error.pointer}"))
    outcomes = iter(handler.handle(requests) if requests else [])
    reached: dict[int, int] = {}
    final_results: list[MessageResult] = []
    for n, result in enumerate(results):
        if result is not None:
            final_results.append(result)
            continue
        outcome = next(outcomes)
        final_results.append(_result(ids[n], outcome, n))
        if isinstance(outcome, Stored):
            for stored in outcome.positions:
                partition = stored.log_partition
                reached[partition] = max(stored.position, reached.get(partition, 0))
    return BatchResult(
        all(result.status != "refused" for result in final_results),
        final_results,
        position_text(Position(*latest) for latest in sorted(reached.items())),
    )


def _result(message_id: str | None, outcome: Outcome, n: int) -> MessageResult:
    match outcome:
        case Stored():
            return MessageResult("stored", message_id, outcome.refused)
        case Duplicate():
            return MessageResult("duplicate", message_id)
        case Refused():
            return _refused(
                message_id, outcome.code, outcome.detail, f"/batch/{n}{outcome.pointer}"
            )


def _refused(message_id: str | None, code: str, detail: str, pointer: str) -> MessageResult:
    return MessageResult("refused", message_id, (), code, detail, pointer)
