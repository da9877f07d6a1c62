"""Notifies watchers of changes that the read models show: one poller for a process.

Twice a second the poller reads how far the read models are and, in one query for all watchers,
which of their subjects the events in between are about. A watcher is notified once a change can be
seen, never before. It gets the change's position, and nothing of its content.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy.exc import SQLAlchemyError

from domain.commands import Position
from domain.errors import Unavailable
from domain.identity import SubjectId, SubjectKind
from infra.api_keys import ApiKeys

TICK_SECONDS = 0.5
MAX_WATCHES = 1_000
"""Watches that a process has at the same time."""

MAX_ROWS_A_TICK = 50_000
"""Events, at most, that a tick looks at; the next ticks look at the others."""

SELECT_CHECKPOINTS = """
SELECT log_partition, position FROM views.checkpoints WHERE projector = %(projector)s"""

# In detail for the watched subjects, all at once; of the others only their kind.
SELECT_CHANGES = """
SELECT e.log_partition, split_part(e.topic, '.', 1), e.account IS NOT NULL,
       CASE WHEN w.is_watched THEN e.stream END, CASE WHEN w.is_watched THEN e.account END,
       CASE WHEN w.is_watched THEN split_part(e.topic, '.', 2) END, max(e.position)
FROM unnest(%(partitions)s::smallint[], %(after)s::bigint[], %(upto)s::bigint[])
    AS r(p, after, upto)
JOIN log.events e ON e.log_partition = r.p AND e.position > r.after AND e.position <= r.upto
CROSS JOIN LATERAL (
    SELECT e.stream = ANY(%(streams)s) OR coalesce(e.account = ANY(%(streams)s), false)
) AS w(is_watched)
GROUP BY 1, 2, 3, 4, 5, 6"""

_KINDS = {kind.value for kind in SubjectKind}
_MERGING = ("absorbed", "merged_into")
_FAILURES = (psycopg.Error, PoolTimeout, SQLAlchemyError)

Positions = dict[int, int]
"""By partition."""

log = structlog.get_logger()


class Change(NamedTuple):
    """Events of one sort; `stream`, `account` and `verb` only of watched subjects.

    Attributes:
        kind: of the streams.
        verb: the second part of the topic.
        position: of the newest event.
    """

    log_partition: int
    kind: str
    is_in_account: bool
    stream: UUID | None
    account: UUID | None
    verb: str | None
    position: int


class Watch:
    """Waits in an event loop for changes of a subject, or of any subject of a kind.

    Attributes:
        subject: None: any of the kind.
        key: the API key that it was opened with, by id.
        began_at: the positions of the read models when it began.
        is_erased: the subject was erased; no notification follows.
        is_over: no notification follows.
    """

    def __init__(self, kind: SubjectKind, subject: SubjectId | None, key: UUID) -> None:
        self.kind = kind
        self.subject = subject
        self.key = key
        self.streams: frozenset[SubjectId] = frozenset()
        self.began_at: Positions = {}
        self.is_erased = False
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._notified = asyncio.Event()
        self._changed: Positions = {}

    async def changed(self, seconds: float) -> list[Position]:
        """The positions of changes since the last call; none, where none comes in time or the watch
        is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._notified.wait()
        except TimeoutError:
            return []
        self._notified.clear()
        changed, self._changed = self._changed, {}
        return [Position(partition, position) for partition, position in sorted(changed.items())]

    def notify(self, positions: Positions, *, erased: bool = False, over: bool = False) -> None:
        """Safe to call from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, positions, erased, over)
        except RuntimeError:
            # The loop is closed, and with it the watch.
            self.is_over = True

    def _take(self, positions: Positions, erased: bool, over: bool) -> None:
        for partition, position in positions.items():
            self._changed[partition] = max(position, self._changed.get(partition, 0))
        self.is_erased |= erased
        self.is_over |= erased or over
        self._notified.set()

    def concerns(self, change: Change) -> bool:
        """Whether the watch waits for a change."""
        if change.kind not in _KINDS:
            return True  # A definition may change what is shown of any subject.
        if self.subject is not None:
            return change.stream in self.streams or change.account in self.streams
        is_of_account = self.kind is SubjectKind.ACCOUNT and change.is_in_account
        return change.kind == self.kind or is_of_account


class ChangeFeed:
    """All watches of this process. Its thread begins with the first of them.

    Args:
        log_pool: of the log. views: of the read models.
        projector: the name of the projector whose read models are watched.
        streams_of: returns all streams of a present subject.
    """

    def __init__(
        self,
        log_pool: ConnectionPool,
        views: ConnectionPool,
        api_keys: ApiKeys,
        projector: str,
        streams_of: Callable[[SubjectId], Iterable[SubjectId]],
    ) -> None:
        self._log_pool = log_pool
        self._views = views
        self._api_keys = api_keys
        self._projector = projector
        self._streams_of = streams_of
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._seen: Positions = {}
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def require_room(self) -> None:
        """Raises: Unavailable: there are too many watches, or the process is about to end."""
        with self._lock:
            if self._closing.is_set() or len(self._watches) >= MAX_WATCHES:
                raise Unavailable(
                    f"a process tells {MAX_WATCHES:,} of changes at once; try again later"
                )

    def begin(self, watch: Watch) -> None:
        """Notifies a watch from now on. Reads the database, so do not call it in an event loop.

        Raises:
            Unavailable: see `require_room`.
        """
        if watch.subject is not None:
            watch.streams = frozenset(self._streams_of(watch.subject))
        seen = self._checkpoints()
        self.require_room()
        with self._lock:
            if not self._watches:
                self._seen = seen
            watch.began_at = dict(self._seen)
            self._watches.add(watch)
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
                self._thread.start()

    def end(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)
            if not self._watches and not self._closing.is_set():
                self._wanted.clear()

    def close(self) -> None:
        """Ends all watches, and lets no other begin."""
        with self._lock:
            self._closing.set()
            watches, thread = list(self._watches), self._thread
            self._wanted.set()
        for watch in watches:
            watch.notify({}, over=True)
        if thread is not None:
            thread.join(timeout=5)

    def __len__(self) -> int:
        return len(self._watches)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closing.is_set():
                return
            try:
                self.tick()
            except _FAILURES as error:
                log.warning("watching.failed", error=type(error).__name__)
            self._closing.wait(TICK_SECONDS)

    def tick(self) -> None:
        """Notifies all watches of changes that became visible since the last tick."""
        with self._lock:
            watches, seen = list(self._watches), self._seen
        opens = self._api_keys.opening({watch.key for watch in watches})
        for watch in watches:
            if watch.key not in opens:
                watch.notify({}, over=True)
        now = self._checkpoints()
        if any(now.get(partition, 0) < at for partition, at in seen.items()):
            # The read models are being rebuilt: subjects may look different now.
            for watch in watches:
                watch.notify(watch.began_at)
        upto = _upto(seen, now)
        if upto:
            self._notify(watches, self._changes(watches, seen, upto))
        with self._lock:
            self._seen = self._seen | upto

    def _notify(self, watches: list[Watch], changes: list[Change]) -> None:
        for watch in watches:
            concerning = [change for change in changes if watch.concerns(change)]
            positions: Positions = {}
            for change in concerning:
                newest = max(change.position, positions.get(change.log_partition, 0))
                positions[change.log_partition] = newest
            verbs = [change.verb for change in concerning if change.stream in watch.streams]
            if watch.subject is not None and any(verb in _MERGING for verb in verbs):
                watch.streams |= frozenset(self._streams_of(watch.subject))
            if positions:
                watch.notify(positions, erased="erased" in verbs)

    def _checkpoints(self) -> Positions:
        with self._views.connection() as conn:
            params = {"projector": self._projector}
            return dict(conn.execute(SELECT_CHECKPOINTS, params).fetchall())

    def _changes(self, watches: list[Watch], seen: Positions, upto: Positions) -> list[Change]:
        params = {
            "partitions": list(upto),
            "after": [seen.get(partition, 0) for partition in upto],
            "upto": list(upto.values()),
            "streams": list({stream for watch in watches for stream in watch.streams}),
        }
        with self._log_pool.connection() as conn:
            return [Change(*row) for row in conn.execute(SELECT_CHANGES, params)]


def _upto(seen: Mapping[int, int], now: Mapping[int, int]) -> Positions:
    """The position to look up to in each partition that went on: the newest; or, where there are
    more than `MAX_ROWS_A_TICK` events, an even part of the way."""
    behind = {
        partition: at - seen.get(partition, 0)
        for partition, at in now.items()
        if at > seen.get(partition, 0)
    }
    part = min(1.0, MAX_ROWS_A_TICK / max(sum(behind.values()), 1))
    return {
        partition: seen.get(partition, 0) + max(1, int(count * part))
        for partition, count in behind.items()
    }
