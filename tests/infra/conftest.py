"""Folders for the embedded server's tests.

Each lies where all users can reach it, in memory if the tests' own server does, and has its own
stand-in for /var/lib/annals: no cluster of this machine is ever in reach of the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import places
from tests.folders import initialise, open_room


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with open_room() as room:
        monkeypatch.setattr(places, "OUTSIDE", room / "outside")
        yield room


@pytest.fixture
def new_data(place: Path) -> Path:
    """A data folder that does not exist yet."""
    return place / "data"


@pytest.fixture
def data(place: Path, server: str) -> Path:
    """A data folder as after a first start: its cluster is there, and empty."""
    initialise(place / "data", server)
    return place / "data"


@pytest.fixture
def new_closed(place: Path) -> Path:
    """The same of a project that nobody else can reach."""
    (place / "closed").mkdir(mode=0o700)
    project = place / "closed" / "project"
    project.mkdir()
    return project / ".data"


@pytest.fixture
def closed(new_closed: Path, server: str) -> Path:
    """That one as after a first start, with its cluster outside."""
    initialise(new_closed, server)
    return new_closed
