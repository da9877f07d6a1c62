"""Positions as a sender gives them back: `partition:position` by commas, for read-your-writes."""

from __future__ import annotations

from collections.abc import Iterable

from domain.commands import Position
from domain.errors import InvalidInput
from domain.identity import LOG_PARTITIONS
from infra.bootstrap.annals import Annals
from infra.log.read_position import ReadPosition

_MAX_PART_CHARS = len("255:") + len(str(2**63))


def position_text(positions: Iterable[Position]) -> str:
    return ",".join(f"{each.log_partition}:{each.position}" for each in positions)


def parsed(text: str) -> list[Position]:
    """Raises: InvalidInput: not positions as Annals gives them."""
    positions = []
    for part in text.split(","):
        partition, colon, position = part.partition(":")
        if not (
            colon
            and len(part) <= _MAX_PART_CHARS
            and partition.isdecimal()
            and position.isdecimal()
            and part.isascii()
        ):
            raise InvalidInput("give wait_for the `position` of an answer", pointer="/wait_for")
        if int(partition) >= LOG_PARTITIONS or int(position) >= 2**63:
            raise InvalidInput("there is no such position", pointer="/wait_for")
        positions.append(Position(int(partition), int(position)))
    return positions


def wait_for(annals: Annals, text: str | None) -> None:
    """Returns when the read models have the events at the positions; None: at once.

    Raises:
        InvalidInput: not positions, or some that the log does not have.
        Unavailable: they did not get there in time.
    """
    wait_until(annals.read_position, text)


def wait_until(read_position: ReadPosition, text: str | None) -> None:
    """As `wait_for`."""
    if text:
        read_position.wait_for(parsed(text))
