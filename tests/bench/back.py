"""How long nothing is stored when the embedded server's postmaster is killed under load."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
import uuid
from pathlib import Path
from statistics import median

import msgspec

from tests.bench.figures import Figure, Report
from tests.bench.intake import serving

SENDERS = 4
BATCH = 100
SECONDS_BETWEEN = 10.0
"""Of load before each kill: what was written since the last checkpoint has to be replayed."""


class _Load:
    """Senders who send each batch until it is stored.

    Attributes:
        stored_at: when the last batch was sent that was stored, and when it was.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.stop = threading.Event()
        self.stored_at: list[tuple[float, float]] = []
        self.refused: set[int] = set()
        self.threads = [threading.Thread(target=self._send, args=(n,)) for n in range(SENDERS)]

    def _send(self, n: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        while not self.stop.is_set():
            messages = [
                {
                    "type": "track",
                    "userId": f"{n} {m}",
                    "event": "came",
                    "messageId": str(uuid.uuid4()),
                }
                for m in range(BATCH)
            ]
            body = msgspec.json.encode({"batch": messages})
            while not self.stop.is_set():
                sent = time.monotonic()
                connection.request("POST", "/v1/batch", body, self._headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.stored_at.append((sent, time.monotonic()))
                    break
                self.refused.add(answer.status)
                time.sleep(0.01)
        connection.close()


def run(folder: Path, report: Report, *, rounds: int) -> None:
    """Seconds from the kill to the answer that a batch is stored that was sent after it."""
    took: list[float] = []
    with serving(folder, worker="thread") as (port, key, _):
        load = _Load(port, key)
        for thread in load.threads:
            thread.start()
        try:
            for _ in range(rounds):
                time.sleep(SECONDS_BETWEEN)
                pid_file = folder / "postgres" / "postmaster.pid"
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
                killed = time.monotonic()
                while not (later := [end for sent, end in load.stored_at if sent > killed]):
                    time.sleep(0.005)
                took.append(min(later) - killed)
                report.note(f"server.back: {took[-1]:.2f} s")
        finally:
            load.stop.set()
            for thread in load.threads:
                thread.join()
    if load.refused - {503}:
        raise RuntimeError(f"answers besides 200 and 503: {load.refused}")
    stored = len(load.stored_at) * BATCH
    report.note(
        f"server.back, {rounds} kills, {stored:,} messages: min {min(took):.2f} s,"
        f" median {median(took):.2f} s, max {max(took):.2f} s"
    )
    for name, value in (("min", min(took)), ("", median(took)), ("max", max(took))):
        report.add(Figure(f"server.back{'.' if name else ''}{name}", round(value, 2), "s"))
