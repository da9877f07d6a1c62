"""The ledger of erasures and retention runs: kept outside the database too, and replayed over a
restored one.

A backup of the keys still holds the keys that were destroyed after it. So every process writes the
whole ledger, signed, to its data folder; and a database stores the server on which it was last
opened. A database that is opened on another server was restored: Annals replays the ledger before
it serves anything, and without the ledger it does not start.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg_pool import ConnectionPool

from domain.definitions.retention import Counts
from domain.erasure.erasure import TargetOutcome
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.keys.key_ring import KeyRing
from infra.keys.tombstones import KeyTombstones

FORMAT = "annals-erasure-ledger-1"
FILE = "erasures.ledger"
ROWS_AT_A_TIME = 1_000

# The server, and the database on it, as `place`.
SELECT_SERVER = """
SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid
FROM pg_database WHERE datname = current_database()"""

SELECT_PLACE = "SELECT place FROM keys.place"

SET_PLACE = """
INSERT INTO keys.place (place) VALUES (%(place)s)
ON CONFLICT (only_row) DO UPDATE SET place = excluded.place, since = now()
WHERE keys.place.place <> excluded.place"""

COUNT_ENTRIES = """
SELECT (SELECT count(*) FROM keys.erasures), (SELECT count(*) FROM keys.erasure_requests),
       (SELECT count(*) FROM keys.erasure_targets WHERE outcome <> 'waiting'),
       (SELECT count(*) FROM keys.suppressed), (SELECT count(lifted_at) FROM keys.suppressed),
       (SELECT count(destroyed_at) FROM keys.retention_runs)"""

SELECT_REQUESTS = """
SELECT id, scope, kind, segment, reason, suppress, unknown, requested_by, requested_at
FROM keys.erasure_requests ORDER BY requested_at, id"""

SELECT_ERASURES = """
SELECT subject, kind, requested_by, reason, request FROM keys.erasures ORDER BY request, subject"""

SELECT_TARGETS = """
SELECT request, subject, outcome, detail FROM keys.erasure_targets
WHERE outcome <> 'waiting' ORDER BY request, subject"""

SELECT_SUPPRESSED = """
SELECT lookup, request, lifted_at IS NOT NULL FROM keys.suppressed ORDER BY lookup"""

SELECT_RUNS = """
SELECT id, ends, counts, requested_by, requested_at, lines FROM keys.retention_runs
WHERE destroyed_at IS NOT NULL ORDER BY ends"""

SELECT_RUN_IDS = "SELECT id FROM keys.retention_runs WHERE destroyed_at IS NOT NULL"

ADD_REQUEST = """
INSERT INTO keys.erasure_requests (id, scope, kind, segment, reason, suppress, unknown,
                                   requested_by, requested_at)
VALUES (%(id)s, %(scope)s, %(kind)s, %(segment)s, %(reason)s, %(suppress)s, %(unknown)s,
        %(requested_by)s, %(requested_at)s) ON CONFLICT DO NOTHING"""

ADD_TARGET = """
INSERT INTO keys.erasure_targets (log_partition, request, subject, outcome, detail)
VALUES (%(partition)s, %(request)s, %(subject)s, %(outcome)s, %(detail)s)
ON CONFLICT (log_partition, request, subject) DO UPDATE
SET outcome = excluded.outcome, detail = excluded.detail"""

ADD_SUPPRESSED = """
INSERT INTO keys.suppressed (log_partition, lookup, request, lifted_at)
VALUES (%(partition)s, %(lookup)s, %(request)s, CASE WHEN %(lifted)s THEN now() END)
ON CONFLICT DO NOTHING"""

SELECT_DESTROYED = """
SELECT e.subject FROM keys.erasures e
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON e.log_partition = w.p AND e.subject = w.s
WHERE NOT EXISTS (
    SELECT FROM keys.subject_keys k
    WHERE k.log_partition = w.p AND k.subject = w.s AND k.state = 'active')"""


class LedgerNeeded(Exception):
    """A restored database without its whole ledger of erasures; says what to do."""


class RequestEntry(msgspec.Struct, frozen=True, tag="request"):
    id: uuid.UUID
    scope: str
    kind: SubjectKind
    segment: uuid.UUID | None
    reason: str
    suppress: bool
    unknown: int
    requested_by: str
    requested_at: datetime


class ErasureEntry(msgspec.Struct, frozen=True, tag="erased"):
    """A subject whose keys are destroyed; `request` is None if another erasure included it."""

    subject: uuid.UUID
    kind: SubjectKind
    requested_by: str
    reason: str
    request: uuid.UUID | None


class TargetEntry(msgspec.Struct, frozen=True, tag="target"):
    request: uuid.UUID
    subject: uuid.UUID
    outcome: TargetOutcome
    detail: str | None


class SuppressedEntry(msgspec.Struct, frozen=True, tag="suppressed"):
    """A keyed hash of an identity that is refused."""

    lookup: bytes
    request: uuid.UUID
    lifted: bool


class RetentionEntry(msgspec.Struct, frozen=True, tag="retention"):
    """A run that has destroyed the keys of all activity that occurred before `ends`."""

    id: uuid.UUID
    ends: datetime
    counts: Counts
    requested_by: str
    requested_at: datetime
    lines: list[int]


Entry = RequestEntry | ErasureEntry | TargetEntry | SuppressedEntry | RetentionEntry


class Head(msgspec.Struct, frozen=True):
    format: str
    written_at: datetime


class End(msgspec.Struct, frozen=True):
    """The last line: a signature over all lines before it."""

    signature: bytes


_decoder = msgspec.json.Decoder(Entry)
_encode = msgspec.json.Encoder().encode


class Ledger:
    """The ledger of one deployment.

    Args:
        sign, verify: under the deployment's own key, which a restore brings back.
    """

    def __init__(
        self,
        path: Path,
        pool: ConnectionPool,
        keys: KeyRing,
        tombstones: KeyTombstones,
        *,
        sign: Callable[[bytes], bytes],
        verify: Callable[[bytes, bytes], bool],
    ) -> None:
        self.path = path
        self._pool = pool
        self._keys = keys
        self._tombstones = tombstones
        self._sign = sign
        self._verify = verify
        self._written: tuple[int, ...] | None = None

    def keep(self) -> None:
        """Writes the ledger to its file where it has new entries; whole and durably, or not at
        all."""
        with self._pool.connection() as conn, conn.transaction():
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            counts = conn.execute(COUNT_ENTRIES).fetchone()
            if counts == self._written and self.path.exists():
                return
            lines = [_encode(Head(FORMAT, datetime.now(UTC)))]
            lines += [_encode(entry) for entry in _entries(conn)]
        content = b"".join(line + b"\n" for line in lines)
        end = End(self._sign(hashlib.sha256(content).digest()))
        _replace(self.path, content + _encode(end) + b"\n")
        self._written = counts

    def read(self, path: Path) -> list[Entry]:
        """The entries of a ledger's file.

        Raises:
            LedgerNeeded: there is no file; or it is not whole, or another deployment's.
        """
        try:
            content = path.read_bytes()
        except OSError:
            raise LedgerNeeded(f"there is no ledger of erasures at {path}") from None
        body, last = content[: content.rfind(b"\n", 0, -1) + 1], content.splitlines()[-1:]
        try:
            head, *lines = body.splitlines()
            end = msgspec.json.decode(last[0], type=End)
            if msgspec.json.decode(head, type=Head).format != FORMAT:
                raise LedgerNeeded(f"the ledger of erasures at {path} is of another format")
            entries = [_decoder.decode(line) for line in lines]
        except (msgspec.MsgspecError, ValueError, IndexError):
            raise LedgerNeeded(f"the ledger of erasures at {path} is not whole") from None
        if not content.endswith(b"\n"):
            raise LedgerNeeded(f"the ledger of erasures at {path} is not whole")
        if not self._verify(end.signature, hashlib.sha256(body).digest()):
            raise LedgerNeeded(
                f"the ledger of erasures at {path} was altered, or is another deployment's: put the"
                " right one there, or, if this database is a new one, take it away"
            )
        return entries

    def is_elsewhere(self) -> bool:
        """Whether the database was last opened on another server: it was restored, or moved."""
        with self._pool.connection() as conn:
            server = conn.execute(SELECT_SERVER).fetchone()
            place = conn.execute(SELECT_PLACE).fetchone()
        return place is not None and place != server

    def take_place(self) -> None:
        """Stores that the database is at home on the server where it is now."""
        with self._pool.connection() as conn:
            server = conn.execute(SELECT_SERVER).fetchone()
            assert server is not None
            conn.execute(SET_PLACE, {"place": server[0]})

    def revived(self, entries: Sequence[Entry]) -> list[ErasureEntry]:
        """The erasures of the ledger whose subjects have a key in the database."""
        erased = [entry for entry in entries if isinstance(entry, ErasureEntry)]
        revived: list[ErasureEntry] = []
        with self._pool.connection() as conn:
            for piece in _pieces(erased):
                destroyed = _destroyed(conn, [SubjectId(entry.subject) for entry in piece])
                revived += [entry for entry in piece if entry.subject not in destroyed]
        return revived

    def replay(self, entries: Sequence[Entry], revived: Sequence[ErasureEntry]) -> None:
        """Erases the subjects of `revived` again, and adds missing entries to the database."""
        requests = {entry.id: entry for entry in entries if isinstance(entry, RequestEntry)}
        with self._pool.connection() as conn, conn.transaction():
            _add(conn, entries)
            self._destroy(conn, revived, requests)
        self._keys.refresh()

    def lost_runs(self, entries: Sequence[Entry]) -> list[RetentionEntry]:
        """The runs of retention that the database has not ended, in their order."""
        with self._pool.connection() as conn:
            known = {id for (id,) in conn.execute(SELECT_RUN_IDS)}
        runs = [entry for entry in entries if isinstance(entry, RetentionEntry)]
        return sorted((run for run in runs if run.id not in known), key=lambda run: run.ends)

    def missing(self, erased: Sequence[SubjectId]) -> int:
        """How many subjects that the log calls erased have a key that is not destroyed."""
        with self._pool.connection() as conn:
            destroyed = sum(len(_destroyed(conn, piece)) for piece in _pieces(erased))
        return len(erased) - destroyed

    def _destroy(
        self,
        conn: psycopg.Connection,
        revived: Sequence[ErasureEntry],
        requests: Mapping[uuid.UUID, RequestEntry],
    ) -> None:
        by_cause: dict[tuple[SubjectKind, str, str, uuid.UUID | None], list[SubjectId]] = {}
        for entry in revived:
            cause = (entry.kind, entry.requested_by, entry.reason, entry.request)
            by_cause.setdefault(cause, []).append(SubjectId(entry.subject))
        for (kind, by, reason, request), subjects in by_cause.items():
            for piece in _pieces(subjects):
                self._tombstones.destroy_within(
                    conn,
                    piece,
                    kind=kind.value,
                    requested_by=by,
                    reason=reason,
                    request=request,
                    suppress=request is not None and requests[request].suppress,
                )


def _destroyed(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> set[SubjectId]:
    """Returns the subjects that are recorded as erased and have no active key."""
    params = {
        "partitions": [log_partition(subject) for subject in subjects],
        "subjects": list(subjects),
    }
    return {subject for (subject,) in conn.execute(SELECT_DESTROYED, params, binary=True)}


def _add(conn: psycopg.Connection, entries: Sequence[Entry]) -> None:
    """Adds the requests, targets and suppressed identities that the database lacks."""
    requests: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    suppressed: list[dict[str, Any]] = []
    for entry in entries:
        fields = msgspec.structs.asdict(entry)
        match entry:
            case RequestEntry():
                requests.append(fields | {"kind": entry.kind.value})
            case TargetEntry():
                partition = log_partition(entry.subject)
                outcome = entry.outcome.value
                targets.append(fields | {"partition": partition, "outcome": outcome})
            case SuppressedEntry():
                suppressed.append(fields | {"partition": entry.lookup[0]})
    cursor = conn.cursor()
    cursor.executemany(ADD_REQUEST, requests)
    cursor.executemany(ADD_TARGET, targets)
    cursor.executemany(ADD_SUPPRESSED, suppressed)


def _entries(conn: psycopg.Connection) -> Iterator[Entry]:
    for id, scope, kind, *rest in conn.execute(SELECT_REQUESTS):
        yield RequestEntry(id, scope, SubjectKind(kind), *rest)
    for subject, kind, *rest in conn.execute(SELECT_ERASURES):
        yield ErasureEntry(subject, SubjectKind(kind), *rest)
    for request, subject, outcome, detail in conn.execute(SELECT_TARGETS):
        yield TargetEntry(request, subject, TargetOutcome(outcome), detail)
    for row in conn.execute(SELECT_SUPPRESSED):
        yield SuppressedEntry(*row)
    for id, ends, counts, *rest in conn.execute(SELECT_RUNS):
        yield RetentionEntry(id, ends, Counts(counts), *rest)


def _pieces(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), ROWS_AT_A_TIME):
        yield items[start : start + ROWS_AT_A_TIME]


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
