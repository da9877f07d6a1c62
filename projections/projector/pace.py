"""How many events a projector takes at a time, and how much time it gives them."""

from __future__ import annotations

BASE_SECONDS = 60.0
EVENT_SECONDS = 0.01
"""A hundred times what an event takes on a machine with nothing else to do."""

MAX_PATIENCE = 64


class Pace:
    """Half as many events after each batch that hung, twice as many after each that did not. A
    single event that hangs is given twice the time at each try: it may be a large one.

    Attributes:
        events: that the next batch should hold, at most.
        patience: by how much the time of a batch is multiplied.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.events = most
        self.patience = 1

    def seconds(self, events: int) -> float:
        """How long a batch may take; it hangs if it takes longer."""
        return self.patience * (BASE_SECONDS + events * EVENT_SECONDS)

    def hung(self, events: int) -> None:
        """A batch of so many events hung."""
        if events > 1:
            self.events = max(1, min(self.events, events) // 2)
        else:
            self.patience = min(2 * self.patience, MAX_PATIENCE)

    def done(self) -> None:
        """A batch was applied."""
        self.events = min(2 * self.events, self._most)
        self.patience = 1
