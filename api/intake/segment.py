"""Batches of Segment's messages, as its clients send them, decoded.

Protocol: https://segment.com/docs/connections/spec/ and its HTTP tracking API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from api.intake import clock, lenient_json
from domain.errors import InvalidInput

MAX_MESSAGES = 2_500
MAX_MESSAGE_BYTES = 32 * 1024


class Message(msgspec.Struct, frozen=True):
    """A call. Other fields are ignored, as the protocol demands."""

    type: Any = None
    messageId: Any = None
    timestamp: Any = None
    originalTimestamp: Any = None
    sentAt: Any = None
    userId: Any = None
    anonymousId: Any = None
    previousId: Any = None
    groupId: Any = None
    event: Any = None
    name: Any = None
    traits: Any = None
    properties: Any = None
    context: Any = None


class Batch(msgspec.Struct, frozen=True):
    batch: list[msgspec.Raw]
    writeKey: msgspec.Raw = msgspec.Raw(b"null")
    sentAt: msgspec.Raw = msgspec.Raw(b"null")


class Keyed(msgspec.Struct, frozen=True):
    """The part of a body that is read before its sender is known."""

    writeKey: msgspec.Raw = msgspec.Raw(b"null")


class Envelope(msgspec.Struct, frozen=True):
    """
    Attributes:
        count: of messages.
        messages: each decoded when its turn comes, or why it could not be. Can be read once.
    """

    count: int
    messages: Iterator[Message | InvalidInput]
    write_key: str | None
    sent_at: datetime | None


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_batch_decoder = msgspec.json.Decoder(Batch)
_key_decoder = msgspec.json.Decoder(Keyed)
_message_decoder = msgspec.json.Decoder(Message)

_LOOKS_LIKE_A_KEY = re.compile(rb'"writeKey"\s{0,8}:\s{0,8}"([\x21\x23-\x5b\x5d-\x7e]{1,256})"')
_MAX_SHORT_BYTES = 1_024


def write_key_of(body: bytes | bytearray) -> str | None:
    """The `writeKey` beside `batch`. Nothing else of the body becomes an object.

    If the body is not strict JSON, returns the first text that looks like a key; the intake
    compares it with the key that `decoded` finds.
    """
    try:
        key = _short(_key_decoder.decode(body).writeKey)
        return key if isinstance(key, str) else None
    except msgspec.ValidationError:
        return None
    except _UNREADABLE:
        match = _LOOKS_LIKE_A_KEY.search(body)
        return None if match is None else match[1].decode()


def decoded(body: bytes | bytearray) -> Envelope:
    """Decodes a batch; a message that is no JSON object spoils only itself.

    Raises:
        InvalidInput: the body is not JSON, has no list `batch`, or too many messages.
    """
    try:
        batch = _batch_decoder.decode(body)
        write_key, sent_at = _short(batch.writeKey), _short(batch.sentAt)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"expected {{'batch': [...]}}: {error}", pointer="/batch") from None
    except _UNREADABLE:
        return _leniently_decoded(body)
    count = len(batch.batch)
    if count > MAX_MESSAGES:
        raise InvalidInput(
            f"the batch has {count} messages, at most {MAX_MESSAGES} are taken", pointer="/batch"
        )
    return Envelope(
        count,
        map(_message, batch.batch),
        write_key if isinstance(write_key, str) else None,
        clock.instant(sent_at),
    )


def _short(raw: msgspec.Raw) -> object:
    """Decodes a short value; None: it is long."""
    return msgspec.json.decode(raw) if memoryview(raw).nbytes <= _MAX_SHORT_BYTES else None


def _leniently_decoded(body: bytes | bytearray) -> Envelope:
    """Decodes JSON that strict decoders refuse: only the values with a fault are refused then."""
    try:
        content = lenient_json.loaded(body)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("batch"), list):
        raise InvalidInput("expected {'batch': [...]}", pointer="/batch")
    if len(content["batch"]) > MAX_MESSAGES:
        raise InvalidInput(
            f"the batch has {len(content['batch'])} messages, at most {MAX_MESSAGES} are taken",
            pointer="/batch",
        )
    key = content.get("writeKey")
    return Envelope(
        len(content["batch"]),
        map(_leniently_read, content["batch"]),
        key if isinstance(key, str) else None,
        clock.instant(content.get("sentAt")),
    )


def _leniently_read(sent: object) -> Message | InvalidInput:
    text = json.dumps(sent, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_MESSAGE_BYTES:
        return _too_large(size)
    try:
        return msgspec.convert(sent, Message)
    except msgspec.ValidationError as error:
        return InvalidInput(f"the message cannot be read: {error}")


def _message(raw: msgspec.Raw) -> Message | InvalidInput:
    size = memoryview(raw).nbytes
    if size > MAX_MESSAGE_BYTES:
        return _too_large(size)
    try:
        return _message_decoder.decode(raw)
    except _UNREADABLE:
        try:
            return _leniently_read(lenient_json.loaded(bytes(raw)))
        except ValueError as error:
            return InvalidInput(f"the message is not JSON: {error}")


def _too_large(size: int) -> InvalidInput:
    return InvalidInput(
        f"the message has {size} bytes, at most {MAX_MESSAGE_BYTES} are taken; send less"
    )
