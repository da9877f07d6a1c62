"""Builds the write side: command handler, aggregates, names, definitions, saved views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg_pool import ConnectionPool

from infra.bootstrap.defaults import workspace_defaults
from infra.bootstrap.key_parts import KeyParts
from infra.bootstrap.log_parts import LogParts
from infra.keys.snapshot_sealing import SnapshotSealer
from infra.log.event_log import EventLog
from infra.postgres.pools import Pools
from infra.settings import Settings
from infra.write.aggregates import Aggregates
from infra.write.command_handler import CommandHandler
from infra.write.condition_checks import ConditionChecks
from infra.write.counter_owners import CounterOwners
from infra.write.definition_store import READER as DEFINITIONS_READER
from infra.write.definition_store import DefinitionStore
from infra.write.erasure_completion import ErasureCompletion
from infra.write.manual_stages import ManualStages
from infra.write.member_lists import MemberLists
from infra.write.name_administration import NameAdministration
from infra.write.name_catalogue import NameCatalogue
from infra.write.replay import AggregateReplay
from infra.write.saved_views import SavedViews
from infra.write.skipped_events import SkippedEvents
from infra.write.subject_lookup import SubjectLookup
from infra.write.subjects import Subjects
from projections.kernel.gaps import Gap, note


@dataclass(frozen=True, kw_only=True)
class WriteParts:
    """
    Attributes:
        subject_lookup: finds subjects by their outside names.
        erasure_completion: records in the log that keys are destroyed.
        replay: an aggregate at a version, for auditors.
        definitions_of: the definitions that a log holds.
        working_definitions: the definitions, over the connections of the workers.
        skipped_events: the parked events that an operator skipped.
    """

    aggregates: Aggregates
    subjects: Subjects
    handler: CommandHandler
    subject_lookup: SubjectLookup
    manual_stages: ManualStages
    erasure_completion: ErasureCompletion
    replay: AggregateReplay
    definitions_of: Callable[[EventLog], DefinitionStore]
    definitions: DefinitionStore
    working_definitions: DefinitionStore
    saved_views: SavedViews
    names: NameAdministration
    checks: ConditionChecks
    member_lists: MemberLists
    skipped_events: SkippedEvents
    counter_owners: CounterOwners


def build_write(settings: Settings, pools: Pools, log: LogParts, keys: KeyParts) -> WriteParts:
    definitions_of = partial(
        DefinitionStore,
        sealer=keys.sealer,
        secret=keys.secrets.get("definitions"),
        note=partial(_note, pools.workers.views),
    )
    definitions = definitions_of(log.log)
    catalogue = NameCatalogue(pool=pools.intake, rules=lambda: definitions.recent().names)
    aggregates = Aggregates(
        log=log.log,
        sealer=keys.sealer,
        snapshots=SnapshotSealer(keys.keys),
        pool=pools.intake,
    )
    saved_views = SavedViews(
        pool=pools.reading,
        secret=keys.secrets.get("saved views"),
        contents=keys.contents,
    )
    handler = CommandHandler(
        log=log.log,
        keys=keys.keys,
        tombstones=keys.tombstones,
        identities=keys.identities,
        catalogue=catalogue,
        aggregates=aggregates,
        sealer=keys.sealer,
        message_secret=keys.secrets.get("message"),
    )
    subject_lookup = SubjectLookup(keys.identities)
    return WriteParts(
        aggregates=aggregates,
        subjects=Subjects(aggregates=aggregates, keys=keys.keys, views=pools.views),
        handler=handler,
        subject_lookup=subject_lookup,
        manual_stages=ManualStages(
            log=log.log,
            keys=keys.keys,
            aggregates=aggregates,
            sealer=keys.sealer,
        ),
        erasure_completion=ErasureCompletion(
            log=log.log,
            records=keys.erasure_records,
            aggregates=aggregates,
            sealer=keys.sealer,
            message_secret=keys.secrets.get("message"),
        ),
        replay=AggregateReplay(log.log, keys.sealer),
        definitions_of=definitions_of,
        definitions=definitions,
        working_definitions=definitions_of(log.working_log),
        saved_views=saved_views,
        names=NameAdministration(
            definitions=definitions,
            catalogue=catalogue,
            saved_views=saved_views,
            workspace=lambda state: state.workspace(workspace_defaults(settings)),
        ),
        checks=ConditionChecks(
            definitions=definitions,
            queries=pools.readers.queries,
            read_position=log.read_position,
        ),
        member_lists=MemberLists(
            definitions=definitions,
            lookup=subject_lookup,
            queries=pools.readers.queries,
        ),
        skipped_events=SkippedEvents(pool=pools.workers.log, keys=keys.keys),
        counter_owners=CounterOwners(definitions=definitions, saved_views=saved_views),
    )


def _note(views: ConnectionPool, gaps: Sequence[Gap]) -> None:
    """Lists the events that the definitions lack."""
    with views.connection() as conn:
        note(conn, DEFINITIONS_READER, gaps)
