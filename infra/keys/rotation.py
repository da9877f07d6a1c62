"""Under which key-encryption keys the database's keys are wrapped, and how they move to a new one.

One key-encryption key is current: new keys are wrapped under it. From the beginning of a rotation
to its end, others are retiring: they still open what is not re-wrapped yet. A key's row names the
one that it is under, so both open all the time, in every process; which one is current is read
again whenever the generation of the keys moved. Events are not touched.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.errors import Unavailable
from domain.identity import LOG_PARTITIONS
from infra.keys.key_encryption import KeyEncryptionKey, KeySource, WrongKeyEncryptionKey

ROWS_A_BATCH = 1_000
LOWEST = UUID(int=0)

ALL = "SELECT id, state FROM keys.key_encryption_keys"

BEGIN = """
INSERT INTO keys.key_encryption_keys (id, state) VALUES (%s, 'current') ON CONFLICT DO NOTHING"""

# A backup of the keys from before there was this table says it by its secrets.
ADOPT = """
INSERT INTO keys.key_encryption_keys (id, state)
SELECT key_encryption_key, CASE place WHEN 1 THEN 'current' ELSE 'retiring' END
FROM (SELECT key_encryption_key, row_number() OVER (ORDER BY count(*) DESC) AS place
      FROM keys.secrets GROUP BY key_encryption_key) s
WHERE NOT EXISTS (SELECT FROM keys.key_encryption_keys)
ON CONFLICT DO NOTHING"""

HAS_KEYS = "SELECT EXISTS (SELECT FROM keys.subject_keys)"

SAMPLE = "SELECT wrapped FROM keys.secrets WHERE key_encryption_key = %s LIMIT 1"

RETIRE_CURRENT = "UPDATE keys.key_encryption_keys SET state = 'retiring' WHERE state = 'current'"

MOVE_GENERATION = "UPDATE keys.generation SET value = value + 1"

OUTSTANDING = """
SELECT (SELECT count(*) FROM keys.subject_keys WHERE state = 'active' AND key_encryption_key <> %s)
     + (SELECT count(*) FROM keys.period_keys WHERE state = 'active' AND key_encryption_key <> %s)
     + (SELECT count(*) FROM keys.secrets WHERE key_encryption_key <> %s)"""

SELECT_OUTSTANDING = """
SELECT subject, version, key_encryption_key, wrapped FROM keys.subject_keys
WHERE log_partition = %b AND (subject, version) > (%b::uuid, %b::smallint)
  AND state = 'active' AND key_encryption_key <> %b
ORDER BY subject, version LIMIT %b"""

# Never waits for a row: an erasure and a rotation cannot stand in each other's way. What was
# erased since it was read, or re-wrapped by another rotation, stays as it is.
REWRAP = """
WITH free AS (
    SELECT k.subject, k.version, v.after FROM keys.subject_keys k
    JOIN unnest(%b::uuid[], %b::smallint[], %b::bytea[], %b::bytea[])
         AS v(subject, version, before, after)
      ON k.subject = v.subject AND k.version = v.version AND k.wrapped = v.before
    WHERE k.log_partition = %b FOR UPDATE OF k SKIP LOCKED)
UPDATE keys.subject_keys k SET wrapped = free.after, key_encryption_key = %b
FROM free WHERE k.log_partition = %b AND k.subject = free.subject AND k.version = free.version"""

SELECT_DEPLOYMENT_KEYS = (
    "SELECT name, key_encryption_key, wrapped FROM keys.secrets WHERE %s <> key_encryption_key"
)

CHANGE_DEPLOYMENT_KEY = """
UPDATE keys.secrets SET wrapped = %s, key_encryption_key = %s WHERE name = %s AND wrapped = %s"""

SELECT_PERIOD_KEYS = """
SELECT period, key_encryption_key, wrapped FROM keys.period_keys
WHERE state = 'active' AND %s <> key_encryption_key"""

CHANGE_PERIOD_KEY = """
UPDATE keys.period_keys SET wrapped = %s, key_encryption_key = %s
WHERE period = %s AND wrapped = %s"""

RETIRE = """
UPDATE keys.key_encryption_keys SET state = 'retired', retired_at = now()
WHERE state = 'retiring' RETURNING id"""

STILL_USED = """
SELECT EXISTS (SELECT FROM keys.subject_keys
               WHERE state = 'active' AND key_encryption_key = ANY(%s))
    OR EXISTS (SELECT FROM keys.period_keys
               WHERE state = 'active' AND key_encryption_key = ANY(%s))
    OR EXISTS (SELECT FROM keys.secrets WHERE key_encryption_key = ANY(%s))"""

log = structlog.get_logger()


class KeyRotation:
    """One for each process; safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, sources: Sequence[KeySource]) -> None:
        """`sources` are looked through in their order; a rotation moves to a key of the first."""
        self._pool = pool
        self._sources = sources
        self._lock = threading.Lock()
        self._found: dict[str, KeyEncryptionKey] = {}
        self._current: KeyEncryptionKey | None = None

    @property
    def current(self) -> KeyEncryptionKey:
        """Under which new keys are wrapped."""
        assert self._current is not None, "open() comes first"
        return self._current

    def open(self, *, is_new: bool) -> None:
        """Finds every key-encryption key that the database needs and tries it. Only where
        `is_new`, and the database holds no key, a first one is taken or made.

        Raises:
            WrongKeyEncryptionKey: one is missing or does not open; names it.
        """
        with self._pool.connection() as conn:
            conn.execute(ADOPT)
            needed = self._needed(conn)
            if not needed:
                row = conn.execute(HAS_KEYS).fetchone()
                if not is_new or row is None or row[0]:
                    raise WrongKeyEncryptionKey(
                        "the database holds events, but not the secrets that belong to them:"
                        " restore the backup of the keys"
                    )
                conn.execute(BEGIN, (self._sources[0].offer(frozenset()).id,))
                needed = self._needed(conn)
            for id in needed:
                key = self._find(id)
                for (wrapped,) in conn.execute(SAMPLE, (id,)).fetchall():
                    key.unwrap([wrapped])
                if needed[id] == "current":
                    self._current = key

    def reload(self) -> None:
        """Takes the key-encryption key that is current now, if it is at hand; while the one
        before it has not retired, that one will do."""
        with self._pool.connection() as conn:
            needed = self._needed(conn)
        [id] = (id for id, state in needed.items() if state == "current")
        if id == self.current.id:
            return
        try:
            self._current = self._find(id)
        except WrongKeyEncryptionKey as error:
            log.error("keys.rotation_cannot_be_followed", reason=str(error))
            if self.current.id not in needed:
                raise

    def current_from_database(self) -> KeyEncryptionKey:
        """The key-encryption key that is current now.

        Raises:
            Unavailable: it is out of reach.
        """
        try:
            self.reload()
        except WrongKeyEncryptionKey as error:
            raise out_of_reach(error) from None
        return self.current

    def unwrap(self, wrapped: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Keys, each given with the id of the key-encryption key that it is under.

        Raises:
            WrongKeyEncryptionKey: one of those is missing, or does not open.
        """
        opened: list[bytes] = [b""] * len(wrapped)
        places: dict[str, list[int]] = {}
        for n, (id, _) in enumerate(wrapped):
            places.setdefault(id, []).append(n)
        for id, these in places.items():
            materials = self._find(id).unwrap([wrapped[n][1] for n in these])
            for n, material in zip(these, materials, strict=True):
                opened[n] = material
        return opened

    @staticmethod
    def _needed(conn: psycopg.Connection) -> dict[str, str]:
        return {id: state for id, state in conn.execute(ALL) if state != "retired"}

    def _find(self, id: str) -> KeyEncryptionKey:
        with self._lock:
            key = self._found.get(id)
        if key is None:
            key = self._look_for(id)
            with self._lock:
                self._found[id] = key
        return key

    def _look_for(self, id: str) -> KeyEncryptionKey:
        reasons: list[str] = []
        for source in self._sources:
            try:
                return source.find(id)
            except WrongKeyEncryptionKey as error:
                reasons.append(str(error))
        raise WrongKeyEncryptionKey(
            f"the database needs key-encryption key {id}: {'; '.join(reasons)}"
        )

    def in_use(self) -> list[str]:
        """The ids of the key-encryption keys that keys may be under."""
        with self._pool.connection() as conn:
            return list(self._needed(conn))

    def prepare(self) -> str:
        """Has a key-encryption key ready for the next rotation; returns its id."""
        with self._pool.connection() as conn:
            known = {id for id, _ in conn.execute(ALL)}
        return self._sources[0].offer(known).id

    def begin_rotation(self) -> str:
        """Makes another key-encryption key the current one, unless a rotation is under way, which
        is then to be gone on with; returns the id of the current one.

        Raises:
            WrongKeyEncryptionKey: no other key is to be had.
        """
        with self._pool.connection() as conn:
            states: dict[str, str] = dict(conn.execute(ALL).fetchall())
            if "retiring" not in states.values():
                key = self._sources[0].offer(states.keys())
                with conn.transaction():
                    conn.execute(MOVE_GENERATION)  # in the way of whoever begins another
                    if dict(conn.execute(ALL).fetchall()) == states:
                        conn.execute(RETIRE_CURRENT)
                        conn.execute(BEGIN, (key.id,))
        self.reload()
        return self.current.id

    def outstanding(self) -> int:
        """How many keys are not under the current key-encryption key."""
        id = self.current.id
        with self._pool.connection() as conn:
            row = conn.execute(OUTSTANDING, (id, id, id)).fetchone()
        return 0 if row is None else int(row[0])

    def rewrap(self) -> Iterator[int]:
        """Passes once over all keys and wraps under the current key-encryption key what is not;
        gives how many, batch by batch. Each batch is kept at once: whoever comes after a kill
        goes on, and any number may do it at the same time."""
        first = secrets.randbelow(LOG_PARTITIONS)
        for n in range(LOG_PARTITIONS):
            yield from self._rewrap_partition((first + n) % LOG_PARTITIONS)
        with self._pool.connection() as conn:
            for select, change in (
                (SELECT_PERIOD_KEYS, CHANGE_PERIOD_KEY),
                (SELECT_DEPLOYMENT_KEYS, CHANGE_DEPLOYMENT_KEY),
            ):
                for name, id, wrapped in conn.execute(select, (self.current.id,)).fetchall():
                    [after] = self.current.wrap(self.unwrap([(id, wrapped)]))
                    yield conn.execute(change, (after, self.current.id, name, wrapped)).rowcount

    def _rewrap_partition(self, partition: int) -> Iterator[int]:
        key = self.current
        subject, version = LOWEST, 0
        while True:
            with self._pool.connection() as conn:
                rows = conn.execute(
                    SELECT_OUTSTANDING,
                    (partition, subject, version, key.id, ROWS_A_BATCH),
                    binary=True,
                ).fetchall()
            if not rows:
                return
            subjects, versions, ids, before = (list(column) for column in zip(*rows, strict=True))
            after = key.wrap(self.unwrap(list(zip(ids, before, strict=True))))
            with self._pool.connection() as conn:
                yield conn.execute(
                    REWRAP, (subjects, versions, before, after, partition, key.id, partition)
                ).rowcount
            subject, version = subjects[-1], versions[-1]

    def end_rotation(self) -> bool:
        """Retires the key-encryption keys before the current one; not while a key is under one."""
        with self._pool.connection() as conn, conn.transaction() as ending:
            # Waits for whoever makes keys under one of them, and lets nobody after this.
            ids = [id for (id,) in conn.execute(RETIRE).fetchall()]
            row = conn.execute(STILL_USED, (ids, ids, ids)).fetchone()
            if row is None or row[0]:
                raise psycopg.Rollback(ending)
            return True
        return False


def out_of_reach(error: WrongKeyEncryptionKey) -> Unavailable:
    """The refusal of what needs keys while the key-encryption key is out of reach; logs why."""
    log.error("keys.out_of_reach", reason=str(error))
    return Unavailable("the keys are out of reach; the operator's log says why")
