"""Who waits for changes of what the read models show, and is told: one poller for a process.

Twice a second it asks how far the read models are, and, once for all who wait, which of the
subjects waited for the events in between are about. A change is told when it can be seen, never
before, with where it stands and nothing of what it is.
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
"""In a process."""

MAX_ROWS_A_TICK = 50_000
"""What is left is looked at in the next ticks."""

CHECKPOINTS = "SELECT log_partition, position FROM views.checkpoints WHERE projector = %s"

# For all subjects waited for at once; of all others, only that there was something of their kind.
HAPPENED = """
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


class Happened(NamedTuple):
    """Events of one sort; `stream`, `account` and `verb` only of subjects that somebody waits for.

    Attributes:
        kind: what the streams are about.
        verb: the second part of the topic.
        position: of the newest.
    """

    log_partition: int
    kind: str
    is_in_account: bool
    stream: UUID | None
    account: UUID | None
    verb: str | None
    position: int


class Watch:
    """One who waits: for changes of a subject, or of any of a kind. Lives in an event loop.

    Attributes:
        subject: None: any of the kind.
        key: the API key by which it may wait, by id.
        began_at: what the read models showed when it began.
        is_erased: the subject was; nothing comes any more.
        is_over: nothing comes any more.
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
        self._told = asyncio.Event()
        self._changed: Positions = {}

    async def changed(self, seconds: float) -> list[Position]:
        """Where changes stand that were not told yet; none, where none comes in time or all is
        over."""
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return []
        self._told.clear()
        changed, self._changed = self._changed, {}
        return [Position(*one) for one in sorted(changed.items())]

    def tell(self, positions: Positions, *, erased: bool = False, over: bool = False) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, positions, erased, over)
        except RuntimeError:
            # The loop is closed, and whoever waited in it is gone.
            self.is_over = True

    def _take(self, positions: Positions, erased: bool, over: bool) -> None:
        for partition, position in positions.items():
            self._changed[partition] = max(position, self._changed.get(partition, 0))
        self.is_erased |= erased
        self.is_over |= erased or over
        self._told.set()

    def concerns(self, one: Happened) -> bool:
        """Whether this waits for it."""
        if one.kind not in _KINDS:
            return True  # A definition: it may change what is shown of anybody.
        if self.subject is not None:
            return one.stream in self.streams or one.account in self.streams
        return one.kind == self.kind or (self.kind is SubjectKind.ACCOUNT and one.is_in_account)


class ChangeFeed:
    """All who wait in this process. The thread begins with the first of them."""

    def __init__(
        self,
        log_pool: ConnectionPool,
        views: ConnectionPool,
        api_keys: ApiKeys,
        projector: str,
        streams_of: Callable[[SubjectId], Iterable[SubjectId]],
    ) -> None:
        """`streams_of` gives all streams that tell of a subject today."""
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
        """Raises: Unavailable: too many wait, or the process is about to end."""
        with self._lock:
            if self._closing.is_set() or len(self._watches) >= MAX_WATCHES:
                raise Unavailable(
                    f"a process tells {MAX_WATCHES:,} of changes at once; try again later"
                )

    def begin(self, watch: Watch) -> None:
        """Tells a watch of all that comes from now on. Asks the database: not in its loop.

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
        """Ends all watches, and lets none begin any more."""
        with self._lock:
            self._closing.set()
            watches, thread = list(self._watches), self._thread
            self._wanted.set()
        for watch in watches:
            watch.tell({}, over=True)
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
        """Tells all who wait what can be seen since the last time."""
        with self._lock:
            watches, seen = list(self._watches), self._seen
        opens = self._api_keys.opening({one.key for one in watches})
        for watch in watches:
            if watch.key not in opens:
                watch.tell({}, over=True)
        now = self._checkpoints()
        if any(now.get(partition, 0) < at for partition, at in seen.items()):
            # The read models are being made again: what was seen may look different now.
            for watch in watches:
                watch.tell(watch.began_at)
        upto = _upto(seen, now)
        if upto:
            self._tell(watches, self._happened(watches, seen, upto))
        with self._lock:
            self._seen = self._seen | upto

    def _tell(self, watches: list[Watch], happened: list[Happened]) -> None:
        for watch in watches:
            found = [one for one in happened if watch.concerns(one)]
            positions: Positions = {}
            for one in found:
                at = max(one.position, positions.get(one.log_partition, 0))
                positions[one.log_partition] = at
            own = [one.verb for one in found if one.stream in watch.streams]
            if watch.subject is not None and any(verb in _MERGING for verb in own):
                watch.streams |= frozenset(self._streams_of(watch.subject))
            if positions:
                watch.tell(positions, erased="erased" in own)

    def _checkpoints(self) -> Positions:
        with self._views.connection() as conn:
            return dict(conn.execute(CHECKPOINTS, (self._projector,)).fetchall())

    def _happened(self, watches: list[Watch], seen: Positions, upto: Positions) -> list[Happened]:
        asked = {
            "partitions": list(upto),
            "after": [seen.get(partition, 0) for partition in upto],
            "upto": list(upto.values()),
            "streams": list({stream for watch in watches for stream in watch.streams}),
        }
        with self._log_pool.connection() as conn:
            return [Happened(*row) for row in conn.execute(HAPPENED, asked)]


def _upto(seen: Mapping[int, int], now: Mapping[int, int]) -> Positions:
    """How far to look in each partition that went on: all the way, or an even part of it."""
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
