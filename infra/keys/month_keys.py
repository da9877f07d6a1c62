"""Keys of months: a random secret for each calendar month of tracked activity.

Tracked activity is sealed under a key that is derived from its subject's key and from the secret of
the month in which it occurred. So the destruction of either ends it: the subject's key ends all
activity of the subject, the month's secret all activity of the month, of all subjects, with one
row.

The runs of retention say which months are over; those never get a secret again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import msgspec
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.definitions.retention import ALWAYS, Counts, RetentionBounds, first_of, first_whole_day
from domain.errors import PeriodOver
from infra.keys.key_encryption import KEY_BYTES, WrongKeyEncryptionKey
from infra.keys.rotation import KeyRotation, out_of_reach

SELECT_SECRETS = """
SELECT period, key_encryption_key, wrapped FROM keys.period_keys
WHERE period = ANY(%(months)s) AND state = 'active'"""

# A run of retention takes the row before it ends months: a writer that takes it later sees that
# they are over.
HOLD_GENERATION = "SELECT FROM keys.generation FOR SHARE"

INSERT_SECRETS = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys
    WHERE id = %(under)b AND state <> 'retired' FOR SHARE)
INSERT INTO keys.period_keys (period, state, key_encryption_key, wrapped, fingerprint)
SELECT p, 'active', under.id, w, f
FROM under, unnest(%(months)b::date[], %(wrapped)b::bytea[], %(fingerprints)b::bytea[])
            AS v(p, w, f)
WHERE NOT EXISTS (SELECT FROM keys.retention_runs r WHERE v.p < r.ends)
ON CONFLICT DO NOTHING"""

SELECT_ENDS = """
SELECT (SELECT max(ends) FROM keys.retention_runs WHERE destroyed_at IS NOT NULL),
       (SELECT max(ends) FROM keys.retention_runs
        WHERE destroyed_at IS NOT NULL AND counts = %(dropped)s),
       (SELECT ends FROM keys.retention_runs WHERE destroyed_at IS NULL),
       (SELECT lines FROM keys.retention_runs WHERE destroyed_at IS NULL)"""

DESTROY_PERIODS = """
UPDATE keys.period_keys SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE state = 'active' AND period < %s"""

# A secret that is active although its month is over: a backup of the keys brought it back.
DESTROY_REVIVED = """
UPDATE keys.period_keys p SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE state = 'active' AND EXISTS (
    SELECT FROM keys.retention_runs r WHERE r.destroyed_at IS NOT NULL AND p.period < r.ends)"""

log = structlog.get_logger()


class _Cache(msgspec.Struct):
    """Values read since the last destruction. It is dropped whole: a thread that read before a
    destruction writes into the dropped cache."""

    bounds: RetentionBounds | None = None
    secrets: dict[int, bytes] = msgspec.field(default_factory=dict)


class MonthKeys:
    """Thread-safe; one instance per process, in its key ring."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self._cache = _Cache()

    def forget(self) -> None:
        """Drops the cache: some process destroyed a key or a secret."""
        self._cache = _Cache()

    def retention_bounds(self) -> RetentionBounds:
        """Returns the bounds of the tracked activity that is still kept."""
        cache = self._cache
        if cache.bounds is None:
            with self._pool.connection() as conn:
                cache.bounds = _bounds(conn)
        return cache.bounds

    def fetch(self, months: Iterable[int]) -> dict[int, bytes]:
        """The secrets of months, by `domain.definitions.retention.month_of`; months without a
        secret, or whose secret is destroyed, are absent.

        Raises:
            Unavailable: the key-encryption key is out of reach.
        """
        secrets = self._cache.secrets
        wanted = set(months)
        missing = wanted - secrets.keys()
        if missing:
            days = {first_of(month): month for month in missing}
            with self._pool.connection() as conn:
                rows = conn.execute(SELECT_SECRETS, {"months": list(days)}).fetchall()
            try:
                unwrapped = self._wrapping.unwrap([(under, wrapped) for _, under, wrapped in rows])
            except WrongKeyEncryptionKey as error:
                raise out_of_reach(error) from None
            for (day, _, _), secret in zip(rows, unwrapped, strict=True):
                secrets[days[day]] = secret
        return {month: secrets[month] for month in wanted if month in secrets}

    def fetch_or_make(self, months: Iterable[int]) -> dict[int, bytes]:
        """The secrets of months; makes those that never were.

        Raises:
            PeriodOver: one of the months is over.
            Unavailable: the key-encryption key is out of reach.
        """
        wanted = set(months)
        secrets = self.fetch(wanted)
        while len(secrets) < len(wanted):
            under = self._make(sorted(wanted - secrets.keys()))
            secrets |= self.fetch(wanted - secrets.keys())
            if len(secrets) < len(wanted) and under == self._wrapping.current_from_database().id:
                raise PeriodOver("this is older than the activity that is kept")
        return secrets

    def _make(self, months: list[int]) -> str:
        """Makes secrets, except for months that are over. Makes none if the key-encryption key
        has retired.

        Returns:
            The id of the key-encryption key.
        """
        under = self._wrapping.current
        secrets = [os.urandom(KEY_BYTES) for _ in months]
        try:
            wrapped = under.wrap(secrets)
        except WrongKeyEncryptionKey as error:
            raise out_of_reach(error) from None
        params = {
            "under": under.id,
            "months": [first_of(month) for month in months],
            "wrapped": wrapped,
            "fingerprints": [hashlib.sha256(secret).digest()[:8] for secret in secrets],
        }
        with self._pool.connection() as conn, conn.transaction():
            conn.execute(HOLD_GENERATION)
            conn.execute(INSERT_SECRETS, params)
        return under.id

    def destroy_revived(self) -> int:
        """Destroys the secrets that a backup brought back after their months were over. Every
        start calls this before it serves anything.

        Returns:
            The number of months.
        """
        with self._pool.connection() as conn:
            months = conn.execute(DESTROY_REVIVED).rowcount
        if months:
            log.warning("keys.periods_destroyed_again", periods=months)
            self.forget()
        return months


def _bounds(conn: psycopg.Connection) -> RetentionBounds:
    row = conn.execute(SELECT_ENDS, {"dropped": Counts.DROP.value}).fetchone()
    assert row is not None
    over, dropped, ends, lines = row
    since = over or ALWAYS
    return RetentionBounds(
        since, ends or since, tuple(lines or ()), first_whole_day(dropped or ALWAYS)
    )
