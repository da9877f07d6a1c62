"""Memory of a server under junk: how much it grows while nothing that is sent can be taken."""

from __future__ import annotations

import base64
import gzip
import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure, Report
from tests.bench.intake import serving

CONNECTIONS = 16
_MB = 1024 * 1024
_BOMB = gzip.compress(b'{"batch":[' + b" " * (4 * _MB + 200_000) + b"]}", 9)
_SPACES = gzip.compress(b'{"batch":[' + b" " * (4 * _MB - 100_000) + b"{}]}", 9)

BODIES: list[tuple[bytes, bool]] = [
    (_SPACES, True),
    (_BOMB, True),
    (_SPACES[:-20], True),
    (b"\x1f\x8b" + b"x" * 4_000, True),
    (b"[" * 500_000, False),
    (b'{"batch":[{"traits":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}]}", False),
    (b'{"batch":[{"traits":{"n":' + b"9" * 30_000 + b"}}]}", False),
    (
        b'{"batch":[{"traits":{'
        + b",".join(b'"k%d":1' % n for n in range(3_000))
        + b"}}"
        + b",{}" * 100
        + b"]}",
        False,
    ),
    (b'{"batch":[{"event":"\\ud83d"},NaN]}', False),
    (b"x" * 3_000_000, False),
]
"""Each with whether it says that it is packed."""


def run(folder: Path, report: Report, *, seconds: float) -> None:
    with serving(folder) as (port, key, process):
        grown = growth(port, key, process, seconds=seconds)
    report.add(Figure("junk.memory", round(grown, 1), "MB"))


def growth(port: int, key: str, process: int, *, seconds: float) -> float:
    """How much the memory of a server grows in MB (resident) after so many seconds of junk.

    Every body comes with no key, a wrong key and the right one. A warm-up comes before, since the
    first threads and buffers of a server stay.
    """
    send_junk(port, key, seconds=min(3.0, seconds))
    before = resident(process)
    send_junk(port, key, seconds=seconds)
    return (resident(process) - before) / _MB


def send_junk(port: int, key: str, *, seconds: float) -> int:
    """Returns how many requests were answered."""
    until, answered = time.monotonic() + seconds, itertools.count()

    def work(n: int) -> None:
        for (body, is_packed), headers in _requests(key, n):
            if time.monotonic() > until:
                return
            if is_packed:
                headers["Content-Encoding"] = "gzip"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("POST", "/v1/batch", body, headers)
                connection.getresponse().read()
                next(answered)
            except (OSError, http.client.HTTPException):
                continue  # it was closed, which is as good an answer to junk
            finally:
                connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next(answered)


def resident(process: int) -> int:
    """Bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(process)


def _requests(key: str, first: int) -> Iterator[tuple[tuple[bytes, bool], dict[str, str]]]:
    for n in itertools.count(first):
        keys = (None, f"wrong {n}", key)
        for body, presented in itertools.product(BODIES, keys):
            user = base64.b64encode(f"{presented}:".encode()).decode()
            yield body, {} if presented is None else {"Authorization": f"Basic {user}"}
