"""Requests and answers that a page shows, asked of a server: each request stands in a block `http`,
its answer in the block `json` that follows.

Ids, times, positions, secrets and hashes differ from run to run. They have to be of the same form;
an id that an answer gave stands for the same one in all that follows.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from tests.pages import text_of
from tests.serving import Clients

PAIR = re.compile(
    r"^```http\n(?P<request>.*?)^```\n(?P<between>.*?)^```json(?P<note>[^\n]*)\n(?P<answer>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VARYING = (
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"),
    re.compile(r"\d{1,3}:\d+(?:,\d{1,3}:\d+)*"),
    re.compile(r"whsec_.+"),
    re.compile(r"[0-9a-f]{16}"),
    re.compile(r"[0-9a-f]{64}"),
    re.compile(r"[A-Za-z0-9+/]{86}=="),
)
WAITING_SECONDS = 60


class Exchange(NamedTuple):
    """
    Attributes:
        scope: of the API key that the request is sent with.
        status: that the page says.
        is_whole: whether the answer stands there in full.
    """

    method: str
    path: str
    scope: str
    headers: dict[str, str]
    body: str
    status: int
    answer: Any
    is_whole: bool


def exchanges(page: str) -> Iterator[Exchange]:
    """What a page shows, in its order."""
    for pair in PAIR.finditer(text_of(page)):
        head, _, body = pair["request"].partition("\n\n")
        first, *lines = head.strip().splitlines()
        method, path = first.split()
        headers = dict(line.split(": ", 1) for line in lines)
        scope = re.fullmatch(r"Bearer <(\w+) key>", headers.pop("Authorization"))
        status = re.search(r"\b([2-5]\d\d)\b", pair["between"])
        assert scope, f"{page}: {first} says no key"
        assert status, f"{page}: {first} says no status"
        yield Exchange(
            method, path, scope[1], headers, body, int(status[1]), json.loads(pair["answer"]),
            "shortened" not in pair["note"],
        )  # fmt: skip


def hold(page: str, clients: Clients) -> int:
    """Asks all that a page shows, and holds the answers against it; returns how many there were."""
    ids: dict[str, str] = {}
    shown = list(exchanges(page))
    for exchange in shown:
        deadline = time.monotonic() + WAITING_SECONDS
        while True:
            answer = _ask(exchange, ids, clients)
            known = dict(ids)
            fault = _difference(exchange, answer, known)
            # What a page shows at its end is waited for, where it is read.
            if fault is None or exchange.method != "GET" or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert fault is None, f"{page}: {exchange.method} {exchange.path}: {fault}\n{answer.text}"
        ids = known
    return len(shown)


def _ask(exchange: Exchange, ids: dict[str, str], clients: Clients) -> httpx.Response:
    def now(text: str) -> str:
        return UUID.sub(lambda match: ids.get(match[0], match[0]), text)

    return clients(exchange.scope).request(
        exchange.method,
        now(exchange.path),
        headers=exchange.headers | {"Content-Type": "application/json"},
        content=now(exchange.body).encode() or None,
    )


def _difference(exchange: Exchange, answer: httpx.Response, ids: dict[str, str]) -> str | None:
    if answer.status_code != exchange.status:
        return f"answered with {answer.status_code}"
    return difference(exchange.answer, answer.json(), ids, is_whole=exchange.is_whole)


def difference(
    shown: Any, given: Any, ids: dict[str, str], *, is_whole: bool, pointer: str = ""
) -> str | None:
    """Where an answer is another than the one that is shown; None: nowhere."""
    match shown, given:
        case dict(), dict():
            missing = shown.keys() - given.keys() or (is_whole and given.keys() - shown.keys())
            if missing:
                return f"{pointer or '/'}: {sorted(missing)} stand in one of the two"
            parts = [(name, shown[name], given[name]) for name in shown]
        case list(), list() if len(shown) == len(given):
            parts = [(str(n), *pair) for n, pair in enumerate(zip(shown, given, strict=True))]
        case str(), str() if UUID.fullmatch(shown) and UUID.fullmatch(given):
            return None if ids.setdefault(shown, given) == given else f"{pointer}: another id"
        case str(), str() if any(
            form.fullmatch(shown) and form.fullmatch(given) for form in VARYING
        ):
            return None
        case None, str() if VARYING[0].fullmatch(given) or pointer == "/waits_for":
            return None  # what goes on by itself was a step further already
        case int(), int() if pointer.endswith("/behind") and given <= shown:
            return None  # as is what is delivered
        case _:
            return None if shown == given else f"{pointer}: {given!r} in place of {shown!r}"
    for name, part, other in parts:
        fault = difference(part, other, ids, is_whole=is_whole, pointer=f"{pointer}/{name}")
        if fault:
            return fault
    return None
