"""The HTTP server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

import uvicorn
from litestar import Litestar

from api.http.connections import BoundedProtocol, Doors, Served, make_room_for_connections
from infra.settings import TrustedProxies

IDLE_SECONDS = 75
"""The server closes an idle connection after this time. Clients should close first: a sender cannot
tell the fate of a request that meets a closing connection. Proxies usually keep idle connections
for 60 s, clients for less."""

TICK_SECONDS = 1.0
"""How often the server checks connections for timeouts and renews the date of answers."""

DATED = 0
"""The count of a tick at which Uvicorn sets the date of answers."""


class Server(uvicorn.Server):
    """Uvicorn in a thread: signals are for the main thread, which closes things in order."""

    def __init__(self, app: Litestar, trusted: TrustedProxies = ()) -> None:
        super().__init__(
            Served(
                app,
                Doors(trusted),
                # Its messages go the way of all others. A warning is what any client can cause.
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,  # `api.http.proxies` reads them, from trusted proxies only
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=2,
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        make_room_for_connections()

    def install_signal_handlers(self) -> None:
        """Leaves signals alone."""

    def end(self) -> None:
        """Asks the server to finish its requests and end. Callable from any thread."""
        self.should_exit = True
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        """Ticks once a second. Uvicorn does ten times: most of what an idle server costs."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(DATED):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._ending.wait()

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            cast(BoundedProtocol, connection).look(now)
        return await super().on_tick(counter)
