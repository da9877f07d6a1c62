"""Takes the names of erased subjects out of definitions and saved views.

The names are searched for while they are known, and the redacted text is prepared beside the
original. It takes the original's place at the moment the original's key is destroyed.
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
from domain.erasure.erasure import NamedIn, merge_mentions
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

ADD_MENTION = """
INSERT INTO keys.erasure_mentions (request, content, event_id, what, id, versions, places)
VALUES (%(request)s, %(content)s, %(event_id)s, %(what)s, %(id)s, %(versions)s, %(places)s)
ON CONFLICT DO NOTHING"""

SELECT_UNAPPLIED = """
SELECT content, event_id FROM keys.erasure_mentions
WHERE request = %(request)s AND settled_at IS NULL ORDER BY id, content"""

SET_APPLIED = """
UPDATE keys.erasure_mentions
SET settled_at = now(), log_partition = %(partition)s, position = %(position)s
WHERE request = %(request)s AND content = %(content)s"""

ADD_LOOKUPS = """
INSERT INTO keys.erasure_names (request, lookup)
SELECT %(request)s, unnest(%(lookups)s::bytea[]) ON CONFLICT DO NOTHING"""

SELECT_LOOKUPS = "SELECT lookup FROM keys.erasure_names WHERE request = %(request)s"

FORGET_LOOKUPS = "DELETE FROM keys.erasure_names WHERE request = %(request)s"

TextEvent = DefinitionMade | DefinitionChanged | DefinitionCleaned


class Mention(NamedTuple):
    """
    Attributes:
        content: holds the name: the text of an event of a definition, or a saved view.
        event_id: None: it is a saved view.
    """

    content: SubjectId
    event_id: uuid.UUID | None
    named: NamedIn


class _Text(NamedTuple):
    """The text of a definition that an event holds, and the versions that it is the text of."""

    row: RecordedEvent
    payload: TextEvent
    content: SubjectId
    versions: list[int]

    def mention(self, places: list[str]) -> Mention:
        family = family_of(self.payload.definition)
        named = NamedIn(family.value, self.payload.id, self.versions, places)
        return Mention(self.content, self.row.event_id, named)


class _HashedNames(Names):
    """Outside names of subjects, of which only keyed hashes are left."""

    def __init__(self, lookups: AbstractSet[bytes], digest: Callable[[Identity], bytes]) -> None:
        super().__init__(())
        self._lookups = lookups
        self._digest = digest

    def __bool__(self) -> bool:
        return bool(self._lookups)

    def has(self, scheme: Scheme, value: str) -> bool:
        return self._digest(Identity(scheme, value)) in self._lookups


class Redaction:
    """Thread-safe; one instance per process.

    Args:
        pool: of the keys.
        digest: the keyed hash of a name.
    """

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
        self._digest = digest
        self._definitions = definitions
        self._saved_views = saved_views
        self._log = log
        self._sealer = sealer
        self._contents = contents
        self._pool = pool

    def find(self, identities: Iterable[Identity]) -> list[NamedIn]:
        """The definitions, with their replaced versions, and the saved views that hold one of
        these names."""
        names = Names(identities)
        if not names:
            return []
        mentions = [text.mention(places).named for text, _, places in self._texts_with(names)]
        mentions += [
            _mention_of_view(content, item.id, places).named
            for content, item, places in self._saved_views.naming(names)
        ]
        return merge_mentions(mentions)

    def prepare(self, request: uuid.UUID, identities: Iterable[Identity]) -> list[Mention]:
        """Prepares the redacted text of all contents with these names. It takes effect when the
        request destroys the keys of the contents; call `apply` after that."""
        return self._prepare(request, Names(identities))

    def prepare_hashed(self, request: uuid.UUID, lookups: AbstractSet[bytes]) -> list[Mention]:
        """As `prepare`, where only the result of `lookups` is left of the names."""
        return self._prepare(request, _HashedNames(lookups, self._digest))

    def lookups(self, identities: Iterable[Identity]) -> frozenset[bytes]:
        """Names as keyed hashes, if they must be searched for again: while an event of a definition
        does not open. None otherwise."""
        names = list(identities)
        if not names or not self.unread():
            return frozenset()
        return frozenset(map(self._digest, names))

    @staticmethod
    def remember(conn: psycopg.Connection, request: uuid.UUID, lookups: AbstractSet[bytes]) -> None:
        """Stores names to be searched for again, as keyed hashes, in the caller's transaction."""
        if lookups:
            conn.execute(ADD_LOOKUPS, {"request": request, "lookups": list(lookups)})

    @staticmethod
    def remembered(conn: psycopg.Connection, request: uuid.UUID) -> set[bytes]:
        """The names that must be searched for again, as keyed hashes."""
        rows = conn.execute(SELECT_LOOKUPS, {"request": request})
        return {bytes(lookup) for (lookup,) in rows}

    @staticmethod
    def forget(conn: psycopg.Connection, request: uuid.UUID) -> None:
        """Deletes the names that were searched for again."""
        conn.execute(FORGET_LOOKUPS, {"request": request})

    def unread(self) -> list[Position]:
        """The positions of events of definitions that do not open and may hold a name."""
        decrypted, gaps = parted(self._sealer.open_each(self._rows()))
        empty = {
            SubjectId(event.row.event_id): event.row for event in decrypted if event.payload is None
        }
        # Each had a key once. A destroyed key is on record; an id without any is not its own.
        known = self._contents.now(empty) if empty else {}
        unread = [row for id, row in empty.items() if id not in known]
        return sorted(
            Position(row.log_partition, row.position)
            for row in (*unread, *(gap.row for gap in gaps))
        )

    @staticmethod
    def record(conn: psycopg.Connection, request: uuid.UUID, mentions: Sequence[Mention]) -> None:
        """Stores where names stood, in the caller's transaction."""
        conn.cursor().executemany(
            ADD_MENTION,
            [
                {
                    "request": request,
                    "content": mention.content,
                    "event_id": mention.event_id,
                    "what": mention.named.what,
                    "id": mention.named.id,
                    "versions": mention.named.versions,
                    "places": mention.named.places,
                }
                for mention in mentions
            ],
        )

    @contextmanager
    def destroying(
        self, request: uuid.UUID, mentions: Sequence[Mention]
    ) -> Iterator[psycopg.Connection]:
        """A transaction to destroy the keys of contents in; stores where names stood at its end."""
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
        contents = list(self._unapplied(request))
        return self._contents.left_over(request, contents) if contents else []

    def empty(self, contents: Sequence[SubjectId]) -> None:
        """See `ContentKeys.empty`."""
        self._contents.empty(contents)

    def apply(self, request: uuid.UUID, at: datetime) -> None:
        """Once the keys are destroyed: appends the redacted text of definitions to the log. Safe to
        repeat."""
        unapplied = self._unapplied(request)
        if not unapplied:
            return
        events = {event for event in unapplied.values() if event is not None}
        positions = self._record_redacted(events, at)
        with self._pool.connection() as conn:
            for content, event in unapplied.items():
                position = None if event is None else positions.get(event)
                params = {
                    "partition": None if position is None else position.log_partition,
                    "position": None if position is None else position.position,
                    "request": request,
                    "content": content,
                }
                conn.execute(SET_APPLIED, params)

    def _unapplied(self, request: uuid.UUID) -> dict[uuid.UUID, uuid.UUID | None]:
        """The contents whose redaction is not applied, each with its event; None: of a view."""
        with self._pool.connection() as conn:
            return dict(conn.execute(SELECT_UNAPPLIED, {"request": request}).fetchall())

    def _prepare(self, request: uuid.UUID, names: Names) -> list[Mention]:
        if not names:
            return []
        mentions: list[Mention] = []
        replacements: list[tuple[SubjectId, Replacement]] = []
        for text, definition, places in self._texts_with(names):
            redacted = msgspec.structs.replace(text.payload, definition=definition)
            replacements.append((text.content, self._sealer.replacement(text.row, redacted)))
            mentions.append(text.mention(places))
        for content, item, places in self._saved_views.naming(names):
            replacements.append((content, self._saved_views.replacement(item)))
            mentions.append(_mention_of_view(content, item.id, places))
        self._contents.prepare(request, replacements)
        return mentions

    def _record_redacted(
        self, events: AbstractSet[uuid.UUID], at: datetime
    ) -> dict[uuid.UUID, Position]:
        """Appends the redacted text of these events to the log; returns the position of each. A
        `DefinitionCleaned` needs no record of its own: its version's first event has one."""
        if not events:
            return {}
        self._sealer.refresh()
        texts = [
            text
            for text in self._texts()
            if text.row.event_id in events and not isinstance(text.payload, DefinitionCleaned)
        ]

        def decide(_: Definitions) -> list[DefinitionCleaned]:
            return [
                DefinitionCleaned(text.payload.id, text.versions, text.payload.definition)
                for text in texts
            ]

        positions = self._definitions.decide(decide, at) if texts else []
        return {
            text.row.event_id: position for text, position in zip(texts, positions, strict=True)
        }

    def _texts_with(self, names: Names) -> Iterator[tuple[_Text, Definition, list[str]]]:
        """The texts that hold one of these names, the definition without, and where they stood."""
        for text in self._texts():
            redacted, places = without(text.payload.definition, names)
            if places:
                yield text, redacted, places

    def _rows(self) -> list[RecordedEvent]:
        stream = self._definitions.stream
        return self._log.read_streams({stream: 0})[stream]

    def _texts(self) -> list[_Text]:
        """Every text that an event of a definition holds now."""
        rows = self._rows()
        contents = self._sealer.contents(rows)
        versions: dict[uuid.UUID, int] = {}
        newest: dict[uuid.UUID, _Text] = {}
        texts: list[_Text] = []
        decrypted, _ = parted(self._sealer.open_each(rows))
        for event in decrypted:
            payload, row = event.payload, event.row
            if isinstance(payload, DefinitionMade | DefinitionChanged | DefinitionCleaned):
                own = contents.get(row.event_id)
                text = _Text(row, payload, SubjectId(row.event_id) if own is None else own.id, [])
                texts.append(text)
                if isinstance(payload, DefinitionCleaned):
                    text.versions.extend(payload.versions)
                    continue
                newest[payload.id] = text
            elif not isinstance(
                payload, DefinitionActivated | DefinitionArchived | DefinitionDeleted
            ):
                continue
            versions[payload.id] = versions.get(payload.id, 0) + 1
            if payload.id in newest:
                newest[payload.id].versions.append(versions[payload.id])
        return texts


def _mention_of_view(content: SubjectId, id: uuid.UUID, places: list[str]) -> Mention:
    return Mention(content, None, NamedIn(SAVED_VIEW, id, [], places))
