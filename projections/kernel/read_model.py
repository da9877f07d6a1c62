"""The protocol of a read model: the calls of the projector, and the tables that a rebuild
empties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import psycopg

from domain.identity import SubjectId
from projections.kernel.batch import Batch


class ReadModel(Protocol):
    """Tables that the projector derives from the log.

    Attributes:
        tables: by name, in the schema `views`. A rebuild empties them.
    """

    tables: ClassVar[Sequence[str]]

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        """Writes a batch, within the projector's transaction."""
        ...

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """Gives the rows of a merged subject to its survivor. Follows the `apply` of the batch."""
        ...

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        """Deletes the rows of erased subjects. Follows the `apply` of the batch."""
        ...
