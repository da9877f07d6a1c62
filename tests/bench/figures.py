"""Figures: how they are taken (in turns, so that noise hits all alike), printed and kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

import msgspec

Work = TypeVar("Work")


class Figure(msgspec.Struct, frozen=True):
    """
    Attributes:
        value: rates in 1/s, latencies in ms, long jobs in s.
        against: what it is compared with in the same run; null where it stands alone.
        ratio: this one's value by the other's.
    """

    bench: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None


class Report:
    """Prints each figure as a JSON line and appends it to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def add(self, figure: Figure) -> None:
        line = msgspec.json.encode(figure)
        print(line.decode(), flush=True)
        self._file.write(line + b"\n")
        self._file.flush()

    def note(self, text: str) -> None:
        """Progress, for people."""
        print(f"# {text}", file=sys.stderr, flush=True)

    def rates(self, bench: str, rates: Mapping[str, list[float]]) -> None:
        """The first of `rates` (each in 1/s, by round) against each of the others: the median
        rate, and the median of the ratios round by round."""
        own, *peers = rates
        value = round(median(rates[own]), 1)
        for peer in peers:
            pairs = zip(rates[own], rates[peer], strict=True)
            ratio = round(median(a / b for a, b in pairs), 2)
            self.add(Figure(bench, value, "1/s", peer, ratio))
            self.note(f"{bench}: {value:,.0f}/s, {peer} {median(rates[peer]):,.0f}/s")
        if not peers:
            self.add(Figure(bench, value, "1/s"))


class Job(Generic[Work]):
    """Something to time. `prepare`, untimed, makes the work; `do` returns how much it did."""

    def __init__(self, prepare: Callable[[], Work], do: Callable[[Work], int]) -> None:
        self._prepare = prepare
        self._do = do

    def rate(self) -> float:
        work = self._prepare()
        started = time.perf_counter()
        done = self._do(work)
        return done / (time.perf_counter() - started)


def in_turns(rounds: int, jobs: Mapping[str, Job[Any]]) -> dict[str, list[float]]:
    """The rates in 1/s of each job, once a round, in turns; a round before does not count."""
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for n in range(rounds + 1):
        for name, job in jobs.items():
            rate = job.rate()
            if n:
                rates[name].append(rate)
    return rates
