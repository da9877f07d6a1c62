"""A real browser before a real server. Without Chromium these tests say so, and are skipped."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from api.console import sessions
from api.demo import company
from infra import bootstrap
from infra.settings import Settings
from tests.console.reader import WIDE, Reader, Scheme, Windows, window
from tests.databases import migrated
from tests.serving import Clients, served

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first draws without a window, which takes a quarter less time."""
ARGUMENTS = ["--no-sandbox", "--process-per-site", "--in-process-gpu"]
"""One process for all pages. Otherwise each page starts one, which is most of its work."""
MISSING = "no Chromium on this machine: `make browser` or your packages' `chromium` brings it"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def fresh(server: str, data: Path) -> Iterator[Clients]:
    """A server over a database of its own."""
    with (
        migrated(server) as url,
        bootstrap.opened(Settings(data=data), url, connections=4) as annals,
        served(annals) as clients,
    ):
        yield clients


@pytest.fixture(scope="package")
def world(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """A company that nobody changes: its tests only read."""
    with fresh(server, tmp_path_factory.mktemp("world")) as clients:
        told = company.messages(users=130, accounts=40, events=2_500, until=datetime.now(UTC))
        messages = list(told)
        for start in range(0, len(messages), 500):
            clients.send(*messages[start : start + 500])
        clients.see("/api/users")
        yield clients


@pytest.fixture
def session() -> Iterator[Callable[[Clients, str], tuple[httpx.Client, str]]]:
    """Signs in without a browser; gives the token of its pages too."""
    with ExitStack() as stack:

        def begun(clients: Clients, scope: str) -> tuple[httpx.Client, str]:
            client = stack.enter_context(httpx.Client(base_url=clients.url, timeout=60))
            answer = client.post("/console/sign-in", data={"key": clients.keys[scope]})
            assert answer.status_code == 303, answer.text
            cookie = answer.cookies[sessions.COOKIE]
            client.cookies.set(sessions.COOKIE, cookie, path=sessions.PATH)
            found = re.search(r'data-token="([^"]+)"', client.get("/console/segments").text)
            assert found
            return client, found[1]

        yield begun


@pytest.fixture(scope="package")
def windows(browser: Browser) -> Windows:
    return Windows(browser)


@pytest.fixture
def reading(browser: Browser, windows: Windows) -> Iterator[Callable[..., Reader]]:
    """Opens the console for someone with a key of some scope. Who comes for the first time, or
    chooses more than a width and a scheme, has a window of their own."""
    readers: list[Reader] = []
    with ExitStack() as stack:

        def opened(
            clients: Clients,
            scope: str | None = "read",
            *,
            width: int = WIDE,
            scheme: Scheme = "light",
            path: str | None = "/console/users",
            first: bool = False,
            **options: Any,
        ) -> Reader:
            if first or options:
                page = window(browser, clients.url, **options)
                stack.callback(page.context.close)
            else:
                page = windows.take(clients.url)
                stack.callback(windows.give_back, clients.url, page)
            reader = Reader(page, clients, scope, width=width, scheme=scheme, path=path)
            stack.callback(reader.leave)
            readers.append(reader)
            return reader

        yield opened
    for one in readers:
        one.assert_no_complaints()
