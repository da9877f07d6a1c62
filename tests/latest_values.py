"""Properties for plain models: of two values the one holds that was sent for the later time."""

from __future__ import annotations

from datetime import datetime


class LatestValues(dict[str, object]):
    """The values that hold, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, tuple[datetime, object]] = {}

    def write(self, name: str, value: object, at: datetime) -> bool:
        """Sends a value, or its deletion (None); returns whether it differs from the present."""
        differs = self.get(name) != value
        if name not in self.said or at >= self.said[name][0]:
            self.said[name] = (at, value)
        self._show(name)
        return differs

    def absorb(self, other: LatestValues) -> None:
        for name, (at, value) in other.said.items():
            if name not in self.said or at > self.said[name][0]:
                self.said[name] = (at, value)
            self._show(name)

    def _show(self, name: str) -> None:
        value = self.said[name][1]
        if value is None:
            self.pop(name, None)
        else:
            self[name] = value
