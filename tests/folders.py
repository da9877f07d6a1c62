"""Data folders for servers of tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from infra import bootstrap, embedded
from infra.embedded import places
from infra.migrations import upgrade
from infra.postgres import database


@contextmanager
def open_room() -> Iterator[Path]:
    """A folder that the embedded server's user can reach, too, unlike those of pytest; in memory,
    if the tests' server is. Data folders in it are removed with their servers."""
    room = Path(tempfile.mkdtemp(prefix="annals-room-", dir=os.environ.get("ANNALS_TEST_ROOM")))
    room.chmod(0o711)
    try:
        yield room
    finally:
        try:
            for lock in room.rglob(places.STARTING):
                embedded.remove(lock.parent)
        finally:
            shutil.rmtree(room)


def initialise(data: Path, server: str, *, migrated: bool = False) -> None:
    """Makes a data folder as its first start leaves it, but for the log and the keys. To initialise
    a cluster takes a second, and to migrate a database another; to copy them takes a fifth of one.

    Args:
        server: the tests' own, beside whose cluster the one to copy is kept.
        migrated: it has the database of Annals, too.
    """
    with psycopg.connect(server) as conn:
        row = conn.execute("SHOW data_directory").fetchone()
    assert row is not None
    original = Path(row[0]).with_name("migrated" if migrated else "initialised")
    with places.locked(original.with_suffix(".lock")):
        if not original.exists():
            _start_once(original, migrated=migrated)
    data.mkdir(mode=0o711, parents=True)
    cluster = places.cluster_of(data, places.server_account())
    subprocess.run(["cp", "-a", original / "postgres", cluster], check=True)


def _start_once(data: Path, *, migrated: bool) -> None:
    half_done = data.with_suffix(".new")
    shutil.rmtree(half_done, ignore_errors=True)
    with embedded.running(half_done) as url:
        if migrated:
            upgrade.migrate(database.create_database(url, bootstrap.DATABASE))
    (half_done / "postgres" / "server.log").unlink()
    half_done.rename(data)
