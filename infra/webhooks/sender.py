"""Sends a destination one message: signs it, posts it, and says whether it was taken."""

from __future__ import annotations

import hashlib
import time
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.definitions.destinations import Destination
from infra.webhooks import signing
from infra.webhooks.cursors import GONE
from infra.webhooks.http_client import Connection, HttpClient, NotReached
from infra.webhooks.items import ItemsRead
from infra.webhooks.secrets import WebhookSecrets

_encoder = msgspec.json.Encoder()


class NotTaken(Exception):
    """A destination did not take a message.

    Attributes:
        failure: a status code, or a word for the kind of error.
        retry_after: seconds to wait before the next attempt, if the destination said so.
    """

    def __init__(self, failure: str, retry_after: float | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.retry_after = retry_after


class Message(NamedTuple):
    """
    Attributes:
        id: the same for the same items, and for no others.
        body: JSON.
    """

    id: str
    body: bytes


class WebhookSender:
    """Thread-safe; one instance per process."""

    def __init__(self, secrets: WebhookSecrets, http_client: HttpClient) -> None:
        self._secrets = secrets
        self._http_client = http_client

    def connection(self) -> Connection:
        """A connection for the messages to one destination."""
        return self._http_client.connection()

    def send(
        self, id: UUID, destination: Destination, connection: Connection, message: Message
    ) -> None:
        """Raises: NotTaken."""
        now = int(time.time())
        headers = signing.headers(self._secrets.of(id), message.id, now, message.body)
        try:
            status, retry_after = connection.post(destination.url, message.body, headers)
        except NotReached as error:
            raise NotTaken(error.failure) from None
        if status == 410:
            raise NotTaken(GONE)
        if not 200 <= status < 300:
            raise NotTaken(str(status), retry_after)

    def send_test(self, id: UUID, destination: Destination) -> str | None:
        """Sends a message without items; returns why it was not taken, or None."""
        body = _encoder.encode(
            {"type": "test", "timestamp": datetime.now(UTC), "data": {"destination": id}}
        )
        with self.connection() as connection:
            try:
                self.send(id, destination, connection, Message(f"msg_{uuid.uuid4().hex}", body))
            except NotTaken as error:
                return error.failure
        return None


def message_of(destination: UUID, read: ItemsRead) -> Message:
    """The message that holds the items that were read for a destination."""
    digest = hashlib.sha256(destination.bytes + b"".join(id.bytes for id, _ in read.items))
    frame: dict[str, Any] = {
        "type": "news",
        "timestamp": read.newest,
        "data": {
            "destination": destination,
            "items": [msgspec.Raw(encoded) for _, encoded in read.items],
        },
    }
    return Message(f"msg_{digest.hexdigest()[:32]}", _encoder.encode(frame))
