"""Subject keys: fetched in bulk, made on demand, cached for a while.

A subject has one key, wrapped by a key-encryption key. It is never made, active or destroyed.
Destroyed is a tombstone (`infra.keys.tombstones`): making a key on demand neither revives nor
replaces it. A generation number drops the cache of every process: each destruction moves it, and
each piece of work reads it first.

A key may seal 2^32 messages (AES-GCM, random nonces). Long before, the subject gets a new version
(`infra.keys.key_versions`); all versions open, and all are destroyed together.

Where many subjects are looked up, a subject is identified by its number, `SubjectId.int`: Python
hashes and compares UUIDs in Python code, which took half the time of finding a thousand keys.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

import psycopg
from psycopg_pool import ConnectionPool

from domain.errors import SubjectErased
from infra.keys.key_encryption import KEY_BYTES, KeyEncryptionKey, WrongKeyEncryptionKey
from infra.keys.key_versions import INSERT_KEYS, KeyVersions, new_keys
from infra.keys.month_keys import MonthKeys
from infra.keys.rotation import KeyRotation, out_of_reach
from infra.keys.subject_key import SubjectKey
from projections.kernel import pg_arrays

CACHE_SIZE = 200_000
CACHE_SECONDS = 300.0

SELECT_GENERATION = "SELECT value FROM keys.generation"

SELECT_KEYS = """
SELECT k.subject, k.version, k.key_encryption_key, k.wrapped FROM keys.subject_keys k
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON k.log_partition = w.p AND k.subject = w.s
ORDER BY k.subject, k.version"""


class KeyRing:
    """Thread-safe; one instance per process.

    Attributes:
        versions: counts the seals of keys.
        months: the secrets of months of activity; their cache is dropped with that of the keys.
    """

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self.versions = KeyVersions(pool, wrapping)
        self.months = MonthKeys(pool, wrapping)
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, SubjectKey] = OrderedDict()
        self._generation = -1

    def generation(self) -> int:
        """The number of destructions so far, from the database."""
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_GENERATION).fetchone()
        assert row is not None
        return int(row[0])

    def refresh(self) -> int:
        """Drops the cache if any process destroyed a key since the last call. Each piece of work
        that uses keys calls this first.

        Returns:
            The generation.

        Raises:
            Unavailable: the key-encryption key is out of reach.
        """
        generation = self.generation()
        with self._lock:
            has_moved = generation != self._generation
            if has_moved:
                self._cache.clear()
                self.months.forget()
                self._generation = generation
        if has_moved:
            self._wrapping.current_from_database()
        return generation

    def fetch(self, subjects: Iterable[int]) -> dict[int, SubjectKey]:
        """The active keys of `subjects`; subjects without a key, or with a destroyed one, are
        absent.

        Raises:
            Unavailable: the key-encryption key is out of reach.
        """
        now = time.monotonic()
        keys: dict[int, SubjectKey] = {}
        missing: dict[int, None] = {}
        with self._lock:
            generation, cached = self._generation, self._cache.get
            for subject in subjects:
                key = cached(subject)
                if key is not None and key.kept_until > now:
                    keys[subject] = key
                else:
                    missing[subject] = None
        if missing:
            loaded = self._load(list(missing))
            keys |= loaded
            self._cache_all(loaded, generation)
        return keys

    def fetch_anew(self, subjects: AbstractSet[int]) -> dict[int, SubjectKey]:
        """As `fetch`, from the database: with the versions that other processes made."""
        with self._lock:
            for subject in subjects:
                self._cache.pop(subject, None)
        return self.fetch(subjects)

    def fetch_or_make(self, subjects: AbstractSet[int]) -> dict[int, SubjectKey]:
        """The active keys of all `subjects`; makes those that never were.

        Raises:
            SubjectErased: one of the keys was destroyed.
            Unavailable: the key-encryption key is out of reach.
        """
        keys = self.fetch(subjects)
        while len(keys) < len(subjects):
            under = self._wrapping.current
            missing = [subject for subject in subjects if subject not in keys]
            with self._pool.connection() as conn:
                made = self.make_within(conn, missing, under)
            keys |= made()
            keys |= self.fetch([subject for subject in missing if subject not in keys])
            if len(keys) < len(subjects) and under.id == self._wrapping.current_from_database().id:
                raise SubjectErased("the subject has been erased")
        return keys

    def make_within(
        self,
        conn: psycopg.Connection,
        subjects: Sequence[int],
        under: KeyEncryptionKey | None = None,
    ) -> Callable[[], dict[int, SubjectKey]]:
        """Makes the keys that never were, in the caller's transaction.

        Args:
            under: the key-encryption key that wraps them; makes none if it has retired. None: the
                current key-encryption key.

        Returns: A function to call after the commit: caches the new keys and returns them.

        Raises:
            Unavailable: the key-encryption key is out of reach.
        """
        materials = [os.urandom(KEY_BYTES) for _ in subjects]
        generation = self._generation
        new = new_keys(under or self._wrapping.current, subjects, 1, materials)
        inserted = conn.execute(INSERT_KEYS, new, binary=True)

        def made() -> dict[int, SubjectKey]:
            stored = {id.int for (id,) in inserted}
            kept_until = time.monotonic() + CACHE_SECONDS
            keys = {
                subject: SubjectKey(1, material, kept_until)
                for subject, material in zip(subjects, materials, strict=True)
                if subject in stored
            }
            self._cache_all(keys, generation)
            return keys

        return made

    def _load(self, subjects: Sequence[int]) -> dict[int, SubjectKey]:
        partitions, ids = pg_arrays.placed_ids([subject.to_bytes(16) for subject in subjects])
        params = {"partitions": partitions, "subjects": ids}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_KEYS, params, binary=True).fetchall()
        destroyed = {subject for subject, _, _, wrapped in rows if wrapped is None}
        active = [row for row in rows if row[0] not in destroyed] if destroyed else rows
        try:
            materials = self._wrapping.unwrap([(under, wrapped) for _, _, under, wrapped in active])
        except WrongKeyEncryptionKey as error:
            raise out_of_reach(error) from None
        keys: dict[int, SubjectKey] = {}
        kept_until = time.monotonic() + CACHE_SECONDS
        for (subject, version, _, _), material in zip(active, materials, strict=True):
            number = subject.int
            keys[number] = SubjectKey(version, material, kept_until, keys.get(number))
        return keys

    def _cache_all(self, keys: dict[int, SubjectKey], generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # one of the keys may have been destroyed after it was read
            for subject, key in keys.items():
                self._cache[subject] = key
                self._cache.move_to_end(subject)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
