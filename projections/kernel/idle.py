"""How a worker with nothing to do waits for work, and reports that it is alive."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class Idle(Protocol):
    """The wait of a worker: the process wakes it when there may be work, and learns that it does
    not hang."""

    def wait(self, seconds: float) -> None:
        """Waits until there may be work.

        Args:
            seconds: between two checks while work arrives.
        """

    def moved(self) -> None:
        """Reports that a piece of work ended."""

    def begins(self, seconds: float) -> None:
        """Reports that a long piece of work begins.

        Args:
            seconds: its longest duration.
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
