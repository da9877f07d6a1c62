"""The log is one JSON object a line, whoever writes it, and no line holds what was sent."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog
from litestar.types import Receive, Scope, Send

from api.cli import log_lines
from api.server import Server
from tests.processes import Process

pytestmark = pytest.mark.database  # each starts a process

SECRET = "ada@secret.example"


def fail(*_: object) -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"{SECRET}\nsecond line") from error


class Ends:
    def __del__(self) -> None:
        fail()


async def fail_in_the_loop() -> None:
    asyncio.get_running_loop().call_soon(fail)
    task = asyncio.create_task(asyncio.to_thread(fail))
    await asyncio.wait([task])
    del task
    gc.collect()
    await asyncio.sleep(0)


def write_in_every_way() -> None:
    log_lines.configure()
    structlog.get_logger().warning("ours.said", subjects=3)
    try:
        fail()
    except ValueError:
        structlog.get_logger().error("ours.failed", exc_info=True)
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application %s", SECRET)
    logging.getLogger("psycopg").warning("error connecting: %s", OSError(SECRET))
    logging.getLogger("anybody").error("%s\n%s", SECRET, "two lines")
    logging.getLogger("anybody").error("%d", SECRET)
    warnings.warn(SECRET, RuntimeWarning, stacklevel=1)
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    asyncio.run(fail_in_the_loop())
    Ends()
    fail()


def lines_of(function: Callable[[], None]) -> list[dict[str, Any]]:
    with Process(function) as process:
        process.wait()
        assert process.stdout.read() == ""
        written = process.errors()
    assert SECRET not in written
    return [json.loads(line) for line in written.splitlines()]


def test_every_writer_writes_a_json_object_a_line_without_what_it_was_about() -> None:
    lines = lines_of(write_in_every_way)
    for line in lines:
        assert isinstance(line, dict)
        assert {"event", "level", "timestamp"} <= line.keys()
    events = {line["event"] for line in lines}
    assert {
        "ours.said",
        "ours.failed",
        "library.logged",
        "warning.shown",
        "thread.failed",
        "error.ignored",
        "process.failed",
    } == events
    loggers = {line["logger"] for line in lines if line["event"] == "library.logged"}
    assert loggers == {"uvicorn.error", "psycopg", "anybody", "asyncio"}


def test_a_failure_names_its_kind_its_cause_and_its_places() -> None:
    lines = lines_of(write_in_every_way)
    by_event = {line["event"]: line for line in lines}
    for event in ("ours.failed", "thread.failed", "error.ignored", "process.failed"):
        line = by_event[event]
        assert (line["error"], line["causes"]) == ("ValueError", ["KeyError"])
        assert line["places"][-1].endswith(" fail")
    assert by_event["thread.failed"]["thread"] == "worker"
    assert by_event["warning.shown"]["kind"] == "RuntimeWarning"
    [kind] = [line.get("error") for line in lines if line.get("logger") == "psycopg"]
    assert kind == "OSError"


async def fail_at_a_request(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        raise ValueError(f"{SECRET}\nand more")


def serve_and_fail() -> None:
    log_lines.configure()
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(fail_at_a_request)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    assert httpx.get(url).status_code == 500
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"no HTTP at all\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    server.end()
    thread.join()


def test_a_server_that_fails_at_a_request_says_so_in_a_line() -> None:
    [line] = lines_of(serve_and_fail)
    assert (line["logger"], line["error"]) == ("uvicorn.error", "ValueError")
    assert line["places"][-1].endswith(" fail_at_a_request")
