"""How a worker with nothing to do waits for more."""

from __future__ import annotations

from typing import Protocol


class Idle(Protocol):
    """What a worker waits by: the process tells it when there may be something to do."""

    def wait(self, seconds: float) -> None:
        """Returns when it is time to look again.

        Args:
            seconds: between two looks, while something is going on.
        """
