"""Folders for the embedded server's tests.

Each is directly below the temporary folder, so that another user can reach it, and has its own
stand-in for /var/lib/annals: no cluster of this machine is ever in reach of the code under test.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import embedded
from infra.embedded import places


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ann-", dir="/tmp"))
    folder.chmod(0o711)
    monkeypatch.setattr(places, "OUTSIDE", folder / "outside")
    yield folder
    try:
        for lock in folder.rglob("postgres.starting.lock"):
            embedded.remove(lock.parent)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def data(place: Path) -> Path:
    return place / "data"


@pytest.fixture
def closed(place: Path) -> Path:
    """A project's data folder that nobody else can reach."""
    (place / "closed").mkdir(mode=0o700)
    project = place / "closed" / "project"
    project.mkdir()
    return project / ".data"
