"""Calls of the public HTTP API: within this process, with the API key of the session.

Each call goes through the API's own routes, guards and refusals. So the console can do exactly the
same as its reader's key over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

import httpx
import msgspec
from litestar import Litestar
from litestar.types import Receive, Scope, Send

Json = Any
SECONDS = 60.0


class Refused(Exception):
    """The API refused a request; holds its problem details.

    Attributes:
        pointer: JSON pointer into what was sent, where there is one.
    """

    def __init__(self, status: int, code: str, detail: str, pointer: str | None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.pointer = pointer


class Calls:
    """Calls of one reader.

    Args:
        as_of: the past instant that is read; None: now.
    """

    def __init__(self, app: Litestar, key: str, as_of: str | None = None) -> None:
        self.as_of = as_of or None
        transport = httpx.ASGITransport(cast(Any, app), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(
            transport=transport,
            base_url="http://annals",
            timeout=SECONDS,
            headers={"Authorization": f"Bearer {key}"},
        )

    async def get(self, path: str, **query: object) -> Json:
        """Raises: Refused."""
        instant_query = query | {"as_of": self.as_of}
        parameters = {name: value for name, value in instant_query.items() if value is not None}
        return self._body(await self._client.get(path, params=_texts(parameters)))

    async def post(self, path: str, body: object, **headers: str) -> Json:
        """Raises: Refused."""
        return await self._send("POST", path, body, **headers)

    async def file(self, path: str) -> httpx.Response:
        """Returns an answer byte for byte, or one that is not JSON.

        Raises:
            Refused.
        """
        answer = await self._client.get(path)
        if not answer.is_success:
            self._body(answer)
        return answer

    async def put(self, path: str, body: object) -> Json:
        """Raises: Refused."""
        return await self._send("PUT", path, body)

    async def delete(self, path: str) -> Json:
        """Raises: Refused."""
        return self._body(await self._client.delete(path))

    async def _send(self, method: str, path: str, body: object, **headers: str) -> Json:
        return self._body(
            await self._client.request(
                method,
                path,
                content=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"}
                | {name.replace("_", "-"): value for name, value in headers.items()},
            )
        )

    @staticmethod
    def _body(answer: httpx.Response) -> Json:
        if answer.is_success:
            return msgspec.json.decode(answer.content) if answer.content else None
        try:
            problem = answer.json()
        except ValueError:
            problem = {}
        raise Refused(
            answer.status_code,
            problem.get("code", "failed"),
            problem.get("detail", "Annals failed at this"),
            problem.get("place"),
        )


def _texts(query: Mapping[str, object]) -> dict[str, Any]:
    return {name: value if isinstance(value, list) else str(value) for name, value in query.items()}


def segment_of_path(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


async def forward(
    app: Litestar,
    scope: Scope,
    receive: Receive,
    send: Send,
    path: str,
    *,
    query: bytes,
    key: str,
) -> None:
    """Hands a whole request on to a route of the API: an answer of any length streams through."""
    headers = [(name, value) for name, value in scope["headers"] if name in (b"accept", b"host")]
    inner: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": scope.get("scheme", "http"),
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [*headers, (b"authorization", f"Bearer {key}".encode())],
        "client": scope.get("client"),
        "server": scope.get("server"),
        "state": {},
    }
    await app(cast(Any, inner), receive, send)
