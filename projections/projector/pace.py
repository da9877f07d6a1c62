"""The pace of a projector: the size of its batches and the time limit of each."""

from __future__ import annotations

BASE_SECONDS = 60.0
EVENT_SECONDS = 0.01
"""A hundred times the time of an event on an idle machine."""

MAX_PATIENCE = 64


class Pace:
    """Halves the size after each batch that hung, and doubles it after each that did not. A
    single event that hangs gets twice the time at each try: it may be a large one.

    Attributes:
        events: size of the next batch, at most.
        patience: factor of the time limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.events = most
        self.patience = 1

    def seconds(self, events: int) -> float:
        """The time limit of a batch."""
        return self.patience * (BASE_SECONDS + events * EVENT_SECONDS)

    def hung(self, events: int) -> None:
        """Records that a batch hung."""
        if events > 1:
            self.events = max(1, min(self.events, events) // 2)
        else:
            self.patience = min(2 * self.patience, MAX_PATIENCE)

    def done(self) -> None:
        """Records that a batch was applied."""
        self.events = min(2 * self.events, self._most)
        self.patience = 1
