"""The composition root: opens the database and builds Annals from the parts of each folder."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import Any

from domain.identity import LOG_PARTITIONS
from infra import embedded
from infra.bootstrap.annals import Annals
from infra.bootstrap.erasure_parts import build_erasure
from infra.bootstrap.key_parts import KEY_FILE, build_keys
from infra.bootstrap.ledger_replay import replay_ledger
from infra.bootstrap.log_parts import build_log
from infra.bootstrap.past_parts import build_pasts
from infra.bootstrap.reader_parts import build_readers
from infra.bootstrap.webhook_parts import build_webhooks
from infra.bootstrap.write_parts import build_write
from infra.erasure.ledger import LedgerNeeded
from infra.first_settings import as_first_set
from infra.keys.former_identities import move_entries
from infra.keys.key_encryption import WrongKeyEncryptionKey
from infra.migrations import upgrade
from infra.postgres import database, pools
from infra.postgres.pools import Pools
from infra.settings import Settings

__all__ = [
    "CANNOT_START",
    "DATABASE",
    "KEY_FILE",
    "Annals",
    "collect_garbage_seldom",
    "database_url",
    "opened",
    "opened_over",
]

DATABASE = "annals"
CANNOT_START = (
    upgrade.UnsuitableDatabase,
    embedded.EmbeddedError,
    LedgerNeeded,
    WrongKeyEncryptionKey,
)
"""The errors that stop a start, each with a message for the operator."""


def collect_garbage_seldom() -> None:
    """For a process that serves. A batch makes tens of thousands of values that live for a moment,
    none of them in cycles: looking for cycles after every few hundred is time lost."""
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
        LedgerNeeded: the database was restored, and its ledger is missing or not whole.
    """
    was_older = upgrade.migrate(url)
    with (
        pools.opened(url, connections, settings) as opened_pools,
        opened_over(opened_pools, settings, url) as annals,
    ):
        if was_older:
            index = annals.identities
            move_entries(
                opened_pools.workers.views, opened_pools.keys, index.digest, index.former_digest
            )
        yield annals


@contextmanager
def opened_over(pools: Pools, settings: Settings, url: str) -> Iterator[Annals]:
    """The same over the open pools of a migrated database; leaves them open."""
    with ExitStack() as closing:
        annals = _build(settings, url, pools, closing)
        replay_ledger(annals)
        annals.head_alarm.look()
        yield annals


def _build(settings: Settings, url: str, pools: Pools, closing: ExitStack) -> Annals:
    """Builds all parts over open pools. Raises: WrongKeyEncryptionKey."""
    settings = as_first_set(settings, pools.intake)
    log = build_log(pools)
    # Looked at before the keys: of two processes that begin a database at the same time, both make
    # the secrets before either appends.
    is_new = not any(log.log.heads(range(LOG_PARTITIONS)).values())
    keys = build_keys(settings, pools, closing, is_new=is_new)
    write = build_write(settings, pools, log, keys)
    pasts = build_pasts(settings, url, pools, keys, write, closing)
    erasure = build_erasure(settings, url, pools, log, keys, write, pasts)
    webhooks = build_webhooks(settings, pools, log, keys, write)
    readers = build_readers(settings, url, pools, log, keys, write, closing)
    return Annals(
        settings=settings,
        pools=pools,
        **_fields(log),
        **_fields(keys),
        **_fields(write),
        **_fields(pasts),
        **_fields(erasure),
        **_fields(webhooks),
        **_fields(readers),
    )


def _fields(parts: Any) -> dict[str, Any]:
    return {field.name: getattr(parts, field.name) for field in fields(parts)}
