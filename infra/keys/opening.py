"""Opens rows of the log under the keys that still exist: the counterpart of `infra.keys.sealing`.

A part whose key is destroyed comes back as None. A part that does not open although its key exists
is an error that names the place, or a gap.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag

from domain.definitions.retention import RetentionBounds, month_of
from domain.errors import UnreadableEvent
from domain.events.event import Event
from domain.events.payloads import AccountPart, ActivitySummed, Erased, Payload
from domain.events.recorded import OpenedEvent, RecordedEvent, event_of
from domain.events.schema import (
    CONTENT_KEYS_VERSION,
    MONTH_KEYS_VERSION,
    SCHEMA_VERSIONS,
    NewerSchemaVersion,
    check_known,
    decoder,
)
from domain.events.topics import (
    ACTIVITY_OF_TOPIC,
    PAYLOAD_OF_TOPIC,
    SAYING_TOPICS,
    SUMMED_TOPICS,
)
from domain.identity import SubjectId
from infra.keys.content_keys import ContentKeys, Current
from infra.keys.key_ring import KeyRing
from infra.keys.subject_key import SubjectKey
from infra.log.record_format import envelope_of
from projections.kernel.gaps import Gap, GapReason

SUBJECT_PART, ACCOUNT_PART = b"s", b"a"
"""The prefix of a part's associated data: one part cannot stand for the other."""

_decode_account_part = msgspec.msgpack.Decoder(AccountPart).decode
_decode_sums = msgspec.msgpack.Decoder(ActivitySummed).decode


class Tampered(UnreadableEvent):
    """A stored part does not belong where it stands, or was altered. Names the place only."""


class UnknownForm(UnreadableEvent):
    """This version of Annals does not know the topic, the schema version or the form of a stored
    event. Names the place only."""


class _Form(NamedTuple):
    """How the rows of a topic and schema version are stored.

    Attributes:
        is_of_month: whether it is sealed under keys of months.
        has_account_part: whether the account of a row, if it has one, keeps a part.
    """

    decode: Callable[[bytes], Payload]
    is_erasure: bool
    is_activity: bool
    is_of_month: bool
    has_account_part: bool


_FORMS = {
    (topic, version): _Form(
        decode=decoder(topic, version),
        is_erasure=PAYLOAD_OF_TOPIC[topic] is Erased,
        is_activity=topic in ACTIVITY_OF_TOPIC,
        is_of_month=topic in ACTIVITY_OF_TOPIC and version >= MONTH_KEYS_VERSION,
        has_account_part=topic in ACTIVITY_OF_TOPIC or topic in SUMMED_TOPICS,
    )
    for topic, versions in SCHEMA_VERSIONS.items()
    for version in versions
}


class Secrets(NamedTuple):
    """The keys and secrets that open some rows.

    Attributes:
        keys: of streams and accounts, by `SubjectId.int`.
        months: secrets of months, by `domain.definitions.retention.month_of`.
        bounds: of the tracked activity that is kept.
        contents: those sealed under a key of their own, by the id of the event.
    """

    keys: Mapping[int, SubjectKey]
    months: Mapping[int, bytes]
    bounds: RetentionBounds
    contents: Mapping[uuid.UUID, Current]


class EventOpener:
    """Safe for use from many threads."""

    def __init__(self, keys: KeyRing, contents: ContentKeys) -> None:
        self._keys = keys
        self._contents = contents

    def refresh(self) -> int:
        """See `KeyRing.refresh`."""
        return self._keys.refresh()

    def generation(self) -> int:
        """See `KeyRing.generation`."""
        return self._keys.generation()

    def kept(self) -> RetentionBounds:
        """Returns the bounds of the tracked activity that still opens."""
        return self._keys.months.retention_bounds()

    def open_rows(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None = None
    ) -> list[OpenedEvent]:
        """Opens rows. Parts whose key is destroyed come back as None, and so do both parts of
        tracked activity that retention has ended.

        Args:
            keys: by `SubjectId.int`, instead of those of the key ring; parts whose key is not
                among them come back as None.

        Raises:
            Tampered: a part was altered or moved; names partition and position.
            NewerSchemaVersion: a newer version of Annals stored the row; names the place too.
            UnknownForm: the topic or the payload is not known; names the place too.
        """
        secrets = self._secrets(rows, keys)
        try:
            return [opened(row, secrets) for row in rows]
        except UnreadableEvent:
            newer = self._with_newer_versions(rows, secrets)
            if newer is None:
                raise
        return [opened(row, newer) for row in rows]

    def open_each(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None = None
    ) -> list[OpenedEvent | Gap]:
        """As `open_rows`; a row that does not open comes back as a gap, in its place."""
        secrets = self._secrets(rows, keys)
        try:
            return [opened(row, secrets) for row in rows]
        except UnreadableEvent:
            secrets = self._with_newer_versions(rows, secrets) or secrets
        return [_opened_or_gap(row, secrets) for row in rows]

    def open_events(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None = None
    ) -> list[Event]:
        """The domain events of rows whose subjects are not erased.

        Args:
            keys: as of `open_rows`.

        Raises:
            Tampered, NewerSchemaVersion, UnknownForm: as `open_rows`.
        """
        return [
            event_of(event, event.payload)
            for event in self.open_rows(rows, keys)
            if event.payload is not None
        ]

    def contents(self, rows: Sequence[RecordedEvent]) -> dict[uuid.UUID, Current]:
        """Returns the contents of rows that are sealed under a key of their own, or replaced, by
        the id of the event. Rows older than such keys are included once they are replaced."""
        saying = {SubjectId(row.event_id): row for row in rows if row.topic in SAYING_TOPICS}
        if not saying:
            return {}
        current = self._contents.now(saying)
        return {
            id: current.get(id, Current(id, None))
            for id, row in saying.items()
            if row.schema_version >= CONTENT_KEYS_VERSION
            or (id in current and (current[id].key is None or current[id].state is not None))
        }

    def _secrets(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None
    ) -> Secrets:
        if keys is None:
            subjects = {row.stream.int for row in rows}
            subjects.update(
                row.account.int for row in rows if row.account_state is not None and row.account
            )
            keys = self._keys.fetch(subjects)
        bounds = self.kept()
        months = self._keys.months.fetch(
            {
                month_of(row.occurred_at)
                for row in rows
                if row.schema_version >= MONTH_KEYS_VERSION and row.topic in ACTIVITY_OF_TOPIC
            }
        )
        return Secrets(keys, months, bounds, self.contents(rows))

    def _with_newer_versions(
        self, rows: Sequence[RecordedEvent], secrets: Secrets
    ) -> Secrets | None:
        """The same with the versions of keys that other processes made since; None: there are
        none."""
        behind = _behind(rows, secrets.keys)
        if not behind:
            return None
        return secrets._replace(keys={**secrets.keys, **self._keys.fetch_anew(behind)})


def unseal(key: SubjectKey, sealed: bytes, bound: bytes) -> bytes:
    """Raises: Tampered: another key, other associated data, or altered bytes."""
    try:
        return key.unseal(sealed, bound)
    except (InvalidTag, ValueError):
        raise Tampered("a sealed part does not open under its subject's key") from None


def opened(row: RecordedEvent, secrets: Secrets) -> OpenedEvent:
    """Opens one row. Raises: see `EventOpener.open_rows`."""
    keys, months, bounds, contents = secrets
    form = _FORMS.get((row.topic, row.schema_version))
    if form is None:
        return _of_unknown_form(row, secrets)
    if form.is_erasure and not row.state:
        return OpenedEvent(row, Erased())
    if form.is_activity and not bounds.has(row.occurred_at, row.log_partition, row.position):
        return OpenedEvent(row, None, is_kept=False)
    bound = envelope_of(row)
    payload: Payload | None = None
    part: AccountPart | None = None
    sums: ActivitySummed | None = None
    try:
        secret = months[month_of(row.occurred_at)] if form.is_of_month else None
        content = contents.get(row.event_id)
        key = keys.get(row.stream.int) if content is None else content.key
        if key is not None and secret is not None:
            key = key.of_month(secret)
        if key is not None:
            plain = (
                content.opened(bound)
                if content is not None and content.state is not None
                else unseal(key, row.state, SUBJECT_PART + bound)
            )
            payload = form.decode(plain)
        has_part = row.account is not None and form.has_account_part
        if not row.state or has_part != (row.account_state is not None):
            raise Tampered("a part is missing, or is one too many")
        if row.account_state is not None and row.account is not None:
            key = keys.get(row.account.int)
            if key is not None and secret is not None:
                key = key.of_month(secret)
            if key is not None:
                plain = unseal(key, row.account_state, ACCOUNT_PART + bound)
                if form.is_activity:
                    part = _decode_account_part(plain)
                else:
                    sums = _decode_sums(plain)
    except msgspec.MsgspecError:
        raise UnknownForm(
            f"{_place(row)} has a payload that this version of Annals does not know"
        ) from None
    except (Tampered, InvalidTag, KeyError, ValueError):
        raise Tampered(f"{_place(row)} does not open: it was altered or moved") from None
    return OpenedEvent(row, payload, part, sums)


def _of_unknown_form(row: RecordedEvent, secrets: Secrets) -> OpenedEvent:
    """As `opened`, of a topic or schema version that is not known: nothing is left of it where its
    keys are destroyed; else it is an error."""
    bounds = secrets.bounds
    if row.topic in ACTIVITY_OF_TOPIC and not bounds.has(
        row.occurred_at, row.log_partition, row.position
    ):
        return OpenedEvent(row, None, is_kept=False)
    content = secrets.contents.get(row.event_id)
    key = secrets.keys.get(row.stream.int) if content is None else content.key
    if key is None and (row.account is None or row.account.int not in secrets.keys):
        return OpenedEvent(row, None)
    try:
        check_known(row.topic, row.schema_version)
    except NewerSchemaVersion as error:
        raise NewerSchemaVersion(f"{_place(row)}: {error}") from None
    except UnreadableEvent:
        pass
    raise UnknownForm(
        f"{_place(row)} has a topic or schema version that this version of Annals does not know: a"
        " newer version stored it, or it was altered"
    )


def _place(row: RecordedEvent) -> str:
    return f"the event at partition {row.log_partition}, position {row.position}"


def _opened_or_gap(row: RecordedEvent, secrets: Secrets) -> OpenedEvent | Gap:
    try:
        return opened(row, secrets)
    except UnreadableEvent as error:
        is_altered = isinstance(error, Tampered)
        reason = GapReason.ALTERED if is_altered else GapReason.UNREADABLE
        return Gap(row, reason, type(error).__name__)


def _behind(rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey]) -> set[int]:
    """The subjects whose keys lack the version that a row is sealed under: another process made
    it."""
    parts = [(row.stream.int, row.state) for row in rows] + [
        (row.account.int, row.account_state)
        for row in rows
        if row.account is not None and row.account_state is not None
    ]
    return {
        subject for subject, sealed in parts if subject in keys and keys[subject].is_behind(sealed)
    }
