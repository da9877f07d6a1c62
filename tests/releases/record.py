"""Makes the stored data folder of a release: `python -m tests.releases.record FOLDER`.

Runs `annals run` on a new data folder, sends it a small whole life, asks it everything, stops it
and writes into FOLDER (`tests/releases/<version>`):

- data.tar.xz: the data folder as it was left, its keys included; nobody else's are in it.
- answers.json: the topics that its log has, and what was answered to each question.

Run it with the code of the release. It needs a C compiler, for the clock of the life's first day.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from tests.folders import open_room
from tests.releases import folders, life, questions
from tests.releases.server import Server
from tests.stories.test_run import run, running

BEHIND_SECONDS = 30 * 3600
"""More than a day, so that a calendar day begins between the two parts in every time zone."""

TOPICS = "SELECT topic, count(*) FROM log.events GROUP BY topic ORDER BY topic"
SMALL = ("VACUUM (FULL, ANALYZE)", "CHECKPOINT")


def record(folder: Path) -> None:
    """Writes archive and answers of a life that is lived now."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_room() as place:
        data = place / "data"
        with (
            _a_day_before(place),
            running(data) as annals,
            Server(annals.url, data) as server,
        ):
            ids = life.first_part(server)
        with running(data) as annals, Server(annals.url, data) as server:
            life.second_part(server, ids, partial(_done, data, "retention"))
            # The catalogue counts uses of whoever was erased, until it is made again.
            _done(data, "rebuild", "--yes")
            server.settle()
            with _connected(data) as conn:
                for statement in SMALL:
                    conn.execute(statement)
                topics = dict(conn.execute(TOPICS).fetchall())
            asked = questions.asked(server)
        folders.pack(data, folder / folders.ARCHIVE)
    # A fault of this release is nothing that later ones have to answer.
    answers = {question: one for question, one in asked.items() if one["status"] == 200}
    for question in asked.keys() - answers.keys():
        print(f"left out, as it was not answered: {question}")
    _write(folder / "answers.json", topics, answers)
    print(f"{(folder / folders.ARCHIVE).stat().st_size:,} bytes, {len(answers)} answers")
    for topic, count in topics.items():
        print(f"{count:5} {topic}")


@contextmanager
def _connected(data: Path) -> Iterator[psycopg.Connection[Any]]:
    """The superuser's connection to the embedded server of a data folder, which has to run."""
    cluster = (data / "postgres").resolve()
    with psycopg.connect(
        host=str(cluster), user="postgres", dbname="annals", autocommit=True
    ) as conn:
        yield conn


@contextmanager
def _a_day_before(place: Path) -> Iterator[None]:
    """Processes that are started in it have a clock that is behind."""
    library = place / "behind.so"
    source = Path(__file__).with_name("behind.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    behind = {"LD_PRELOAD": str(library), "BEHIND_SECONDS": str(BEHIND_SECONDS)}
    with patch.dict(os.environ, behind):
        yield
    library.unlink()


def _done(data: Path, *words: str) -> None:
    """Has a command done beside the server."""
    done = run(*words, data=data)
    assert done.returncode == 0, done.stderr


def _write(path: Path, topics: dict[str, int], answers: dict[str, Any]) -> None:
    """One question a line, so that a change can be read."""

    def lines(found: dict[str, Any]) -> str:
        texts = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in found.items())
        return "{\n" + ",\n".join(texts) + "\n}"

    at = json.dumps(datetime.now(UTC).isoformat())
    text = (
        f'{{\n"recorded_at": {at},\n"topics": {lines(topics)},\n"answers": {lines(answers)}\n}}\n'
    )
    path.write_text(text)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    record(parser.parse_args(words).folder)


if __name__ == "__main__":
    main(sys.argv[1:])
