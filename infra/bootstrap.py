"""The one place where everything is put together."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
import structlog
from psycopg_pool import ConnectionPool

from domain.calendar import Zones
from domain.erasure.certificate import Statement
from domain.identity import LOG_PARTITIONS, SubjectId, SubjectKind
from domain.workspace.aggregate import Workspace
from infra import embedded
from infra.api_keys import ApiKeys
from infra.backtest_jobs import BacktestJobs
from infra.change_feed import ChangeFeed
from infra.erasure import certificates
from infra.erasure.certificates import Certifier
from infra.erasure.key_destruction import KeyDestruction
from infra.erasure.ledger import FILE as LEDGER_FILE
from infra.erasure.ledger import Ledger, LedgerNeeded, RetentionEntry
from infra.erasure.legal_holds import LegalHolds
from infra.erasure.process import ErasureProcess
from infra.erasure.purge import Purge
from infra.erasure.redaction import Redaction
from infra.erasure.residue_scan import ResidueScan
from infra.erasure.retention import RetentionRuns
from infra.first_settings import as_first_set
from infra.head_alarm import HeadAlarm
from infra.keys.content_keys import ContentKeys
from infra.keys.identity_index import IdentityIndex
from infra.keys.key_encryption import KeyFile, KeySource, KeyVariable, WrongKeyEncryptionKey
from infra.keys.key_ring import KeyRing
from infra.keys.rotation import KeyRotation
from infra.keys.sealing import Sealer
from infra.keys.vault import Vault
from infra.log.event_log import EventLog
from infra.log.records import Records
from infra.log.timelines import Timelines
from infra.migrations import upgrade
from infra.parked_events import ParkedEvents
from infra.pasts.databases import PastDatabases
from infra.pasts.pasts import Pasts
from infra.postgres import database, pools
from infra.postgres.admission import Admission
from infra.postgres.engines import reading
from infra.postgres.pools import Pools
from infra.postgres.readiness import Readiness
from infra.postgres.wakeups import Listener, Wakeups
from infra.refused_attempts import RefusedAttempts
from infra.settings import Settings
from infra.webhooks.cursors import DeliveryCursors
from infra.webhooks.delivery import WebhookDelivery
from infra.webhooks.http_client import HttpClient
from infra.webhooks.items import WebhookItems
from infra.write.aggregates import Aggregates
from infra.write.command_handler import CommandHandler
from infra.write.counter_owners import CounterOwners
from infra.write.decision_recorder import DecisionRecorder
from infra.write.definition_store import READER as DEFINITIONS_READER
from infra.write.definition_store import DefinitionStore
from infra.write.name_administration import NameAdministration
from infra.write.name_catalogue import NameCatalogue
from infra.write.saved_views import SavedViews
from infra.write.skipped_events import SkippedEvents
from infra.write.subjects import Subjects
from projections.counters.filler import CounterFiller
from projections.counters.keeper import CounterKeeper
from projections.deciding.process_manager import ProcessManager
from projections.kernel.gaps import Gap, note
from projections.projector.checkpoints import PROJECTOR
from projections.projector.projector import Projector
from projections.queries import contact_view
from projections.queries.status import ProjectionStatus, status
from projections.queries.subject_file import SubjectFiles

DATABASE = "annals"
KEY_FILE = "key-encryption-key"
CANNOT_START = (
    upgrade.UnsuitableDatabase,
    embedded.EmbeddedError,
    LedgerNeeded,
    WrongKeyEncryptionKey,
)
"""What stops a start, each with a message for the operator."""

log = structlog.get_logger()


def _now() -> datetime:
    return datetime.now(UTC)


def _defaults(settings: Settings) -> Workspace:
    """What holds where the workspace has chosen nothing."""
    return Workspace(
        zones=Zones(settings.time_zone),
        mrr_property=settings.mrr_property,
        renewal_property=settings.renewal_property,
    )


@dataclass(frozen=True)
class Annals:
    """Everything a process needs, open and ready.

    Attributes:
        working_log, working_definitions: the log and what it defines, by connections of the
            workers.
        pools: all connections to the live database.
        queries: for what readers ask in a moment; `long_queries` for previews, reviews and
            back-tests, `streams` for exports (`infra.postgres.engines`).
        listening_url: connection string for a listener.
        moment: the past instant that all is read as of; None: the present.
    """

    settings: Settings
    log: EventLog
    timelines: Timelines
    keys: KeyRing
    sealer: Sealer
    aggregates: Aggregates
    subjects: Subjects
    handler: CommandHandler
    api_keys: ApiKeys
    wrapping: KeyRotation
    views: ConnectionPool
    queries: sa.Engine
    long_queries: sa.Engine
    streams: sa.Engine
    places: Admission
    definitions: DefinitionStore
    saved_views: SavedViews
    records: Records
    backtests: BacktestJobs
    erasures: ErasureProcess
    holds: LegalHolds
    mentions: Redaction
    refused_attempts: RefusedAttempts
    watching: ChangeFeed
    certifier: Certifier
    scanner: ResidueScan
    aged_activity: RetentionRuns
    pasts: Pasts
    destinations: DeliveryCursors
    deliverer: WebhookDelivery
    readiness: Readiness
    working_log: EventLog
    working_definitions: DefinitionStore
    pools: Pools
    skips: SkippedEvents
    counter_owners: CounterOwners
    wakeups: Wakeups
    listening_url: str
    past_heads: HeadAlarm
    names: NameAdministration
    moment: datetime | None = None

    def now(self) -> datetime:
        """The instant that all is read as of."""
        return self.moment or _now()

    def as_of(self, at: datetime, by: UUID | None = None) -> Annals:
        """The same for reading what was shown at an instant: the engines for readers,
        `definitions`, `timelines`, `records` and `log` end there. Keys are those of now: who was
        erased since is erased there.

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
        """How far the read models are behind the log."""
        heads = self.log.heads(range(LOG_PARTITIONS))
        with self.queries.connect() as conn:
            return status(conn, PROJECTOR, heads, self.wakeups.workers(), self.past_heads.recent())

    def workspace(self) -> Workspace:
        """What holds in the workspace, or held less than a second ago."""
        return self.definitions.recent().workspace(_defaults(self.settings))

    def workspace_now(self) -> Workspace:
        """What holds in the workspace, straight from the log."""
        return self.definitions.load().workspace(_defaults(self.settings))

    def _workers_workspace(self) -> Workspace:
        """As `workspace_now`, for workers."""
        return self.working_definitions.load().workspace(_defaults(self.settings))

    def projector(self) -> Projector:
        return Projector(
            log=self.working_log,
            opener=self.sealer,
            pool=self.pools.workers.views,
            workspace=self._workers_workspace,
            skipped=self.skips.all,
        )

    def parked(self) -> ParkedEvents:
        """Parked events: listed, tried again, skipped."""
        return ParkedEvents(
            log=self.log,
            views=self.views,
            skips=self.skips,
            sealer=self.sealer,
            retrying=self.projector().retrying,
        )

    def reviews(self, kind: SubjectKind, streams: Sequence[SubjectId]) -> SubjectFiles:
        """Of a subject, by its own id and those of the subjects merged into it."""
        return SubjectFiles(self.long_queries.connect, self.timelines, self.sealer, kind, streams)

    def differing_partitions(self, statement: Statement) -> list[int]:
        """See `certificates.differing_partitions`."""
        return certificates.differing_partitions(self.log, statement)

    def counter_keeper(self, clock: Callable[[], datetime] = _now) -> CounterKeeper:
        return CounterKeeper(
            pool=self.pools.workers.views,
            needed=self.counter_owners.needed,
            projector=PROJECTOR,
            clock=clock,
        )

    def filler(self, clock: Callable[[], datetime] = _now) -> CounterFiller:
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
        """What wakes the workers of this process when another one makes work."""
        return Listener(self.listening_url, self.wakeups)

    def decider(self, clock: Callable[[], datetime] = _now) -> ProcessManager:
        return ProcessManager(
            log=self.working_log,
            recorder=DecisionRecorder(
                log=self.working_log,
                keys=self.keys,
                sealer=self.sealer,
                secret=self.keys.secret("transition"),
            ),
            queries=self.pools.workers.queries,
            zone=lambda: self._workers_workspace().zone,
            clock=clock,
        )


def collect_garbage_seldom() -> None:
    """For a process that serves. A batch makes tens of thousands of values that are gone a moment
    later, none of them in cycles: to look for cycles after every few hundred is time lost."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The database that settings name: an outside one, or the embedded server while in use."""
    if settings.database_url is not None:
        yield database.within_bounds(settings.database_url)
        return
    with embedded.running(settings.data) as server:
        yield database.create_database(server, DATABASE)


@contextmanager
def opened(settings: Settings, url: str, *, connections: int = 8) -> Iterator[Annals]:
    """Migrates the database, checks the keys and opens the pools; closes them on the way out.

    Raises:
        upgrade.UnsuitableDatabase: see there.
        WrongKeyEncryptionKey: the key-encryption key is missing, unsafe or another one.
        LedgerNeeded: the database was restored, and its ledger is not there, or not whole.
    """
    upgrade.migrate(url)
    with (
        pools.opened(url, connections, settings) as opened_pools,
        _assembled(settings, url, opened_pools) as annals,
    ):
        yield annals


@contextmanager
def _assembled(settings: Settings, url: str, pools: Pools) -> Iterator[Annals]:
    """Everything over open pools. Raises: see `opened`."""
    keys_pool, workers = pools.keys, pools.workers
    readiness = Readiness(url)
    backtests = BacktestJobs()
    sources: list[KeySource] = []
    pasts: Pasts | None = None
    try:
        settings = as_first_set(settings, pools.intake)
        wakeups = Wakeups()
        log = EventLog(pools.intake, wakeups)
        working_log = EventLog(workers.log, wakeups)
        # In this order: who begins a database at the same time makes the secrets, then the events.
        is_new = not any(log.heads(range(LOG_PARTITIONS)).values())
        sources += _key_sources(settings)
        wrapping = KeyRotation(keys_pool, sources)
        wrapping.open(is_new=is_new)
        keys = KeyRing(keys_pool, wrapping)
        keys.destroy_again()
        lookup = IdentityIndex(keys_pool, keys.secret("lookup"), keys)
        contents = ContentKeys(keys_pool, keys)
        sealer = Sealer(keys, contents)
        definitions = partial(
            DefinitionStore,
            sealer=sealer,
            secret=keys.secret("definitions"),
            note=partial(_note, workers.views),
        )
        skips = SkippedEvents(workers.log, keys)
        pasts = Pasts(
            databases=PastDatabases(url),
            log_pool=workers.log,
            views=pools.views,
            sealer=sealer,
            definitions=definitions,
            reading=partial(reading, settings=settings),
            defaults=_defaults(settings),
            skipped=skips.all,
        )
        pasts.tidy()
        aggregates = Aggregates(log, sealer, pools.intake)
        subjects = Subjects(aggregates, keys, pools.views)
        stored, working_definitions = definitions(log), definitions(working_log)
        catalogue = NameCatalogue(pools.intake, lambda: stored.recent().names)
        handler = CommandHandler(
            log=log,
            keys=keys,
            lookup=lookup,
            catalogue=catalogue,
            aggregates=aggregates,
            sealer=sealer,
            message_secret=keys.secret("message"),
        )
        certifier = Certifier(pools.reading, keys.secret("certificates"))
        ledger = Ledger(
            settings.data / LEDGER_FILE,
            workers.keys,
            keys,
            sign=certifier.sign,
            verify=certifier.is_signed,
        )
        cleaner = Purge(url, zone=settings.time_zone, hour=settings.cleanup_hour, clock=_now)
        api_keys = ApiKeys(pools.access)
        saved_views = SavedViews(pools.reading, keys.secret("saved views"), contents)
        holds = LegalHolds(keys_pool, subjects)
        mentions = Redaction(
            definitions=stored,
            saved_views=saved_views,
            log=log,
            sealer=sealer,
            contents=contents,
            pool=keys_pool,
            digest=lookup.digest,
        )
        destinations = DeliveryCursors(workers.log, keys.secret("destinations"))
        counter_owners = CounterOwners(stored, saved_views)
        annals = Annals(
            settings,
            log,
            Timelines(pools.reading),
            keys,
            sealer,
            aggregates,
            subjects,
            handler,
            api_keys,
            wrapping,
            pools.views,
            pools.readers.queries,
            pools.readers.long,
            pools.readers.streams,
            Admission(),
            stored,
            saved_views,
            Records(pools.reading),
            backtests,
            ErasureProcess(
                destruction=KeyDestruction(
                    handler=handler,
                    subjects=Subjects(aggregates, keys, workers.views),
                    log=log,
                    keys=keys,
                    holds=holds,
                    mentions=mentions,
                ),
                lookup=lookup,
                pool=workers.keys,
                views=workers.views,
                secret=keys.secret("erasures"),
                cleaner=cleaner,
                certifier=certifier,
                ledger=ledger,
                pasts=pasts,
                counters=CounterKeeper(
                    pool=workers.views,
                    needed=counter_owners.needed,
                    projector=PROJECTOR,
                    clock=_now,
                ),
            ),
            holds,
            mentions,
            RefusedAttempts(pools.access),
            ChangeFeed(
                workers.log, workers.views, api_keys, PROJECTOR, _streams_of(pools.readers.queries)
            ),
            certifier,
            ResidueScan(url, _cluster(settings), PastDatabases(url)),
            RetentionRuns(
                log=working_log,
                sealer=sealer,
                keys=keys,
                pool=workers.keys,
                log_pool=workers.log,
                views=workers.views,
                workspace=lambda: working_definitions.load().workspace(_defaults(settings)),
                cleaner=cleaner,
                ledger=ledger,
            ),
            pasts,
            destinations,
            WebhookDelivery(
                log=working_log,
                keys=keys,
                outgoing=WebhookItems(
                    log=working_log,
                    sealer=sealer,
                    keys=keys,
                    views=workers.views,
                    projector=PROJECTOR,
                ),
                definitions=working_definitions,
                destinations=destinations,
                outside=_outside(settings),
            ),
            readiness,
            working_log,
            working_definitions,
            pools,
            skips,
            counter_owners,
            wakeups,
            database.as_role(url, "annals_log"),
            HeadAlarm(workers.log, workers.views),
            NameAdministration(
                stored,
                catalogue,
                saved_views,
                lambda state: state.workspace(_defaults(settings)),
            ),
        )
        _replay_ledger(annals, ledger)
        annals.past_heads.look()
        yield annals
    finally:
        backtests.close()
        if pasts is not None:
            pasts.close()
        for source in sources:
            if isinstance(source, Vault):
                source.close()
        readiness.close()


def _replay_ledger(annals: Annals, ledger: Ledger) -> None:
    """Erases again whom a restored database still has, and ends again the activity that is over;
    see `infra.erasure.ledger`.

    Raises:
        LedgerNeeded: it was restored, and the ledger is not there, not whole, or older than it.
    """
    is_restored = ledger.is_elsewhere()
    if is_restored:
        annals.pasts.drop_all()
    lost: list[RetentionEntry] = []
    if ledger.path.exists():
        entries = ledger.read(ledger.path)
        again = ledger.revived(entries)
        annals.erasures.prepare_again(again)
        ledger.replay(entries, again)
        if again:
            log.warning("ledger.replayed", subjects=len(again))
        lost = ledger.lost_runs(entries)
    elif is_restored:
        raise LedgerNeeded(
            f"this database was restored, and {ledger.path} is not there: put the newest copy of"
            " the ledger of erasures there, which is in the data folder that was lost and in every"
            " backup, or run annals restore"
        )
    if is_restored:
        missing = ledger.missing(annals.log.erased_streams())
        if missing:
            raise LedgerNeeded(
                f"{ledger.path} is older than this database: it lacks {missing} erasures that the"
                " log tells of; put the newest copy there"
            )
        annals.handler.finish_erasures(_now())
    if is_restored or lost:
        annals.projector().start_over()
    for run in lost:
        annals.aged_activity.repeat(run)
    ledger.settle()
    ledger.keep()


def _note(views: ConnectionPool, gaps: Sequence[Gap]) -> None:
    """Lists events that what is defined lacks."""
    with views.connection() as conn:
        note(conn, DEFINITIONS_READER, gaps)


def _streams_of(queries: sa.Engine) -> Callable[[SubjectId], list[SubjectId]]:
    """What gives all streams that tell of a subject today."""

    def found(subject: SubjectId) -> list[SubjectId]:
        with queries.connect() as conn:
            return contact_view.streams_of(conn, contact_view.survivor_of(conn, subject))

    return found


def _cluster(settings: Settings) -> Path | None:
    """The folder of the embedded server's files, if it is the one in use."""
    cluster = (settings.data / "postgres").resolve()
    is_ours = settings.database_url is None and (cluster / "PG_VERSION").exists()
    return cluster if is_ours else None


def _outside(settings: Settings) -> HttpClient:
    """What `ANNALS_PRIVATE_DESTINATIONS` and `ANNALS_DESTINATION_CERTIFICATES` say."""
    named = settings.destination_certificates
    return HttpClient(
        allows_private=settings.private_destinations == "allow",
        certificates=None if named == "system" else Path(named),
    )


def _key_sources(settings: Settings) -> list[KeySource]:
    """What `ANNALS_KEK` names, in its order."""
    sources: list[KeySource] = []
    for word in settings.kek.split():
        kind, _, place = word.partition(":")
        if kind == "vault":
            named = settings.vault_certificates
            certificates = None if named == "system" else Path(named)
            sources.append(Vault(place, settings.vault_token_file, certificates))
        elif kind == "env":
            sources.append(KeyVariable(place))
        else:
            sources.append(KeyFile(Path(place) if place else settings.data / KEY_FILE))
    return sources
