"""The log is one JSON object a line, whoever writes it, and no line holds what was sent."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.database  # each starts a server of its own

SECRET = "ada@secret.example"

WRITERS = """
import asyncio, gc, logging, sys, threading, warnings
import structlog
from api.cli.log_lines import configure

SECRET = sys.argv[1]
configure()

def fail(*_):
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"{SECRET}\\nsecond line") from error

structlog.get_logger().warning("ours.said", subjects=3)
try:
    fail()
except ValueError:
    structlog.get_logger().error("ours.failed", exc_info=True)
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application %s", SECRET)
logging.getLogger("psycopg").warning("error connecting: %s", OSError(SECRET))
logging.getLogger("anybody").error("%s\\n%s", SECRET, "two lines")
logging.getLogger("anybody").error("%d", SECRET)
warnings.warn(SECRET, RuntimeWarning)

thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()

async def main():
    asyncio.get_running_loop().call_soon(fail)
    task = asyncio.create_task(asyncio.to_thread(fail))
    await asyncio.wait([task])
    del task
    gc.collect()
    await asyncio.sleep(0)
asyncio.run(main())

class Ends:
    def __del__(self):
        fail()
Ends()
fail()
"""


def lines_of(*words: str) -> list[dict[str, Any]]:
    run = subprocess.run(
        [sys.executable, "-c", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.stdout == ""
    assert SECRET not in run.stderr
    return [json.loads(line) for line in run.stderr.splitlines()]


def test_every_writer_writes_a_json_object_a_line_without_what_it_was_about() -> None:
    lines = lines_of(WRITERS, SECRET)
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
    lines = lines_of(WRITERS, SECRET)
    by_event = {line["event"]: line for line in lines}
    for event in ("ours.failed", "thread.failed", "error.ignored", "process.failed"):
        line = by_event[event]
        assert (line["error"], line["causes"]) == ("ValueError", ["KeyError"])
        assert line["places"][-1].endswith(" fail")
    assert by_event["thread.failed"]["thread"] == "worker"
    assert by_event["warning.shown"]["kind"] == "RuntimeWarning"
    [kind] = [line.get("error") for line in lines if line.get("logger") == "psycopg"]
    assert kind == "OSError"


def test_a_server_that_fails_at_a_request_says_so_in_a_line() -> None:
    script = """
import socket, sys, threading
import httpx
from api.cli.log_lines import configure
from api.server import Server

configure()
SECRET = sys.argv[1]

async def app(scope, receive, send):
    if scope["type"] == "http":
        raise ValueError(f"{SECRET}\\nand more")

listener = socket.create_server(("127.0.0.1", 0))
server = Server(app)
thread = threading.Thread(target=server.run, args=([listener],))
thread.start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
assert httpx.get(url).status_code == 500
with socket.create_connection(listener.getsockname()) as client:
    client.sendall(b"no HTTP at all\\r\\n\\r\\n")
    assert client.recv(100).startswith(b"HTTP/1.1 400 ")
server.end()
thread.join()
"""
    [line] = lines_of(script, SECRET)
    assert (line["logger"], line["error"]) == ("uvicorn.error", "ValueError")
    assert line["places"][-1].endswith(" app")
