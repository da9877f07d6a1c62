"""Subject keys: one a subject, wrapped by a key-encryption key, destroyed on erasure.

A key is in one of three states: never made, active, destroyed. Destroyed is a tombstone that stays:
making a key on demand can neither revive nor replace it. Keys are cached for a short time; a
generation number, moved by every destruction and read at the start of each piece of work, drops
the cache of every process.

A key may seal 2^32 messages (AES-GCM, random nonces). Long before, the subject goes on with a new
version; all versions open, and all are destroyed together. Which seals are counted is left to
chance, one in `SEALS_A_COUNT`, each for that many: so there is nothing to count for an event, to
lose in a crash, or to write for a batch, and the count is true to within a hundredth of the limit.

Here a subject goes by its number, `SubjectId.int`, wherever many are looked up: Python hashes and
compares a UUID in Python, and that took half the time of finding a thousand keys.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.errors import SubjectErased, Unavailable
from domain.identity import SubjectId, log_partition
from infra.keys.key_encryption import KEY_BYTES, KeyEncryptionKey, WrongKeyEncryptionKey
from infra.keys.month_keys import MonthKeys
from infra.keys.rotation import MOVE_GENERATION, KeyRotation
from infra.keys.subject_key import Sampler, SubjectKey
from projections.kernel import pg_arrays
from projections.kernel.pg_arrays import Column

CACHE_SIZE = 200_000
CACHE_SECONDS = 300.0
ALL_PARTITIONS = list(range(256))
SEALS_A_COUNT = 1 << 16
SEALS_A_VERSION = 1 << 30
"""After which a subject's key gets a new version: a quarter of what it may seal. The rest is for
messages that are sealed twice, when an append is tried again, and for keys in caches."""

SELECT_KEYS = """
SELECT k.subject, k.version, k.key_encryption_key, k.wrapped FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
ORDER BY k.subject, k.version"""

# A key-encryption key cannot retire while keys are made under it, nor have any after that.
INSERT_KEYS = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys WHERE id = %b AND state <> 'retired' FOR SHARE)
INSERT INTO keys.subject_keys
       (log_partition, subject, version, state, key_encryption_key, wrapped, fingerprint)
SELECT p, s, %b, 'active', under.id, w, f
FROM under, unnest(%b::smallint[], %b::uuid[], %b::bytea[], %b::bytea[]) AS v(p, s, w, f)
ON CONFLICT DO NOTHING RETURNING subject"""

ERASED_BY = """
SELECT e.subject, e.request FROM keys.erasures e
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON e.log_partition = w.p AND e.subject = w.s"""

INSERT_DEPLOYMENT_KEY = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys WHERE id = %s AND state <> 'retired' FOR SHARE)
INSERT INTO keys.secrets (name, key_encryption_key, wrapped)
SELECT %s, under.id, %s FROM under ON CONFLICT DO NOTHING"""

SELECT_DEPLOYMENT_KEY = "SELECT key_encryption_key, wrapped FROM keys.secrets WHERE name = %s"

COUNT_SEALS = """
UPDATE keys.subject_keys SET seals = seals + %b
WHERE log_partition = %b AND subject = %b AND version = %b AND state = 'active'
RETURNING seals"""

# The first version stands for all: a destruction waits for it, or is waited for. Merges do not.
HOLD_KEY = """
SELECT FROM keys.subject_keys
WHERE log_partition = %b AND subject = %b AND version = 1 AND state = 'active'
FOR NO KEY UPDATE"""

# A destruction waits for it, or is waited for; many merges hold the same keys at once.
SHARE_KEYS = """
SELECT k.state FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
WHERE k.log_partition = ANY(%b)
ORDER BY k.log_partition, k.subject, k.version FOR KEY SHARE OF k"""

DESTROY_KEYS = """
UPDATE keys.subject_keys
SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE log_partition = ANY(%b) AND subject = ANY(%b) AND state = 'active'"""

# A subject without a key gets its tombstone too: a retried request cannot make one afterwards.
BURY_KEYS = """
INSERT INTO keys.subject_keys
       (log_partition, subject, version, state, key_encryption_key, destroyed_at)
SELECT p, s, 1, 'destroyed', %b, now() FROM unnest(%b::smallint[], %b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

DESTROYED = """
SELECT DISTINCT k.subject FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
WHERE k.state = 'destroyed'"""

HAS_VERSION = """
SELECT FROM keys.subject_keys WHERE log_partition = %b AND subject = %b AND version = %b"""

# Of subjects that have a tombstone, or an erasure on record, and yet a key that is active: what a
# backup of the keys brings back that was merged into newer ones.
REVIVED = """
SELECT DISTINCT a.log_partition, a.subject FROM keys.subject_keys a
JOIN (SELECT log_partition, subject FROM keys.subject_keys WHERE state = 'destroyed'
      UNION SELECT log_partition, subject FROM keys.erasures) d
  ON d.log_partition = a.log_partition AND d.subject = a.subject
WHERE a.state = 'active' ORDER BY 1, 2"""

DELETE_LOOKUPS = "DELETE FROM keys.identities WHERE log_partition = ANY(%b) AND subject = ANY(%b)"

UNFINISHED_ERASURES = """
SELECT subject, kind FROM keys.erasures WHERE completed_at IS NULL ORDER BY requested_at"""

RECORD_ERASURES = """
INSERT INTO keys.erasures (log_partition, subject, kind, requested_by, reason, request)
SELECT p, s, %b, %b, %b, %b FROM unnest(%b::smallint[], %b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

COMPLETE_ERASURES = """
UPDATE keys.erasures e SET completed_at = now(), position = w.position
FROM unnest(%b::smallint[], %b::uuid[], %b::bigint[]) AS w(p, s, position)
WHERE e.log_partition = w.p AND e.subject = w.s AND e.log_partition = ANY(%b)
  AND e.completed_at IS NULL"""

# Before the look-ups go: whoever has them may not come back.
SUPPRESS = """
INSERT INTO keys.suppressed AS s (log_partition, lookup, request)
SELECT log_partition, lookup, %b FROM keys.identities
WHERE log_partition = ANY(%b) AND subject = ANY(%b)
ORDER BY log_partition, lookup
ON CONFLICT (log_partition, lookup) DO UPDATE
SET request = excluded.request, suppressed_at = now(), lifted_at = NULL, lifted_by = NULL"""

# Whoever destroys keys or forbids it takes their rows first: one of the two comes after the other.
LOCK_KEYS = """
SELECT FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
WHERE k.log_partition = ANY(%b)
ORDER BY k.log_partition, k.subject, k.version FOR UPDATE OF k"""


log = structlog.get_logger()


class KeyRing:
    """The keys of all subjects: made, fetched in bulk, cached for a while, destroyed."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self.periods = MonthKeys(pool, wrapping)
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, SubjectKey] = OrderedDict()
        self._generation = -1
        self._sampler = Sampler(SEALS_A_COUNT)

    def secret(self, name: str) -> bytes:
        """A secret of the deployment (such as the look-up key), made on first use.

        Raises:
            WrongKeyEncryptionKey: it is wrapped under a key-encryption key that is not at hand.
        """
        while True:
            with self._pool.connection() as conn:
                row = conn.execute(SELECT_DEPLOYMENT_KEY, (name,)).fetchone()
                if row is None:
                    key = self._wrapping.current
                    [wrapped] = key.wrap([os.urandom(KEY_BYTES)])
                    conn.execute(INSERT_DEPLOYMENT_KEY, (key.id, name, wrapped))
                    row = conn.execute(SELECT_DEPLOYMENT_KEY, (name,)).fetchone()
            if row is not None:
                return self._wrapping.unwrap([row])[0]
            self._wrapping.reload()  # the key-encryption key has retired

    def generation(self) -> int:
        """The number of destructions so far, from the database."""
        with self._pool.connection() as conn:
            row = conn.execute("SELECT value FROM keys.generation").fetchone()
        assert row is not None
        return int(row[0])

    def refresh(self) -> int:
        """Drops what is cached if a key was destroyed anywhere since; returns the generation.

        To be called at the start of each piece of work that uses keys."""
        generation = self.generation()
        with self._lock:
            has_moved = generation != self._generation
            if has_moved:
                self._cache.clear()
                self.periods.forget()
                self._generation = generation
        if has_moved:
            try:
                self._wrapping.reload()
            except WrongKeyEncryptionKey as error:
                raise _out_of_reach(error) from None
        return generation

    def fetch(self, subjects: Iterable[int]) -> dict[int, SubjectKey]:
        """The active keys of `subjects`; those without one, or with a destroyed one, are absent.

        Raises:
            Unavailable: the key-encryption key is out of reach.
        """
        now = time.monotonic()
        found: dict[int, SubjectKey] = {}
        missing: dict[int, None] = {}
        with self._lock:
            generation, cached = self._generation, self._cache.get
            for subject in subjects:
                key = cached(subject)
                if key is not None and key.kept_until > now:
                    found[subject] = key
                else:
                    missing[subject] = None
        if missing:
            loaded = self._load(list(missing))
            found |= loaded
            self._keep(loaded, generation)
        return found

    def fetch_anew(self, subjects: AbstractSet[int]) -> dict[int, SubjectKey]:
        """As `fetch`, with all versions that there are now, whatever is cached."""
        with self._lock:
            for subject in subjects:
                self._cache.pop(subject, None)
        return self.fetch(subjects)

    def erased_by(self, subjects: Iterable[SubjectId]) -> dict[SubjectId, uuid.UUID | None]:
        """See `erased_by`."""
        with self._pool.connection() as conn:
            return erased_by(conn, subjects)

    def fetch_or_make(self, subjects: AbstractSet[int]) -> dict[int, SubjectKey]:
        """The active keys of all `subjects`, made where there was none.

        Raises:
            SubjectErased: one of the keys was destroyed.
            Unavailable: the key-encryption key is out of reach.
        """
        found = self.fetch(subjects)
        while len(found) < len(subjects):
            under = self._wrapping.current
            missing = [subject for subject in subjects if subject not in found]
            with self._pool.connection() as conn:
                made = self.make_within(conn, missing, under)
            found |= made()
            found |= self.fetch([subject for subject in missing if subject not in found])
            if len(found) < len(subjects) and under.id == self._wrapping_now():
                raise SubjectErased("the subject has been erased")
        return found

    def fetch_periods(self, months: AbstractSet[int]) -> dict[int, bytes]:
        """See `MonthKeys.fetch`. Raises: Unavailable: as `fetch`."""
        try:
            return self.periods.fetch(months)
        except WrongKeyEncryptionKey as error:
            raise _out_of_reach(error) from None

    def fetch_or_make_periods(self, months: AbstractSet[int]) -> dict[int, bytes]:
        """See `MonthKeys.fetch_or_make`. Raises: PeriodOver. Unavailable: as `fetch`."""
        try:
            return self.periods.fetch_or_make(months)
        except WrongKeyEncryptionKey as error:
            raise _out_of_reach(error) from None

    def _load(self, subjects: Sequence[int]) -> dict[int, SubjectKey]:
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_KEYS, _placed(subjects), binary=True).fetchall()
        destroyed = {subject for subject, _, _, wrapped in rows if wrapped is None}
        active = [row for row in rows if row[0] not in destroyed] if destroyed else rows
        try:
            materials = self._wrapping.unwrap([(under, wrapped) for _, _, under, wrapped in active])
        except WrongKeyEncryptionKey as error:
            raise _out_of_reach(error) from None
        keys: dict[int, SubjectKey] = {}
        kept_until = time.monotonic() + CACHE_SECONDS
        for (subject, version, _, _), material in zip(active, materials, strict=True):
            number = subject.int
            keys[number] = SubjectKey(version, material, kept_until, keys.get(number))
        return keys

    def make_within(
        self,
        conn: psycopg.Connection,
        subjects: Sequence[int],
        under: KeyEncryptionKey | None = None,
    ) -> Callable[[], dict[int, SubjectKey]]:
        """Makes keys in the caller's transaction, where there were none; what is returned is for
        when this has ended well: it has the keys at hand, and says which they are.

        Args:
            under: the key-encryption key that wraps them; none are made if it has retired. None:
                the current one.

        Raises:
            Unavailable: the key-encryption key is out of reach.
        """
        materials = [os.urandom(KEY_BYTES) for _ in subjects]
        generation = self._generation
        new = new_keys(under or self._wrapping.current, subjects, 1, materials)
        stored = conn.execute(INSERT_KEYS, new, binary=True)

        def made() -> dict[int, SubjectKey]:
            are_stored = {id.int for (id,) in stored}
            kept_until = time.monotonic() + CACHE_SECONDS
            keys = {
                subject: SubjectKey(1, material, kept_until)
                for subject, material in zip(subjects, materials, strict=True)
                if subject in are_stored
            }
            self._keep(keys, generation)
            return keys

        return made

    def _wrapping_now(self) -> str:
        """The id of the key-encryption key that is current, from the database."""
        try:
            self._wrapping.reload()
        except WrongKeyEncryptionKey as error:
            raise _out_of_reach(error) from None
        return self._wrapping.current.id

    def drawn(self, seals: int) -> list[int]:
        """Which of the next so many seals are to be counted: see `count`."""
        return self._sampler.draw(seals)

    def count(self, subject: int, version: int) -> None:
        """Counts `SEALS_A_COUNT` seals under a version of a key; where these were enough for it,
        the subject gets the next version."""
        place = (log_partition(uuid.UUID(int=subject)), uuid.UUID(int=subject))
        with self._pool.connection() as conn:
            row = conn.execute(COUNT_SEALS, (SEALS_A_COUNT, *place, version)).fetchone()
        if row is None or row[0] < SEALS_A_VERSION:
            return
        while not self._add_version(place, version + 1):
            self._wrapping_now()

    def _add_version(self, place: tuple[int, uuid.UUID], version: int) -> bool:
        """Whether that is settled: the subject has the version, or its key is destroyed."""
        new = new_keys(self._wrapping.current, [place[1].int], version, [os.urandom(KEY_BYTES)])
        with self._pool.connection() as conn, conn.transaction():
            if conn.execute(HOLD_KEY, place).fetchone() is None:
                return True
            conn.execute(INSERT_KEYS, new)
            return conn.execute(HAS_VERSION, (*place, version)).fetchone() is not None

    def _keep(self, keys: dict[int, SubjectKey], generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # a key may have been destroyed between the look and now
            for subject, key in keys.items():
                self._cache[subject] = key
                self._cache.move_to_end(subject)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)

    @contextmanager
    def kept(self, subjects: Iterable[SubjectId]) -> Iterator[None]:
        """Keeps the keys of subjects, which have been made, from being destroyed while in use.

        Raises:
            SubjectErased: one is destroyed.
        """
        asked = list(subjects)
        partitions = [log_partition(one) for one in asked]
        with self._pool.connection() as conn, conn.transaction():
            states = conn.execute(SHARE_KEYS, (partitions, asked, partitions), binary=True)
            if any(state != "active" for (state,) in states):
                raise SubjectErased("the subject has been erased")
            yield

    def destroy(
        self,
        subjects: Sequence[SubjectId],
        *,
        kind: str,
        requested_by: str,
        reason: str,
        request: uuid.UUID,
    ) -> None:
        """Destroys keys in a transaction of its own: see `destroy_within`."""
        with self._pool.connection() as conn, conn.transaction():
            self.destroy_within(
                conn,
                subjects,
                kind=kind,
                requested_by=requested_by,
                reason=reason,
                request=request,
            )
        self.refresh()

    def destroy_within(
        self,
        conn: psycopg.Connection,
        subjects: Sequence[SubjectId],
        *,
        kind: str,
        requested_by: str,
        reason: str,
        request: uuid.UUID | None = None,
        suppress: bool = False,
    ) -> None:
        """Destroys the keys and look-ups of subjects in the caller's transaction, after whose end
        `refresh` drops what this process has cached.

        Args:
            request: the erasure request that wants it.
            suppress: whether the identities are refused from now on; needs a request.
        """
        placed = sorted((log_partition(one), one.bytes, one) for one in set(subjects))
        asked = ([one[0] for one in placed], [one[2] for one in placed])
        lock_keys(conn, asked[1])
        conn.execute(RECORD_ERASURES, (kind, requested_by, reason, request, *asked))
        self._destroy(conn, asked, suppress_for=request if suppress else None)

    def destroy_again(self) -> int:
        """Destroys the keys of subjects that are on record as erased, and yet have one: a backup
        has brought it back. Says how many they were; to be called before anything is served."""
        with self._pool.connection() as conn, conn.transaction():
            revived = conn.execute(REVIVED, binary=True).fetchall()
            if revived:
                partitions, subjects = (list(column) for column in zip(*revived, strict=True))
                self._destroy(conn, (partitions, subjects))
        if revived:
            log.warning("keys.destroyed_again", subjects=len(revived))
        self.periods.destroy_again()
        return len(revived)

    def _destroy(
        self,
        conn: psycopg.Connection,
        asked: tuple[list[int], list[SubjectId]],
        suppress_for: uuid.UUID | None = None,
    ) -> None:
        # In this order: burying waits for a key that is just being made, and destroying for a new
        # version of one, which only the statement after it sees.
        conn.execute(BURY_KEYS, (self._wrapping.current.id, *asked))
        conn.execute(DESTROY_KEYS, asked)
        conn.execute(DESTROY_KEYS, asked)
        if suppress_for is not None:
            conn.execute(SUPPRESS, (suppress_for, ALL_PARTITIONS, asked[1]))
        conn.execute(DELETE_LOOKUPS, (ALL_PARTITIONS, asked[1]))
        conn.execute(MOVE_GENERATION)

    def free_identities(self, subjects: Iterable[SubjectId]) -> None:
        """Deletes the look-ups of those of the subjects whose key is destroyed."""
        asked = list(subjects)
        with self._pool.connection() as conn:
            found = conn.execute(
                DESTROYED, ([log_partition(subject) for subject in asked], asked), binary=True
            ).fetchall()
            if found:
                conn.execute(DELETE_LOOKUPS, (ALL_PARTITIONS, [row[0] for row in found]))

    def unfinished_erasures(self) -> list[tuple[SubjectId, str]]:
        """Subjects whose key is destroyed while the log does not say so yet."""
        with self._pool.connection() as conn:
            return list(conn.execute(UNFINISHED_ERASURES).fetchall())

    def complete_erasures(self, places: Mapping[SubjectId, int]) -> None:
        """Notes that the log says so, and at which position of each subject's partition."""
        partitions = [log_partition(subject) for subject in places]
        with self._pool.connection() as conn:
            conn.execute(
                COMPLETE_ERASURES, (partitions, list(places), list(places.values()), partitions)
            )


def erased_by(
    conn: psycopg.Connection, subjects: Iterable[SubjectId]
) -> dict[SubjectId, uuid.UUID | None]:
    """Those of the subjects that are erased, each with the request that did it, if one did."""
    asked = list(subjects)
    rows = conn.execute(ERASED_BY, ([log_partition(one) for one in asked], asked), binary=True)
    return {SubjectId(subject): request for subject, request in rows}


def lock_keys(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
    """Keeps the keys of subjects from being destroyed, and holds from being placed on them, until
    the caller's transaction ends."""
    partitions = [log_partition(one) for one in subjects]
    conn.execute(LOCK_KEYS, (partitions, list(subjects), partitions))


def _out_of_reach(error: WrongKeyEncryptionKey) -> Unavailable:
    log.error("keys.out_of_reach", reason=str(error))
    return Unavailable("the keys are out of reach; the operator's log says why")


def new_keys(
    under: KeyEncryptionKey, subjects: Sequence[int], version: int, materials: Sequence[bytes]
) -> tuple[str, int, *tuple[Column, ...]]:
    """What `INSERT_KEYS` takes. Raises: Unavailable: the key-encryption key is out of reach."""
    try:
        wrapped = under.wrap(materials)
    except WrongKeyEncryptionKey as error:
        raise _out_of_reach(error) from None
    fingerprints = [hashlib.sha256(material).digest()[:8] for material in materials]
    columns = (*_placed(subjects), pg_arrays.byteas(wrapped), pg_arrays.byteas(fingerprints))
    return (under.id, version, *columns)


def _placed(subjects: Sequence[int]) -> tuple[Column, Column]:
    """As `arrays.placed`."""
    return pg_arrays.placed_ids([subject.to_bytes(16) for subject in subjects])
