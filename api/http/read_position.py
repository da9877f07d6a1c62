"""Positions as a sender gives them back: `partition:position` by commas, for read-your-writes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from domain.commands import Position
from domain.errors import InvalidInput, Unavailable
from domain.identity import LOG_PARTITIONS
from infra.bootstrap import Annals
from projections.projector.checkpoints import reached

MAX_WAIT_SECONDS = 5.0
MAX_CATCH_UP_SECONDS = 2.0
_POLL_SECONDS = 0.01
_MAX_PART_CHARS = len("255:") + len(str(2**63))


def position_text(positions: Iterable[Position]) -> str:
    return ",".join(f"{one.log_partition}:{one.position}" for one in positions)


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
        one = Position(int(partition), int(position))
        if one.log_partition >= LOG_PARTITIONS or one.position >= 2**63:
            raise InvalidInput("there is no such position", pointer="/wait_for")
        positions.append(one)
    return positions


def wait_for(annals: Annals, text: str | None) -> None:
    """Returns when the read models have what stands at the positions.

    Raises:
        InvalidInput: not positions, or some that the log does not have.
        Unavailable: they did not get there in time.
    """
    if not text:
        return
    newest: dict[int, int] = {}
    for one in parsed(text):
        newest[one.log_partition] = max(one.position, newest.get(one.log_partition, 0))
    heads = annals.log.heads(list(newest))
    if any(heads[partition] < position for partition, position in newest.items()):
        raise InvalidInput("the log has no such position yet", pointer="/wait_for")
    if not _reached(annals, [Position(*one) for one in newest.items()], MAX_WAIT_SECONDS):
        raise Unavailable("the read models are behind; ask again, or without wait_for")


def catch_up(annals: Annals) -> None:
    """Waits, but not for long, until the read models have all that the log has now."""
    heads = annals.log.heads(range(LOG_PARTITIONS))
    positions = [Position(*one) for one in heads.items() if one[1]]
    _reached(annals, positions, MAX_CATCH_UP_SECONDS)


def _reached(annals: Annals, positions: Sequence[Position], seconds: float) -> bool:
    """Whether the read models are at some positions, before so many seconds are over."""
    deadline = time.monotonic() + seconds
    while True:
        with annals.views.connection() as conn:
            if reached(conn, positions):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
