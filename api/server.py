"""The HTTP server."""

from __future__ import annotations

import asyncio
from typing import cast

import uvicorn
from litestar import Litestar

from api.connections import BoundedProtocol, Doors, Served, make_room_for_connections
from infra.settings import TrustedProxies

IDLE_SECONDS = 75
"""A connection that nobody uses is closed after so long. Whoever sends is to give it up first:
where it is closed while a request is on its way, its sender does not know what became of it.
Proxies keep theirs for 60 s as a rule, clients for less."""

LOOK_SECONDS = 1.0
"""How often connections are looked at for what takes too long."""


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
                proxy_headers=False,  # `api.proxies` reads them, from trusted proxies only
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=2,
            )
        )
        self._looked_at = 0.0
        make_room_for_connections()

    def install_signal_handlers(self) -> None:
        """Leaves signals alone."""

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            for connection in list(self.server_state.connections):
                cast(BoundedProtocol, connection).look(now)
        return await super().on_tick(counter)
