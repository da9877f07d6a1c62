"""A running `annals run`, asked over HTTP with the keys of its own data folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

SECONDS = 120
QUIET_SECONDS = 1.0


class Server:
    """
    Args:
        url: of the server.
        data: its data folder, which has the keys.
    """

    def __init__(self, url: str, data: Path) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)
        self._keys: dict[str, str] = json.loads((data / "keys.json").read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        scope: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **ids: str,
    ) -> httpx.Response:
        """Asks once. `{name}` in a path stands for one of `ids`."""
        place = path.format(**{name: quote(id, safe="") for name, id in ids.items()})
        sent = {"Authorization": f"Bearer {self._keys[scope]}", **(headers or {})}
        json_body = {} if body is None else {"json": body}
        return self._http.request(method, place, headers=sent, params=query, **json_body)

    def _asked(self, method: str, path: str, scope: str, body: Any = None, **more: Any) -> Any:
        """The same; waits where what a condition asks for is still being counted."""
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self.request(method, path, scope, body, **more)
            if answer.status_code != 503 or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json() if answer.content else None

    def get(self, path: str, scope: str = "read", **ids: str) -> Any:
        return self._asked("GET", path, scope, **ids)

    def post(self, path: str, body: Any = None, scope: str = "admin", **more: Any) -> Any:
        return self._asked("POST", path, scope, body, **more)

    def put(self, path: str, body: Any) -> Any:
        return self._asked("PUT", path, "admin", body)

    def delete(self, path: str, scope: str = "admin", **ids: str) -> Any:
        return self._asked("DELETE", path, scope, **ids)

    def made(self, path: str, body: Any) -> str:
        """The id of what was made."""
        id: str = self.post(path, body)["id"]
        return id

    def send(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Sends messages, which have to be taken; waits until they can be seen."""
        answer = self.post("/v1/batch", {"batch": messages}, "write")
        assert answer["success"], answer
        seen = {"limit": 1, "wait_for": answer["position"]}
        self._asked("GET", "/api/users", "read", query=seen)
        results: list[dict[str, Any]] = answer["results"]
        return results

    def until(self, path: str, holds: Callable[[Any], bool], scope: str = "comply") -> Any:
        """Asks until something holds of the answer."""
        deadline = time.monotonic() + SECONDS
        while not holds(answer := self.get(path, scope)):
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
        return answer

    def settle(self) -> None:
        """Waits until all is projected and decided, and nothing more is recorded."""
        deadline = time.monotonic() + SECONDS
        recorded, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            assert time.monotonic() < deadline
            status = self.get("/api/status")
            if status["recorded"] != recorded or status["behind"] or status["deciding"]:
                recorded, since = status["recorded"], time.monotonic()
            time.sleep(0.05)
