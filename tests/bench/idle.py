"""What a deployment costs with nobody there, and how soon it shows what comes then."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import httpx
import msgspec

from tests.bench.figures import Figure, Report
from tests.bench.intake import serving

SETTLE_SECONDS = 15
"""After the start, in which caches are filled and the read models are made."""

SECONDS = 60
PAUSE_SECONDS = 4
"""Between two messages: long enough for all workers to sleep."""


def run(folder: Path, report: Report, *, rounds: int) -> None:
    """The rows `idle.cpu`, of Annals and PostgreSQL together, and `idle.lag`."""
    with serving(folder, worker="thread") as (port, _, process):
        time.sleep(SETTLE_SECONDS)
        started, before = time.perf_counter(), _cpu(process, folder)
        time.sleep(SECONDS)
        share = (_cpu(process, folder) - before) / (time.perf_counter() - started)
        report.add(Figure("idle.cpu", round(100 * share, 2), "% of a core"))
        lags = _lags(port, folder, rounds)
        report.add(Figure("idle.lag", round(1e3 * median(lags), 1), "ms"))
        report.note(f"idle.lag: {min(lags) * 1e3:.1f} to {max(lags) * 1e3:.1f} ms")


def _cpu(process: int, folder: Path) -> float:
    """Seconds of CPU of a process and of the server whose cluster is in a folder."""
    cluster = (folder / "postgres").resolve()
    ticks = _ticks(process)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if (entry / "cwd").readlink() == cluster:
                    ticks += _ticks(int(entry.name))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    """Of a process, and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _lags(port: int, folder: Path, rounds: int) -> list[float]:
    """From the answer to a message until it is shown, in seconds."""
    keys = msgspec.json.decode((folder / "keys.json").read_bytes(), type=dict[str, str])
    url, lags = f"http://127.0.0.1:{port}", []
    with httpx.Client(base_url=url) as client:
        for n in range(rounds):
            time.sleep(PAUSE_SECONDS)
            batch = {"batch": [{"type": "identify", "userId": f"u{n}"}]}
            sent = client.post(
                "/v1/batch", json=batch, headers={"Authorization": f"Bearer {keys['write']}"}
            )
            answered = time.perf_counter()
            seen = client.get(
                f"/api/users/external:u{n}",
                params={"wait_for": sent.json()["position"]},
                headers={"Authorization": f"Bearer {keys['read']}"},
            )
            assert seen.is_success, seen.text
            lags.append(time.perf_counter() - answered)
    return lags
