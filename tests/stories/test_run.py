"""`annals run` as an operator meets it: a process, started, stopped, killed and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from api.cli import main
from tests import processes
from tests.processes import Process

pytestmark = pytest.mark.database  # each starts a server of its own

SECONDS = 120


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "api", *words]


def environment(data: Path, **settings: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ANNALS_")}
    return kept | {"ANNALS_DATA": str(data), "ANNALS_PORT": "0"} | settings


def run(*words: str, data: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        env=environment(data, **settings),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def forked(*words: str, data: Path, **settings: str) -> Process:
    """The same, without the start of an interpreter, as a process that runs."""
    return processes.annals(*words, environment=environment(data, **settings))


def invoked(*words: str, data: Path, **settings: str) -> Result:
    """The same within this process, for what is answered before anything starts."""
    given = {name: None for name in os.environ if name.startswith("ANNALS_")}
    return CliRunner().invoke(main, words, env={**given, "ANNALS_DATA": str(data), **settings})


class Run:
    """A running `annals run`; `lines` is what it printed until it said some words."""

    def __init__(self, process: subprocess.Popen[str] | Process, until: str) -> None:
        self.process = process
        assert process.stdout is not None
        self.lines: list[str] = []
        for line in process.stdout:
            self.lines.append(line)
            if until in line:
                break
        self.text = "".join(self.lines)
        found = re.search(r"http://127\.0\.0\.1:\d+", self.text)
        assert found, self.text
        self.url = found[0]

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=SECONDS)


@contextmanager
def running(data: Path, *words: str, until: str = "Ctrl-C") -> Iterator[Run]:
    with subprocess.Popen(
        command("run", *(words or ["--no-demo"])),
        env=environment(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        yield from _run(process, until)


@contextmanager
def running_forked(data: Path, *words: str, until: str = "Ctrl-C") -> Iterator[Run]:
    """The same, without the start of an interpreter."""
    with forked("run", *(words or ["--no-demo"]), data=data) as process:
        yield from _run(process, until)


def _run(process: subprocess.Popen[str] | Process, until: str) -> Iterator[Run]:
    try:
        yield Run(process, until)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=SECONDS)


def servers_of(data: Path) -> list[int]:
    """The processes whose command line names the cluster of a data folder."""
    cluster = os.fsencode((data / "postgres").resolve())
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if cluster in words:
                found.append(int(folder.name))
    return found


def test_it_starts_from_nothing_serves_stops_and_finds_its_data_again(new_data: Path) -> None:
    data = new_data
    with running(data) as annals:
        keys = json.loads((data / "keys.json").read_text())
        assert (data / "keys.json").stat().st_mode & 0o777 == 0o600
        assert keys.keys() == {"write", "read", "audit", "comply", "admin"}
        assert all(key in annals.text for key in keys.values())
        assert httpx.get(f"{annals.url}/health/ready").json() == {"status": "ready"}
        batch = {"batch": [{"type": "identify", "userId": "ada"}]}
        write, read = ({"Authorization": f"Bearer {keys[scope]}"} for scope in ("write", "read"))
        sent = httpx.post(f"{annals.url}/v1/batch", json=batch, headers=write, timeout=30)
        assert sent.json()["success"]
        assert servers_of(data)
        assert annals.stop(signal.SIGINT) == 0
        assert not servers_of(data)
    with running_forked(data) as annals:
        assert json.loads((data / "keys.json").read_text()) == keys
        place = f"{annals.url}/api/users/external:ada"
        query = {"wait_for": sent.json()["position"]}
        assert httpx.get(place, params=query, headers=read, timeout=30).status_code == 200
        assert annals.stop(signal.SIGKILL) == -signal.SIGKILL
    with running_forked(data) as annals:
        place = f"{annals.url}/api/users/external:ada"
        assert httpx.get(place, headers=read, timeout=30).status_code == 200
        assert annals.stop(signal.SIGTERM) == 0
    deadline = time.monotonic() + SECONDS
    while servers_of(data) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not servers_of(data)
    assert run("demo-reset", "--yes", data=data).returncode == 0
    assert not data.exists()


@pytest.mark.parametrize("words", [[], ["run"], ["serve"], ["work"], ["demo-reset"]])
def test_help_of_every_command_works_and_touches_nothing(tmp_path: Path, words: list[str]) -> None:
    done = invoked(*words, "--help", data=tmp_path / "data")
    assert done.exit_code == 0
    assert "Usage:" in done.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANNALS_PORT", "eighty"),
        ("ANNALS_PORT", "70000"),
        ("ANNALS_PORT", "-1"),
        ("ANNALS_WORKER", "many"),
        ("ANNALS_TIME_ZONE", "Mars/Olympus"),
        ("ANNALS_TIME_ZONE", "../etc"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_the_exit_code_is_2(
    tmp_path: Path, name: str, value: str
) -> None:
    done = invoked("run", data=tmp_path / "data", **{name: value})
    assert done.exit_code == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_said_clearly_and_leaves_no_database_running(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with forked("serve", data=data, ANNALS_PORT=port) as process:
            assert process.wait() == 1
            told = [json.loads(line) for line in process.errors().splitlines()]
    assert [line["event"] for line in told] == ["process.failed"]
    assert f":{port} " in told[0]["reason"]
    assert "ANNALS_PORT" in told[0]["reason"]
    assert not servers_of(data)


def test_who_stops_it_while_the_demo_is_loaded_has_it_stopped_in_order(data: Path) -> None:
    with running_forked(data, "--demo", until="Annals serves at") as annals:
        key = json.loads((data / "keys.json").read_text())["read"]
        users, deadline = f"{annals.url}/api/users?limit=1", time.monotonic() + SECONDS
        headers = {"Authorization": f"Bearer {key}"}
        while not httpx.get(users, headers=headers, timeout=30).json()["items"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert annals.stop(signal.SIGINT) == 0
    assert not servers_of(data)
    assert not (data / "demo-loaded").exists()


def test_it_ends_within_ten_seconds_though_its_database_is_dead_and_does_not_start(
    data: Path,
) -> None:
    with running(data) as annals:
        with (data / "postgres" / "postgresql.conf").open("a") as conf:
            conf.write("no_such_setting = on\n")
        first = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while httpx.get(f"{annals.url}/health/ready", timeout=SECONDS).status_code != 503:
            assert time.monotonic() < deadline
        begun = time.monotonic()
        assert annals.stop(signal.SIGINT) == 0
        assert time.monotonic() - begun < 10
    assert not servers_of(data)
