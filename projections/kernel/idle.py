"""How a worker with nothing to do waits for more, and says that it moves."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class Idle(Protocol):
    """What a worker waits by: the process tells it when there may be something to do, and hears
    from it that it is no worker that hangs."""

    def wait(self, seconds: float) -> None:
        """Returns when it is time to look again.

        Args:
            seconds: between two looks, while something is going on.
        """

    def moved(self) -> None:
        """To be called after each piece of work."""

    def begins(self, seconds: float) -> None:
        """To be called before a piece of work that may take long.

        Args:
            seconds: that it may take.
        """


class WorkerState(msgspec.Struct, frozen=True):
    """A worker of the process that answers.

    Attributes:
        name: `projector`, `decider`, `sweeper`, `filler`, `filters`, `deliverer`.
        state: `idle`, `working`, or `stalled`: it has not moved for longer than any piece of work
            may take.
        moved_at: when it last ended a piece of work or looked for one.
    """

    name: str
    state: str
    moved_at: datetime
