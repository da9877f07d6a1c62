"""Measures Annals on an embedded PostgreSQL of its own, each figure beside its peers.

Figures go to standard output as JSON lines and to bench.jsonl in the data folder.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import bootstrap, embedded
from infra.bootstrap.annals import Annals
from infra.postgres import database
from infra.settings import Settings
from tests.bench import (
    append,
    back,
    conditions,
    console,
    deciding,
    erasing,
    idle,
    intake,
    junk,
    lists,
    projecting,
    search,
    segments,
    slow_exports,
    views,
)
from tests.bench.figures import Report
from tests.bench.population import Size, populate

PAINTS = 10
USUAL = ("append", "intake", "projecting", "search")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "benches",
        nargs="*",
        metavar="BENCH",
        help=", ".join(USUAL) + ", lists, segments, deciding, full, views, console, idle,"
        " export.slow, junk.memory, seal.cost, erase.one, erase.10k, server.back"
        " (default: the first four)",
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--events", type=int, default=100_000, help="to send (default: 100000)")
    parser.add_argument(
        "--users",
        type=int,
        default=1_000_000,
        help="in lists, search and console (1000000)",
    )
    parser.add_argument(
        "--changes",
        type=float,
        default=0.02,
        help="share of the streaming events that change properties (0.02)",
    )
    parser.add_argument(
        "--history",
        type=int,
        default=1_000_000,
        help="events of the subject in erase.one (1000000)",
    )
    parser.add_argument("--leaving", type=int, default=10_000, help="subjects in erase.10k (10000)")
    parser.add_argument("--seconds", type=float, default=60, help="of junk.memory (60)")
    options = parser.parse_args()
    settings = Settings.from_environment()
    report = Report(settings.data / "bench.jsonl")
    folder = settings.data / "bench"

    def run_append() -> None:
        with _annals(folder) as (annals, url):
            append.run(annals, url, report, rounds=options.rounds)

    def run_projecting() -> None:
        with _annals(folder) as (annals, url):
            projecting.run(annals, url, report, events=options.events)

    def run_intake() -> None:
        intake.run(folder, report, messages=options.events, rounds=options.rounds)

    def run_junk() -> None:
        junk.run(folder, report, seconds=options.seconds)

    def run_lists() -> None:
        size = Size(options.users, options.users // 20, options.users * 4)
        with _annals(folder) as (annals, url):
            populate(url, size)
            lists.run(annals, report, rounds=options.rounds)
            conditions.run(annals, url, report, rounds=options.rounds)

    def run_search() -> None:
        with _annals(folder) as (annals, url):
            populate(url, Size(options.users, options.users // 20, 0))
            search.run(annals, report, users=options.users, rounds=options.rounds)

    def run_segments() -> None:
        with _annals(folder) as (annals, url):
            subjects = min(100_000, options.users)
            segments.run(
                annals, url, report, subjects=subjects, seconds=60, changes=options.changes
            )

    def run_deciding() -> None:
        with _annals(folder) as (annals, url):
            subjects = min(100_000, options.users)
            deciding.run(
                annals, url, report, subjects=subjects, seconds=60, changes=options.changes
            )

    def run_full() -> None:
        with _annals(folder) as (annals, url):
            deciding.run_full(annals, url, report, subjects=options.users)

    def run_views() -> None:
        with _annals(folder) as (annals, url):
            views.run(annals, url, report, events=options.users)

    def run_console() -> None:
        size = Size(options.users, options.users // 20, options.users * 4)
        with _annals(folder) as (annals, url):
            populate(url, size)
            console.run(annals, report, rounds=PAINTS)

    def run_export_slow() -> None:
        size = Size(options.users, options.users // 20, options.users * 4)
        with _annals(folder) as (annals, url):
            populate(url, size)
            slow_exports.run(annals, report)

    def run_seal_cost() -> None:
        with _annals(folder) as (annals, _):
            erasing.seal_cost(annals, report, rounds=options.rounds)

    def run_erase_one() -> None:
        with _annals(folder) as (annals, _):
            erasing.one(annals, report, events=options.history, rounds=options.rounds)

    def run_erase_many() -> None:
        with _annals(folder) as (annals, url):
            erasing.many(annals, url, report, subjects=options.leaving)

    def run_server_back() -> None:
        back.run(folder, report, rounds=options.rounds)

    def run_idle() -> None:
        idle.run(folder, report, rounds=options.rounds)

    benches: dict[str, Callable[[], None]] = {
        "append": run_append,
        "intake": run_intake,
        "projecting": run_projecting,
        "junk.memory": run_junk,
        "search": run_search,
        "lists": run_lists,
        "segments": run_segments,
        "deciding": run_deciding,
        "full": run_full,
        "views": run_views,
        "console": run_console,
        "idle": run_idle,
        "export.slow": run_export_slow,
        "seal.cost": run_seal_cost,
        "erase.one": run_erase_one,
        "erase.10k": run_erase_many,
        "server.back": run_server_back,
    }
    unknown = set(options.benches) - benches.keys()
    if unknown:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(benches)}")
    for name in options.benches or USUAL:
        report.note(name)
        try:
            benches[name]()
        finally:
            embedded.remove(folder)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _annals(folder: Path) -> Iterator[tuple[Annals, str]]:
    with embedded.running(folder) as server:
        url = database.create_database(server, "bench")
        with bootstrap.opened(Settings(data=folder), url) as annals:
            bootstrap.collect_garbage_seldom()
            yield annals, url


if __name__ == "__main__":
    main()
