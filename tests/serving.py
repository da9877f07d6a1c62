"""The real HTTP server on a free port, with its projector, and clients for each scope."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from litestar import Litestar

from api.app import create_app, put_over
from api.server import Server
from infra import workers
from infra.bootstrap.annals import Annals

KEYS_FILE = "keys.json"

Message = dict[str, Any]
Fresh = Callable[[str], str]


class Clients:
    """Clients of a running server. What was sent is waited for before it is read."""

    def __init__(self, annals: Annals, url: str) -> None:
        self.annals = annals
        self.url = url
        self.keys = annals.api_keys.at_hand(annals.settings.data / KEYS_FILE)
        self._reached: dict[str, int] = {}
        self._stack = ExitStack()
        self._clients: dict[str | None, httpx.Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, scope: str | None) -> httpx.Client:
        """The client with the key of a scope; None: with no key at all."""
        if scope not in self._clients:
            headers = {} if scope is None else {"Authorization": f"Bearer {self.keys[scope]}"}
            client = httpx.Client(
                base_url=self.url, headers=headers, timeout=60, verify=NO_CERTIFICATES
            )
            self._clients[scope] = self._stack.enter_context(client)
        return self._clients[scope]

    def send(self, *messages: Any, **envelope: Any) -> dict[str, Any]:
        """Sends a batch that is taken; returns the answer."""
        answer = self("write").post("/v1/batch", json={"batch": messages, **envelope})
        return self.taken(answer)

    def send_bytes(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self.taken(self("write").post("/v1/batch", content=body, headers=headers))

    def taken(self, answer: httpx.Response) -> dict[str, Any]:
        """The body of an answer of status 200. Later reads wait for what it stored."""
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        for part in filter(None, body.get("position", "").split(",")):
            partition, _, position = part.partition(":")
            self._reached[partition] = max(int(position), self._reached.get(partition, 0))
        return body

    def taken_up_to(self, heads: Mapping[int, int]) -> None:
        """Has later reads wait for all that the log holds."""
        self._reached = {str(partition): at for partition, at in heads.items() if at}

    @property
    def position(self) -> str:
        """Where the read models have to be to show all that was sent."""
        return ",".join(f"{partition}:{at}" for partition, at in self._reached.items())

    def get(self, path: str, *, scope: str = "read", **query: Any) -> httpx.Response:
        """Reads what was sent up to now."""
        deadline = time.monotonic() + 60
        while True:
            answer = self(scope).get(path, params={"wait_for": self.position, **query})
            if answer.status_code != 503 or time.monotonic() > deadline:
                return answer

    def see(self, path: str, **query: Any) -> Any:
        """The body of a reading that goes well."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pages(self, path: str, **query: Any) -> list[Any]:
        """All items of a list, page after page."""
        items: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.see(path, **query, **cursor)
            items += page["items"]
            if page["next"] is None:
                return items
            cursor = {"cursor": page["next"]}

    def erase(self, kind: str, id: str) -> str:
        """Erases a subject; returns its random id."""
        request = {"kind": kind, "id": id, "confirm": "confirm"}
        answer = self.taken(self("comply").post("/api/erasures", json=request))
        return str(answer["subject"])


def user(id: str, tab: str = "") -> str:
    """The path of a user by its external id, or of a tab below it."""
    return f"/api/users/{quote(f'external:{id}', safe='')}{tab}"


def account(id: str, tab: str = "") -> str:
    return f"/api/accounts/{quote(f'external:{id}', safe='')}{tab}"


GOOD = b'{"type":"track","userId":"good","event":"stayed","timestamp":"2026-03-04T05:06:07Z"}'
"""A message that is taken, to be the neighbour of one that is not."""


def goods(client: Clients) -> int:
    """How many of the good neighbours are seen."""
    answer = client.get(user("good", "/events"))
    return 0 if answer.status_code == 404 else sum(item["count"] for item in answer.json()["items"])


def problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem details that an answer is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:annals:problem:")
    assert body["title"]
    assert body["detail"]
    assert (body["code"], body["message"]) == (body["type"].rsplit(":")[-1], body["detail"])
    assert code is None or body["code"] == code
    return body


NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients over plain HTTP: to read all certificates of the machine for each takes long."""


class _Server(Server):
    """One that starts at once and can serve again."""

    def __init__(self, app: Litestar) -> None:
        super().__init__(app)
        self.app = app
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self.run, args=([self._listener],), daemon=True)
        self._thread.start()
        running.append(self)
        while not self.started:
            assert self._thread.is_alive()
            time.sleep(0.005)

    def let_go(self) -> None:
        """Ends when all is answered and nobody is connected any more."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._let_go(), self._loop).result(20)

    async def _let_go(self) -> None:
        state = self.server_state
        while state.connections or state.tasks:
            for connection in list(state.connections):
                connection.shutdown()
            await asyncio.sleep(0.001)


running: list[_Server] = []
_idle: list[_Server] = []
"""Those that served before: to start one takes longer than most tests."""


@contextmanager
def served(annals: Annals) -> Iterator[Clients]:
    """Serves and projects, as `annals serve` does, until the end of the block."""
    server = _idle.pop() if _idle else _Server(create_app(annals))
    put_over(server.app, annals)
    with workers.working(annals, project=True):
        try:
            with Clients(annals, server.url) as clients:
                yield clients
        finally:
            annals.change_feed.close()
            server.let_go()
    _idle.append(server)


def start_over(annals: Annals) -> None:
    """Has the read models made anew, now: a worker would find out within seconds."""
    annals.projector().start_over()
    annals.wakeups.signal()


def until(true: Callable[[], bool]) -> None:
    """Waits for what other threads or PostgreSQL do meanwhile: a decision, a vacuum."""
    deadline = time.monotonic() + 30
    pause = 0.01
    while not true():
        assert time.monotonic() < deadline
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
