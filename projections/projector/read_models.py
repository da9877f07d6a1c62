"""All read models: a batch is applied to each in turn, and a rebuild empties the tables of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

from domain.definitions.retention import RetentionBounds
from domain.events.payloads import Erased, MergedInto
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectId
from domain.workspace.workspace import Workspace
from projections.counters.model import CounterDays
from projections.kernel import merges
from projections.kernel.batch import Batch
from projections.kernel.pipeline import pipeline
from projections.kernel.read_model import ReadModel
from projections.models import bars, sweeps
from projections.models.activity_days import ActivityDays
from projections.models.catalogue import CatalogueModel
from projections.models.changes import Changes
from projections.models.contacts import Contacts
from projections.models.definitions import DefinitionsModel
from projections.models.filters import FilterModel
from projections.models.lifecycle import Lifecycles
from projections.models.members import Members
from projections.models.scores import Scores
from projections.models.search_entries import SearchEntries
from projections.models.segments import SegmentMembers, Segments
from projections.models.signals import Signals
from projections.projector import parking
from projections.projector.checkpoints import PROJECTOR


class ReadModels:
    """The read models, in the order in which a batch is applied to them.

    Attributes:
        tables: in the schema `views`, by name: all that a rebuild empties.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._models: tuple[ReadModel, ...] = (
            FilterModel(),
            Contacts(),
            Members(),
            ActivityDays(pool),
            CounterDays(),
            CatalogueModel(),
            DefinitionsModel(),
            Segments(),
            SegmentMembers(),
            Lifecycles(),
            Scores(),
            Signals(),
            SearchEntries(),
            Changes(),
        )
        self.tables = [*merges.TABLES, *bars.TABLES, *sweeps.TABLES]
        for model in self._models:
            self.tables += model.tables

    def empty(self, conn: psycopg.Connection) -> None:
        """Empties every table, in the transaction of the caller."""
        names = sql.SQL(", ").join(sql.Identifier("views", table) for table in self.tables)
        conn.execute(sql.SQL("TRUNCATE {}").format(names))

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        """Writes a batch to all read models, but neither its merges nor its erasures."""
        for model in self._models:
            model.apply(conn, batch)

    def write(
        self,
        conn: psycopg.Connection,
        opened: Sequence[OpenedEvent],
        workspace: Workspace,
        bounds: RetentionBounds,
        summed_before: Mapping[int, datetime],
        *,
        is_fence_closed: bool,
    ) -> None:
        """Writes opened events to all read models.

        Args:
            is_fence_closed: merges and erasures are carried out too. Without them the caller shares
                the fence of the projector.
        """
        survivors = merges.survivors(conn, _subjects(opened))
        batch = Batch(opened, survivors, workspace, bounds, summed_before)
        with pipeline(conn):  # PostgreSQL writes one model while Python works out the next
            self.apply(conn, batch)
        if is_fence_closed:
            self._merge_and_erase(conn, batch)

    def _merge_and_erase(self, conn: psycopg.Connection, batch: Batch) -> None:
        """Follows all other events of the batch about the subjects concerned."""
        erased: list[SubjectId] = []
        for _, _, subject, _, event in batch.changes:
            if isinstance(event.payload, MergedInto):
                loser = event.row.stream
                survivor = merges.record(conn, loser, event.payload.survivor)
                for model in self._models:
                    model.merge(conn, loser, survivor)
            elif isinstance(event.payload, Erased):
                erased += [event.row.stream, subject]
        if erased:
            for model in self._models:
                model.erase(conn, erased)
            merges.forget(conn, erased)
            parking.forget_gaps(conn, PROJECTOR, erased)


def _subjects(opened: Sequence[OpenedEvent]) -> Collection[SubjectId]:
    subjects: dict[int, SubjectId] = {}
    for event in opened:
        stream, account = event.row.stream, event.row.account
        subjects[stream.int] = stream
        if account is not None:
            subjects[account.int] = account
    return subjects.values()
