"""What tests do with read models: bring them up to date, build them again, read them whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg

from domain.activity import Activity, ActivityKind
from domain.commands import Command, Request, Stored
from domain.identity import Identity, Scheme, SubjectId
from infra.bootstrap.annals import Annals
from projections.projector.projector import Projector

NOON = datetime(2024, 5, 13, 12, tzinfo=UTC)

READ_MODELS = (
    "contacts", "seen", "merges", "memberships", "names", "activity_days", "catalogue",
    "bar_counts", "definitions", "definition_versions", "segments", "segment_lists",
    "segment_members", "segment_leavers", "segment_counts", "counter_days", "standings",
    "stage_spells", "scores", "signals", "search_entries",
)  # fmt: skip

# Numbers of names are taken in the order of sight, and who is known is for the projector: they are
# no part of what is shown.
_DUMPS = {table: f"SELECT t::text FROM views.{table} t ORDER BY 1" for table in READ_MODELS} | {
    "names": "SELECT kind || ' ' || name FROM views.names ORDER BY 1",
    "seen": """
SELECT (log_partition, subject, kind, first_seen, last_seen)::text FROM views.seen ORDER BY 1""",
    "activity_days": """
SELECT (d.log_partition, d.subject, n.kind, n.name, d.day, d.in_account, d.count, d.first_at,
        d.last_at)::text
FROM views.activity_days d LEFT JOIN views.names n ON n.id = d.name_id ORDER BY 1""",
    "segment_counts": "SELECT t::text FROM views.segment_counts t WHERE members <> 0 ORDER BY 1",
}

# The catalogue of names stays: processes remember it, as nothing in it ever changes.
_WRITTEN = (
    "log.events",
    "log.message_ids",
    "log.snapshots",
    "keys.subject_keys",
    "keys.identities",
    "keys.erasures",
)
_PROGRESS = (
    "checkpoints", "workers", "parked", "changes_due", "deciding", "sweeps", "timers",
)  # fmt: skip


def user(name: str) -> tuple[Identity, ...]:
    return (Identity(Scheme.EMAIL if "@" in name else Scheme.USER_ID, name),)


def account(name: str) -> tuple[Identity, ...]:
    return (Identity(Scheme.DOMAIN if "." in name else Scheme.ACCOUNT_ID, name),)


def event(name: str, kind: ActivityKind = ActivityKind.EVENT) -> tuple[Activity, ...]:
    return (Activity(kind, name),)


def write(annals: Annals, *commands: Command) -> None:
    """Carries out commands as one batch, all of which must be stored."""
    for outcome in annals.handler.handle([Request(command) for command in commands]):
        assert isinstance(outcome, Stored), outcome


def found(annals: Annals, identities: Sequence[Identity]) -> SubjectId:
    subject = annals.subject_lookup.find(identities[0])
    assert subject is not None
    return subject


def drain(projector: Projector) -> None:
    while projector.step():
        pass


def project(annals: Annals) -> None:
    """Brings the read models up to date, and hands the partitions back."""
    projector = annals.projector()
    drain(projector)
    projector.release()


@contextmanager
def owner(url: str) -> Iterator[psycopg.Connection]:
    """The database as its owner sees it, beyond what any role of ours may."""
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn


def dump(url: str) -> dict[str, list[str]]:
    """Every row of every read model, as text."""
    with owner(url) as conn:
        conn.execute("SET timezone = 'UTC'")
        return {table: [row[0] for row in conn.execute(query)] for table, query in _DUMPS.items()}


def forget_read_models(url: str) -> None:
    """Empties the read models, for the projectors to begin again at the log's first positions."""
    with owner(url) as conn, conn.transaction():
        for table in READ_MODELS + _PROGRESS:
            conn.execute(f"DELETE FROM views.{table}")


def empty(url: str) -> None:
    """A database in which nothing was ever written."""
    with owner(url) as conn, conn.transaction():
        for table in _WRITTEN:
            conn.execute(f"DELETE FROM {table}")
        conn.execute("UPDATE log.heads SET head = 0, hash = decode(repeat('00', 32), 'hex')")
    forget_read_models(url)


def let_leases_expire(url: str) -> None:
    """What the passing of time does after a worker died."""
    with owner(url) as conn:
        conn.execute("UPDATE views.checkpoints SET leased_until = '-infinity'")
        conn.execute("DELETE FROM views.workers")


def parked(url: str) -> list[str]:
    with owner(url) as conn:
        return [row[0] for row in conn.execute("SELECT error FROM views.parked")]
