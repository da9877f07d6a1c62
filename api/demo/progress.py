"""How far a load has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0

Advance = Callable[[int], None]


@contextmanager
def shown(title: str, total: int | None, console: Console) -> Iterator[Advance]:
    """Gives a function, safe to call from any thread, that says how many more are done."""
    if not console.is_terminal:
        yield _lines(title, total, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, rate="")
        tally, started = _Tally(), time.monotonic()

        def advance(more: int) -> None:
            done = tally.add(more)
            bar.update(task, advance=more, rate=_rate(done, time.monotonic() - started))

        yield advance


class _Tally:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0

    def add(self, more: int) -> int:
        with self._lock:
            self._done += more
            return self._done


def _lines(title: str, total: int | None, console: Console) -> Advance:
    tally, lock = _Tally(), threading.Lock()
    started = last = time.monotonic()

    def advance(more: int) -> None:
        nonlocal last
        done, now = tally.add(more), time.monotonic()
        with lock:
            if now - last < SECONDS_BETWEEN_LINES:
                return
            last = now
        of = "" if total is None else f" of {total:,}"
        left = ""
        if total is not None:
            left = f", {max(total - done, 0) * (now - started) / done:,.0f} s left"
        console.print(f"{title}: {done:,}{of}, {_rate(done, now - started)}{left}")

    return advance


def _rate(done: int, seconds: float) -> str:
    return f"{done / max(seconds, 0.001):,.0f}/s"
