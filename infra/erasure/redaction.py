"""Where definitions and saved views name by value somebody who is erased: found while the names are
known, and what stands there instead made ready; it holds from the moment the keys are destroyed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import msgspec
import psycopg
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.definitions.types import Definition, family_of
from domain.erasure.erasure import NamedIn, together
from domain.erasure.redaction import Names, without
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
)
from domain.events.recorded import RecordedEvent
from domain.identity import Identity, Scheme, SubjectId
from domain.workspace.definitions import Definitions
from infra.keys.content_keys import ContentKeys, Replacement
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.write.definition_store import DefinitionStore
from infra.write.saved_views import SavedViews
from projections.kernel.gaps import parted

SAVED_VIEW = "saved_view"

ADD = """
INSERT INTO keys.erasure_mentions (request, content, event_id, what, id, versions, places)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""

UNSETTLED = """
SELECT content, event_id FROM keys.erasure_mentions
WHERE request = %s AND settled_at IS NULL ORDER BY id, content"""

SETTLED = """
UPDATE keys.erasure_mentions SET settled_at = now(), log_partition = %s, position = %s
WHERE request = %s AND content = %s"""

ADD_NAMES = """
INSERT INTO keys.erasure_names (request, lookup) SELECT %s, unnest(%s::bytea[])
ON CONFLICT DO NOTHING"""

SELECT_NAMES = "SELECT lookup FROM keys.erasure_names WHERE request = %s"

FORGET_NAMES = "DELETE FROM keys.erasure_names WHERE request = %s"

Said = DefinitionMade | DefinitionChanged | DefinitionCleaned


class Mention(NamedTuple):
    """
    Attributes:
        content: what holds the name: of a definition what one of its events says, or a saved view.
        event_id: None: it is a saved view.
    """

    content: SubjectId
    event_id: uuid.UUID | None
    named: NamedIn


class _Saying(NamedTuple):
    """What a definition said once, and of which of its versions that holds."""

    row: RecordedEvent
    payload: Said
    content: SubjectId
    versions: list[int]


class _Hashed(Names):
    """Outside names of subjects, of which keyed hashes alone are left."""

    def __init__(self, lookups: AbstractSet[bytes], digest: Callable[[Identity], bytes]) -> None:
        super().__init__(())
        self._lookups = lookups
        self._digest = digest

    def __bool__(self) -> bool:
        return bool(self._lookups)

    def has(self, scheme: Scheme, value: str) -> bool:
        return self._digest(Identity(scheme, value)) in self._lookups


class Redaction:
    """One for each process; safe for use from many threads."""

    def __init__(
        self,
        *,
        definitions: DefinitionStore,
        saved_views: SavedViews,
        log: EventLog,
        sealer: Sealer,
        contents: ContentKeys,
        pool: ConnectionPool,
        digest: Callable[[Identity], bytes],
    ) -> None:
        """
        Args:
            digest: the keyed hash of a name.
        """
        self._digest = digest
        self._definitions = definitions
        self._saved_views = saved_views
        self._log = log
        self._sealer = sealer
        self._contents = contents
        self._pool = pool

    def find(self, identities: Iterable[Identity]) -> list[NamedIn]:
        """The definitions, with their replaced versions, and the saved views that name one of
        these."""
        names = Names(identities)
        if not names:
            return []
        found = [_mention(one, places).named for one, _, places in self._naming(names)]
        found += [
            _of_view(content, item.id, places).named
            for content, item, places in self._saved_views.naming(names)
        ]
        return together(found)

    def prepare(self, request: uuid.UUID, identities: Iterable[Identity]) -> list[Mention]:
        """Has something without these names ready for all that names them. It stands there from
        the moment on when the request has destroyed the keys of the contents; `settle` follows."""
        return self._prepare(request, Names(identities))

    def prepare_hashed(self, request: uuid.UUID, lookups: AbstractSet[bytes]) -> list[Mention]:
        """As `prepare`, once of names only what `lookups` gave is left."""
        return self._prepare(request, _Hashed(lookups, self._digest))

    def lookups(self, identities: Iterable[Identity]) -> frozenset[bytes]:
        """Names as keyed hashes, where they have to be looked for again: while something that a
        definition said does not open. None otherwise."""
        names = list(identities)
        if not names or not self.unread():
            return frozenset()
        return frozenset(map(self._digest, names))

    @staticmethod
    def remember(conn: psycopg.Connection, request: uuid.UUID, lookups: AbstractSet[bytes]) -> None:
        """Keeps names to be looked for again, as keyed hashes, in the caller's transaction."""
        if lookups:
            conn.execute(ADD_NAMES, (request, list(lookups)))

    @staticmethod
    def remembered(conn: psycopg.Connection, request: uuid.UUID) -> set[bytes]:
        """The names that have to be looked for again, as keyed hashes."""
        return {bytes(one) for (one,) in conn.execute(SELECT_NAMES, (request,))}

    @staticmethod
    def forget(conn: psycopg.Connection, request: uuid.UUID) -> None:
        """Drops the names that were looked for again."""
        conn.execute(FORGET_NAMES, (request,))

    def unread(self) -> list[Position]:
        """Where in the log events of definitions stand that do not open and may name somebody."""
        rows = self._rows()
        opened, gaps = parted(self._sealer.open_each(rows))
        empty = {SubjectId(one.row.event_id): one.row for one in opened if one.payload is None}
        # Each had a key once. What was destroyed is known; what never was there is another's id.
        had = self._contents.now(empty) if empty else {}
        unread = [row for id, row in empty.items() if id not in had]
        places = ((row.log_partition, row.position) for row in (*unread, *(g.row for g in gaps)))
        return [Position(*one) for one in sorted(places)]

    def _prepare(self, request: uuid.UUID, names: Names) -> list[Mention]:
        if not names:
            return []
        mentions: list[Mention] = []
        replaced: list[tuple[SubjectId, Replacement]] = []
        for one, definition, places in self._naming(names):
            clean = msgspec.structs.replace(one.payload, definition=definition)
            replaced.append((one.content, self._sealer.replacement(one.row, clean)))
            mentions.append(_mention(one, places))
        for content, item, places in self._saved_views.naming(names):
            replaced.append((content, self._saved_views.replacement(item)))
            mentions.append(_of_view(content, item.id, places))
        self._contents.prepare(request, replaced)
        return mentions

    @staticmethod
    def record(conn: psycopg.Connection, request: uuid.UUID, mentions: Sequence[Mention]) -> None:
        """Puts on record, in the caller's transaction, where names stood."""
        conn.cursor().executemany(
            ADD,
            [
                (request, one.content, one.event_id, one.named.what, one.named.id,
                 one.named.versions, one.named.places)
                for one in mentions
            ],
        )  # fmt: skip

    @contextmanager
    def destroying(
        self, request: uuid.UUID, mentions: Sequence[Mention]
    ) -> Iterator[psycopg.Connection]:
        """A transaction to destroy the keys of contents in; puts on record where names stood."""
        with self._pool.connection() as conn, conn.transaction():
            yield conn
            self.record(conn, request, mentions)

    def record_apart(
        self, request: uuid.UUID, mentions: Sequence[Mention], lookups: AbstractSet[bytes]
    ) -> None:
        """As `record` and `remember`, in a transaction of its own."""
        with self._pool.connection() as conn, conn.transaction():
            self.record(conn, request, mentions)
            self.remember(conn, request, lookups)

    def left_over(self, request: uuid.UUID) -> list[SubjectId]:
        """See `ContentKeys.left_over`."""
        with self._pool.connection() as conn:
            waiting = [content for content, _ in conn.execute(UNSETTLED, (request,))]
        return self._contents.left_over(request, waiting) if waiting else []

    def empty(self, contents: Sequence[SubjectId]) -> None:
        """See `ContentKeys.empty`."""
        self._contents.empty(contents)

    def settle(self, request: uuid.UUID, at: datetime) -> None:
        """Once the keys are destroyed: has the log say what definitions say now. Safe to repeat."""
        with self._pool.connection() as conn:
            rows = conn.execute(UNSETTLED, (request,)).fetchall()
        waiting: dict[uuid.UUID, uuid.UUID | None] = dict(rows)
        if not waiting:
            return
        places = self._tell({one for one in waiting.values() if one is not None}, at)
        with self._pool.connection() as conn:
            for content, event in waiting.items():
                place = None if event is None else places.get(event)
                where = (None, None) if place is None else (place.log_partition, place.position)
                conn.execute(SETTLED, (*where, request, content))

    def _tell(self, events: set[uuid.UUID], at: datetime) -> dict[uuid.UUID, Position]:
        """Has the log say what these events say now, and where it says so. What only said so
        itself needs no telling: the version that it is about is among them."""
        if not events:
            return {}
        self._sealer.refresh()
        telling = [
            one
            for one in self._sayings()
            if one.row.event_id in events and not isinstance(one.payload, DefinitionCleaned)
        ]

        def decide(_: Definitions) -> list[DefinitionCleaned]:
            return [
                DefinitionCleaned(one.payload.id, one.versions, one.payload.definition)
                for one in telling
            ]

        positions = self._definitions.decide(decide, at) if telling else []
        return {one.row.event_id: at for one, at in zip(telling, positions, strict=True)}

    def _naming(self, names: Names) -> Iterator[tuple[_Saying, Definition, list[str]]]:
        """What names one of these, the same without, and where."""
        for one in self._sayings():
            clean, places = without(one.payload.definition, names)
            if places:
                yield one, clean, places

    def _rows(self) -> list[RecordedEvent]:
        stream = self._definitions.stream
        return self._log.read_streams({stream: 0})[stream]

    def _sayings(self) -> list[_Saying]:
        rows = self._rows()
        contents = self._sealer.contents(rows)
        newest: dict[uuid.UUID, int] = {}
        said: dict[uuid.UUID, _Saying] = {}
        found: list[_Saying] = []
        opened_rows, _ = parted(self._sealer.open_each(rows))
        for opened in opened_rows:
            payload, row = opened.payload, opened.row
            if isinstance(payload, DefinitionMade | DefinitionChanged | DefinitionCleaned):
                own = contents.get(row.event_id)
                one = _Saying(row, payload, SubjectId(row.event_id) if own is None else own.id, [])
                found.append(one)
                if isinstance(payload, DefinitionCleaned):
                    one.versions.extend(payload.versions)
                    continue
                said[payload.id] = one
            elif not isinstance(
                payload, DefinitionActivated | DefinitionArchived | DefinitionDeleted
            ):
                continue
            newest[payload.id] = newest.get(payload.id, 0) + 1
            if payload.id in said:
                said[payload.id].versions.append(newest[payload.id])
        return found


def _mention(one: _Saying, places: list[str]) -> Mention:
    what = family_of(one.payload.definition)
    named = NamedIn(what.value, one.payload.id, one.versions, places)
    return Mention(one.content, one.row.event_id, named)


def _of_view(content: SubjectId, id: uuid.UUID, places: list[str]) -> Mention:
    return Mention(content, None, NamedIn(SAVED_VIEW, id, [], places))
