"""The HTTP server."""

from __future__ import annotations

import uvicorn
from litestar import Litestar

IDLE_SECONDS = 75
"""A connection that nobody uses is closed after so long. Whoever sends is to give it up first:
where it is closed while a request is on its way, its sender does not know what became of it.
Proxies keep theirs for 60 s as a rule, clients for less."""


class Server(uvicorn.Server):
    """Uvicorn in a thread: signals are for the main thread, which closes things in order."""

    def __init__(self, app: Litestar) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # `api.proxies` reads them, from trusted proxies only
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=5,
            )
        )

    def install_signal_handlers(self) -> None:
        """Leaves signals alone."""
