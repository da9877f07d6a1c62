"""`python -m tests.bench`: measures, on an embedded PostgreSQL of its own."""

from __future__ import annotations

import argparse
import shutil

from infra import database, embedded, wiring
from infra.settings import Settings
from tests.bench import append, projecting
from tests.bench.figures import Report

BENCHES = ("append", "projecting")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--events", type=int, default=120_000, help="to project (120000)")
    options = parser.parse_args()
    chosen = options.benches or BENCHES
    settings = Settings.from_environment()
    report = Report(settings.data / "bench.jsonl")
    folder = settings.data / "bench"
    try:
        with embedded.running(folder) as server:
            url = database.create_database(server, "bench")
            with wiring.opened(Settings(data=folder), url) as annals:
                if "append" in chosen:
                    append.run(annals, url, report, rounds=options.rounds)
                if "projecting" in chosen:
                    projecting.run(annals, url, report, events=options.events)
    finally:
        embedded.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
