"""Bounds on the requests of a process: rates by key and address, and memory for bodies."""

from __future__ import annotations

from anyio import CapacityLimiter
from litestar.types import HTTPScope, Message, Send

from api.http.bodies import Rooms
from api.http.rates import KeyRates, WrongKeys
from infra.settings import Settings

LOOKING_UP = 4
"""Threads that ask the database for API keys; requests that hold all others hold none of these."""


class Limits:
    """The limits of an application, which has one instance."""

    def __init__(self, settings: Settings) -> None:
        self.key_rates = KeyRates(
            requests=settings.requests_per_second, messages=settings.messages_per_second
        )
        self.wrong_keys = WrongKeys()
        self.rooms = Rooms()
        self.looking_up = CapacityLimiter(LOOKING_UP)

    def with_rate_headers(self, scope: HTTPScope, send: Send) -> Send:
        """Returns: a `send` that adds the rate headers of the API key to the answer."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                key = scope["state"].get("key_id")
                if key is not None:
                    message["headers"] = [*message["headers"], *self.key_rates.headers(key)]
            await send(message)

        return sending
