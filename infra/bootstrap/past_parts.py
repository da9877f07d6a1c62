"""Builds the pasts: read models as of a past instant."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from infra.bootstrap.defaults import workspace_defaults
from infra.bootstrap.key_parts import KeyParts
from infra.bootstrap.write_parts import WriteParts
from infra.pasts.databases import PastDatabases
from infra.pasts.pasts import Pasts
from infra.postgres.engines import reading
from infra.postgres.pools import Pools
from infra.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PastParts:
    past_databases: PastDatabases
    pasts: Pasts


def build_pasts(
    settings: Settings,
    url: str,
    pools: Pools,
    keys: KeyParts,
    write: WriteParts,
    closing: ExitStack,
) -> PastParts:
    """
    Args:
        url: of the database.
        closing: closes the pasts of this process.
    """
    databases = PastDatabases(url=url)
    pasts = Pasts(
        databases=databases,
        log_pool=pools.workers.log,
        views=pools.views,
        sealer=keys.sealer,
        definitions=write.definitions_of,
        reading=partial(reading, settings=settings),
        defaults=workspace_defaults(settings),
        skipped=write.skipped_events.all,
    )
    closing.callback(pasts.close)
    pasts.tidy()
    return PastParts(past_databases=databases, pasts=pasts)
