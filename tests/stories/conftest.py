"""Data folders for processes of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import initialise, open_room


@pytest.fixture
def new_data() -> Iterator[Path]:
    """A data folder that does not exist yet."""
    with open_room() as room:
        yield room / "data"


@pytest.fixture
def data(new_data: Path, server: str) -> Path:
    """A data folder with an empty database: neither to initialise nor to migrate it takes time."""
    initialise(new_data, server, migrated=True)
    return new_data
