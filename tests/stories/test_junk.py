"""Junk from everybody, with and without a key: it takes no memory that lasts."""

from __future__ import annotations

from pathlib import Path

from tests.bench.intake import serving
from tests.bench.junk import growth

SECONDS = 2.0
MOST_MB = 150
"""Before bodies were read in pieces and within a room, the first second took gigabytes."""


def test_the_memory_of_a_server_stays_as_it_is_while_junk_comes(data: Path) -> None:
    with serving(data) as (port, key, process):
        assert growth(port, key, process, seconds=SECONDS) < MOST_MB
