"""Builds erasure, legal holds and retention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.bootstrap.defaults import utc_now, workspace_defaults
from infra.bootstrap.key_parts import KeyParts
from infra.bootstrap.log_parts import LogParts
from infra.bootstrap.past_parts import PastParts
from infra.bootstrap.write_parts import WriteParts
from infra.erasure.certificates import Certifier
from infra.erasure.key_destruction import KeyDestruction
from infra.erasure.ledger import FILE as LEDGER_FILE
from infra.erasure.ledger import Ledger
from infra.erasure.legal_holds import LegalHolds
from infra.erasure.process import ErasureProcess
from infra.erasure.purge import Purge
from infra.erasure.record import ErasureRecord
from infra.erasure.redaction import Redaction
from infra.erasure.requests import ErasureRequests
from infra.erasure.residue_scan import ResidueScan
from infra.erasure.retention import RetentionRuns
from infra.erasure.steps import ErasureSteps
from infra.erasure.targets import TargetFinder
from infra.postgres.pools import Pools
from infra.settings import Settings
from infra.write.subjects import Subjects
from projections.counters.keeper import CounterKeeper
from projections.projector.checkpoints import PROJECTOR


@dataclass(frozen=True, kw_only=True)
class ErasureParts:
    """
    Attributes:
        redaction: takes the names of erased subjects out of definitions and saved views.
        retention: ends activity that is older than the retention bound.
    """

    erasures: ErasureProcess
    erasure_requests: ErasureRequests
    ledger: Ledger
    holds: LegalHolds
    redaction: Redaction
    certifier: Certifier
    residue_scan: ResidueScan
    retention: RetentionRuns


def build_erasure(
    settings: Settings,
    url: str,
    pools: Pools,
    log: LogParts,
    keys: KeyParts,
    write: WriteParts,
    pasts: PastParts,
) -> ErasureParts:
    """
    Args:
        url: of the database.
    """
    workers = pools.workers
    certifier = Certifier(log_pool=pools.reading, secret=keys.secrets.get("certificates"))
    ledger = Ledger(
        path=settings.data / LEDGER_FILE,
        pool=workers.keys,
        keys=keys.keys,
        tombstones=keys.tombstones,
        sign=certifier.sign,
        verify=certifier.is_signed,
    )
    purge = Purge(
        url=url,
        zone=settings.time_zone,
        hour=settings.cleanup_hour,
        clock=utc_now,
    )
    holds = LegalHolds(pool=pools.keys, subjects=write.subjects)
    redaction = Redaction(
        definitions=write.definitions,
        saved_views=write.saved_views,
        log=log.log,
        sealer=keys.sealer,
        contents=keys.contents,
        pool=pools.keys,
        digest=keys.identities.digest,
    )
    destruction = KeyDestruction(
        completion=write.erasure_completion,
        subjects=Subjects(aggregates=write.aggregates, keys=keys.keys, views=workers.views),
        log=log.log,
        keys=keys.keys,
        tombstones=keys.tombstones,
        holds=holds,
        redaction=redaction,
    )
    counters = CounterKeeper(
        pool=workers.views,
        needed=write.counter_owners.needed,
        projector=PROJECTOR,
        clock=utc_now,
    )
    erasures = ErasureProcess(
        steps=ErasureSteps(
            destruction=destruction,
            pool=workers.keys,
            views=workers.views,
            purge=purge,
            certifier=certifier,
            pasts=pasts.pasts,
            counters=counters,
        ),
        record=ErasureRecord(workers.keys),
        ledger=ledger,
        pool=workers.keys,
    )
    return ErasureParts(
        erasures=erasures,
        erasure_requests=ErasureRequests(
            process=erasures,
            destruction=destruction,
            targets=TargetFinder(keys.identities, pools.readers.queries),
            lookup=keys.identities,
            pool=workers.keys,
            secret=keys.secrets.get("erasures"),
        ),
        ledger=ledger,
        holds=holds,
        redaction=redaction,
        certifier=certifier,
        residue_scan=ResidueScan(
            url=url,
            cluster=embedded_cluster(settings),
            pasts=pasts.past_databases,
        ),
        retention=RetentionRuns(
            log=log.working_log,
            sealer=keys.sealer,
            keys=keys.keys,
            pool=workers.keys,
            log_pool=workers.log,
            views=workers.views,
            workspace=lambda: write.working_definitions.load().workspace(
                workspace_defaults(settings)
            ),
            purge=purge,
            ledger=ledger,
        ),
    )


def embedded_cluster(settings: Settings) -> Path | None:
    """Returns: the folder of the embedded server's files; None: the database is an outside one."""
    cluster = (settings.data / "postgres").resolve()
    is_embedded = settings.database_url is None and (cluster / "PG_VERSION").exists()
    return cluster if is_embedded else None
