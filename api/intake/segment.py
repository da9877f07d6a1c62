"""Segment's messages, as its clients send them, into commands.

Protocol: https://segment.com/docs/connections/spec/ and its HTTP tracking API. A message without a
user is refused, but for an event of an account alone, in which `anonymousId` and
`context.groupId` both hold the account's id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypeGuard

import msgspec

from api.intake import lenient_json
from domain.activity import (
    Activity,
    ActivityKind,
    channel_of,
    checked_metadata,
    event_name,
    occurrence,
    page_name,
)
from domain.commands import Alias, Change, Command, Join, Request, Track
from domain.errors import InvalidInput
from domain.identity import Identity, Scheme, SubjectKind, identity, json_type
from domain.properties import RefusedValue, checked_text, name_problem, parse_instant

MAX_MESSAGES = 2_500
MAX_MESSAGE_BYTES = 32 * 1024
MAX_MESSAGE_ID_CHARS = 256
CALLS = ("identify", "group", "track", "page", "screen", "alias")
_SKEW_WORTH_NOTING = 1.0
_CAMPAIGN_KEYS = ("name", "source", "medium", "term", "content")


class Message(msgspec.Struct, frozen=True):
    """A call. Other fields are ignored, as the protocol demands."""

    type: Any = None
    messageId: Any = None
    timestamp: Any = None
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
        _sent_at(sent_at),
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
        _sent_at(content.get("sentAt")),
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


def _sent_at(value: object) -> datetime | None:
    try:
        return parse_instant(value) if isinstance(value, str) else None
    except ValueError:
        return None


def is_message_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_MESSAGE_ID_CHARS and value.isprintable()


def request(message: Message, received_at: datetime, sent_at: datetime | None) -> Request:
    """The command that a message asks for.

    Raises:
        InvalidInput: with the place inside the message.
    """
    message_id = message.messageId
    if message_id is not None and not is_message_id(message_id):
        raise InvalidInput(
            f"the messageId must be a printable text of 1 to {MAX_MESSAGE_ID_CHARS} characters",
            pointer="/messageId",
        )
    at = _occurred_at(message.timestamp, received_at)
    context = _object(message.context, "/context")
    match message.type:
        case "identify":
            traits = _object(message.traits, "/traits")
            users = _user(message.userId, traits, "/traits")
            command: Command = Change(SubjectKind.USER, users, traits, at)
            return Request(command, message_id)
        case "group":
            return Request(_group(message, context, at), message_id)
        case "track" | "page" | "screen":
            command, refused = _tracked(message, context, at, received_at, sent_at)
            return Request(command, message_id, tuple(refused))
        case "alias":
            user = identity(Scheme.USER_ID, message.userId, pointer="/userId")
            previous = identity(Scheme.USER_ID, message.previousId, pointer="/previousId")
            return Request(Alias((user,), (previous,), at), message_id)
        case None:
            raise InvalidInput(f"the type is missing: one of {', '.join(CALLS)}", pointer="/type")
        case _:
            raise InvalidInput(
                f"unknown type of call: use one of {', '.join(CALLS)}", pointer="/type"
            )


def _group(message: Message, context: dict[str, object], at: datetime) -> Command:
    traits = _object(message.traits, "/traits")
    accounts = [identity(Scheme.ACCOUNT_ID, message.groupId, pointer="/groupId")]
    if isinstance(traits.get("domain"), str):
        accounts.append(identity(Scheme.DOMAIN, traits["domain"], pointer="/traits/domain"))
    people = _object(context.get("traits"), "/context/traits")
    if message.userId is None and people.get("email") is None:
        return Change(SubjectKind.ACCOUNT, tuple(accounts), traits, at)
    users = _user(message.userId, people, "/context/traits")
    relationship = _object(context.get("relationship"), "/context/relationship")
    return Join(users, tuple(accounts), traits, relationship, at)


def _tracked(
    message: Message,
    context: dict[str, object],
    at: datetime,
    received_at: datetime,
    sent_at: datetime | None,
) -> tuple[Command, list[RefusedValue]]:
    properties = _object(message.properties, "/properties")
    metadata, refused = checked_metadata(properties)
    page = _object(context.get("page"), "/context/page")
    url = properties.get("url", page.get("url"))
    match message.type:
        case "track":
            kind, name = ActivityKind.EVENT, event_name(message.event, pointer="/event")
        case "page" if not message.name:
            kind, name = ActivityKind.PAGE, page_name(url, pointer="/properties/url")
            metadata.setdefault("url", str(url))
        case _:
            kind, name = ActivityKind.SCREEN, event_name(message.name, pointer="/name")
    skew = None if sent_at is None else (received_at - sent_at).total_seconds()
    if skew is not None and abs(skew) < _SKEW_WORTH_NOTING:
        skew = None
    activities = [Activity(kind, name, metadata, skew)]
    activities += _touches(context, page, url if isinstance(url, str) else None)

    accounts: tuple[Identity, ...] = ()
    if context.get("groupId") is not None:
        accounts = (identity(Scheme.ACCOUNT_ID, context["groupId"], pointer="/context/groupId"),)
    people = _object(context.get("traits"), "/context/traits")
    of_account_alone = (
        accounts and message.userId is None and message.anonymousId == accounts[0].value
    )
    users = () if of_account_alone else _user(message.userId, people, "/context/traits")
    return Track(users, accounts, tuple(activities), at), refused


def _touches(
    context: Mapping[str, object], page: Mapping[str, object], url: str | None
) -> list[Activity]:
    """Returns the channel and the campaign of a visit, if the context names them."""
    sent = _object(context.get("campaign"), "/context/campaign")
    campaign = {
        key: value
        for key in _CAMPAIGN_KEYS
        if isinstance(value := sent.get(key), str) and value and name_problem(value) is None
    }
    referrer = page.get("referrer")
    channel = channel_of(campaign, referrer if isinstance(referrer, str) else None, url)
    touches = []
    if channel is not None:
        metadata: dict[str, str | int | float | bool] = {
            key: value for key, value in campaign.items() if key != "name"
        }
        touches.append(Activity(ActivityKind.CHANNEL, channel, metadata))
        if "name" in campaign:
            touches.append(Activity(ActivityKind.CAMPAIGN, campaign["name"], dict(metadata)))
    return touches


def _user(user_id: object, traits: Mapping[str, object], pointer: str) -> tuple[Identity, ...]:
    identities = []
    if user_id is not None:
        identities.append(identity(Scheme.USER_ID, user_id, pointer="/userId"))
    if traits.get("email") is not None:
        identities.append(identity(Scheme.EMAIL, traits["email"], pointer=f"{pointer}/email"))
    if not identities:
        raise InvalidInput(
            "the message names nobody: send a userId, or an email in the traits", pointer="/userId"
        )
    return tuple(identities)


def _occurred_at(timestamp: object, received_at: datetime) -> datetime:
    if timestamp is None:
        return received_at
    if not isinstance(timestamp, str):
        raise InvalidInput(
            f"expected a date (ISO 8601), got {json_type(timestamp)}", pointer="/timestamp"
        )
    try:
        at = datetime.fromisoformat(checked_text(timestamp))
    except ValueError:
        raise InvalidInput("the timestamp is no date (ISO 8601)", pointer="/timestamp") from None
    if at.tzinfo is None:
        raise InvalidInput(
            "the timestamp has no zone; end it with Z or an offset like +02:00",
            pointer="/timestamp",
        )
    try:
        return occurrence(at)
    except ValueError as reason:
        raise InvalidInput(str(reason), pointer="/timestamp") from None


def _object(value: object, pointer: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"expected an object, got {json_type(value)}", pointer=pointer)
    return value
