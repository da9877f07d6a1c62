"""Annals, open: the parts of every folder, and the workers made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.erasure.certificate import Statement
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.workspace.workspace import Workspace
from infra.bootstrap.defaults import utc_now, workspace_defaults
from infra.bootstrap.erasure_parts import ErasureParts
from infra.bootstrap.key_parts import KeyParts
from infra.bootstrap.log_parts import LogParts
from infra.bootstrap.past_parts import PastParts
from infra.bootstrap.reader_parts import ReaderParts
from infra.bootstrap.webhook_parts import WebhookParts
from infra.bootstrap.write_parts import WriteParts
from infra.erasure import certificates
from infra.parked_events import ParkedEvents
from infra.postgres.pools import Pools
from infra.postgres.wakeups import Listener
from infra.settings import Settings
from infra.write.decision_recorder import DecisionRecorder
from projections.counters.filler import CounterFiller
from projections.counters.keeper import CounterKeeper
from projections.deciding.process_manager import ProcessManager
from projections.projector.checkpoints import PROJECTOR
from projections.projector.projector import Projector
from projections.queries.status import ProjectionStatus, status
from projections.queries.subject_file import SubjectFiles


@dataclass(frozen=True, kw_only=True)
class Annals(LogParts, KeyParts, WriteParts, PastParts, ErasureParts, WebhookParts, ReaderParts):
    """The parts that a process needs, open and ready; each base describes its own.

    Attributes:
        pools: all connections to the live database.
        moment: the past instant that all is read as of; None: the present.
    """

    settings: Settings
    pools: Pools
    moment: datetime | None = None

    def now(self) -> datetime:
        """The instant that all is read as of."""
        return self.moment or utc_now()

    def as_of(self, at: datetime, by: UUID | None = None) -> Annals:
        """Returns Annals as of a past instant: the engines for readers, `definitions`, `timelines`,
        `records` and `log` end there. The keys are those of now: a subject that was erased since
        is erased there.

        Args:
            by: the API key that asks, by id.

        Raises:
            Refusal: see `infra.pasts.pasts.Pasts.at`.
        """
        past = self.pasts.at(at, by)
        return replace(
            self,
            log=past.log,
            timelines=self.timelines.until(past.log.bounds),
            queries=past.reading.queries,
            long_queries=past.reading.long,
            streams=past.reading.streams,
            definitions=past.definitions,
            records=self.records.until(past.log.bounds),
            moment=past.at,
        )

    def status(self) -> ProjectionStatus:
        """The lag of the read models behind the log."""
        heads = self.log.heads(range(LOG_PARTITIONS))
        with self.queries.connect() as conn:
            return status(conn, PROJECTOR, heads, self.wakeups.workers(), self.head_alarm.recent())

    def workspace(self) -> Workspace:
        """The settings of the workspace, at most a second old."""
        return self.definitions.recent().workspace(workspace_defaults(self.settings))

    def workspace_now(self) -> Workspace:
        """The settings of the workspace, straight from the log."""
        return self.definitions.load().workspace(workspace_defaults(self.settings))

    def _workers_workspace(self) -> Workspace:
        """As `workspace_now`, for workers."""
        return self.working_definitions.load().workspace(workspace_defaults(self.settings))

    def projector(self) -> Projector:
        return Projector(
            log=self.working_log,
            opener=self.sealer,
            pool=self.pools.workers.views,
            workspace=self._workers_workspace,
            skipped=self.skipped_events.all,
        )

    def parked(self) -> ParkedEvents:
        """Parked events: listed, tried again, skipped."""
        return ParkedEvents(
            log=self.log,
            views=self.views,
            skips=self.skipped_events,
            sealer=self.sealer,
            retrying=self.projector().retrying,
        )

    def reviews(self, kind: SubjectKind, streams: Sequence[SubjectId]) -> SubjectFiles:
        """The files of a subject.

        Args:
            streams: its own id, and those of the subjects merged into it."""
        return SubjectFiles(self.long_queries.connect, self.timelines, self.sealer, kind, streams)

    def differing_partitions(self, statement: Statement) -> list[int]:
        """See `certificates.differing_partitions`."""
        return certificates.differing_partitions(self.log, statement)

    def counter_keeper(self, clock: Callable[[], datetime] = utc_now) -> CounterKeeper:
        return CounterKeeper(
            pool=self.pools.workers.views,
            needed=self.counter_owners.needed,
            projector=PROJECTOR,
            clock=clock,
        )

    def filler(self, clock: Callable[[], datetime] = utc_now) -> CounterFiller:
        return CounterFiller(
            log=self.working_log,
            opener=self.sealer,
            pool=self.pools.workers.views,
            workspace=self._workers_workspace,
            projector=PROJECTOR,
            keeper=self.counter_keeper(clock),
            clock=clock,
        )

    def listener(self) -> Listener:
        """Wakes the workers of this process when another process appends."""
        return Listener(self.pools.listening, self.wakeups)

    def decider(self, clock: Callable[[], datetime] = utc_now) -> ProcessManager:
        return ProcessManager(
            log=self.working_log,
            recorder=DecisionRecorder(
                log=self.working_log,
                keys=self.keys,
                sealer=self.sealer,
                secret=self.secrets.get("transition"),
            ),
            queries=self.pools.workers.queries,
            zone=lambda: self._workers_workspace().zone,
            clock=clock,
        )
