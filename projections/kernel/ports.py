"""Ports: the needs of projections from the log and the keys; infra implements them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from domain.commands import Position
from domain.definitions.retention import RetentionBounds
from domain.events.recorded import OpenedEvent, RecordedEvent
from projections.kernel.gaps import Gap


class Log(Protocol):
    """The event log, by partition."""

    def heads(self, partitions: Sequence[int]) -> dict[int, int]: ...
    def read_after(self, after: Mapping[int, int], limit: int) -> Sequence[RecordedEvent]: ...
    def read_at(self, places: Sequence[Position]) -> Sequence[RecordedEvent]: ...


class Opener(Protocol):
    """Opens recorded events with the keys that exist."""

    def refresh(self) -> int: ...
    def generation(self) -> int: ...
    def kept(self) -> RetentionBounds: ...
    def open_rows(self, rows: Sequence[RecordedEvent]) -> Sequence[OpenedEvent]: ...
    def open_each(self, rows: Sequence[RecordedEvent]) -> Sequence[OpenedEvent | Gap]: ...
