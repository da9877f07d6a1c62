"""Sealing events under their subjects' keys, and opening them again.

A sealed part is: key version (2 bytes, big-endian), nonce (12), ciphertext and tag (AES-256-GCM).
The envelope in clear is bound to it as associated data, with which part it is, so that two rows,
two parts or two versions that were swapped fail to open. Tracked activity is sealed under keys that
are derived from these for the month in which it occurred: see `infra.keys.month_keys`.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag

from domain.definitions.retention import RetentionBounds, month_of
from domain.errors import UnreadableEvent
from domain.events.event import Event
from domain.events.payloads import AccountPart, ActivitySummed, Erased, Payload, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent, SealedEvent, event_of
from domain.events.topics import (
    ACTIVITY_OF_TOPIC,
    PAYLOAD_OF_TOPIC,
    SAYING_TOPICS,
    SAYS,
    SUMMED_TOPICS,
)
from domain.identity import SubjectId, SubjectKind
from domain.subjects.account import Account
from domain.subjects.subject import Subject
from domain.subjects.user import User
from infra.keys.content_keys import ContentKeys, Current, Replacement
from infra.keys.key_encryption import KEY_BYTES
from infra.keys.key_ring import KeyRing
from infra.keys.subject_key import SubjectKey
from infra.log.record_format import envelope, envelope_of
from projections.kernel.gaps import Gap, GapReason

SCHEMA_VERSION = 1
"""Of every payload written now but those of tracked activity. A reader takes this and all before
it."""

PERIODS_SCHEMA_VERSION = 2
"""Of tracked activity: from this on it is sealed under keys of its period."""

CONTENTS_SCHEMA_VERSION = 3
"""Of events with what a definition says: from this on each is sealed under a key of its own."""

NONCE_BYTES = 12
_TO_VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
_TO_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
_SUBJECT_PART, _ACCOUNT_PART, _SNAPSHOT = b"s", b"a", b"n"

_encoder = msgspec.msgpack.Encoder()
_decoders = {topic: msgspec.msgpack.Decoder(payload) for topic, payload in PAYLOAD_OF_TOPIC.items()}
_account_decoder = msgspec.msgpack.Decoder(AccountPart)
_sums_decoder = msgspec.msgpack.Decoder(ActivitySummed)


class Tampered(UnreadableEvent):
    """A stored part does not belong where it stands, or was altered. Names the place only."""


class UnknownForm(UnreadableEvent):
    """The topic, the schema version or the form of a stored event is none that is known here. Names
    the place only."""


def _random_ids(count: int) -> list[bytes]:
    """UUIDs of version 4, as bytes, all from one call for entropy."""
    entropy = bytearray(os.urandom(16 * count))
    entropy[6::16] = entropy[6::16].translate(_TO_VERSION_4)
    entropy[8::16] = entropy[8::16].translate(_TO_VARIANT)
    ids = bytes(entropy)
    return [ids[n : n + 16] for n in range(0, 16 * count, 16)]


def _nonces(count: int) -> list[bytes]:
    entropy = os.urandom(NONCE_BYTES * count)
    return [entropy[n : n + NONCE_BYTES] for n in range(0, NONCE_BYTES * count, NONCE_BYTES)]


def unseal(key: SubjectKey, sealed: bytes, bound: bytes) -> bytes:
    """Raises: Tampered: another key, other associated data, or altered bytes."""
    try:
        return key.unseal(sealed, bound)
    except (InvalidTag, ValueError):
        raise Tampered("a sealed part does not open under its subject's key") from None


class Sealing:
    """Events with the keys at hand; each pass over it seals them anew."""

    def __init__(
        self,
        events: Sequence[Event],
        keys: Mapping[int, SubjectKey],
        periods: Mapping[int, bytes],
        own_ids: Mapping[int, bytes],
    ) -> None:
        """`own_ids`: of those events, by index, that have a key of their own, which is known by
        it."""
        self._events = events
        self._keys = keys
        self._periods = periods
        self._own_ids = own_ids

    def __repr__(self) -> str:
        return f"Sealing({len(self._events)} events)"

    @property
    def streams(self) -> list[SubjectId]:
        return [event.stream for event in self._events]

    def encoded(self, order: Sequence[int]) -> Iterator[tuple[bytes, bytes, bytes | None]]:
        """The envelope and the two sealed parts of the events with these indexes, in this order,
        each sealed when it is asked for."""
        events = [self._events[n] for n in order]
        return _sealed(events, self._keys, self._periods, self._ids(order))

    def _ids(self, order: Sequence[int]) -> list[bytes]:
        ids = _random_ids(len(order))
        if self._own_ids:
            ids = [self._own_ids.get(n, id) for n, id in zip(order, ids, strict=True)]
        return ids

    def rows(self) -> list[SealedEvent]:
        ids = self._ids(range(len(self._events)))
        return [
            SealedEvent(
                event.stream,
                event.version,
                uuid.UUID(bytes=event_id),
                event.account,
                event.topic,
                _schema_version(event.payload),
                event.occurred_at,
                state,
                kept,
            )
            for event, event_id, (_, state, kept) in zip(
                self._events,
                ids,
                _sealed(self._events, self._keys, self._periods, ids),
                strict=True,
            )
        ]


def _schema_version(payload: Payload) -> int:
    if type(payload) is Tracked:
        return PERIODS_SCHEMA_VERSION
    return CONTENTS_SCHEMA_VERSION if type(payload) in SAYS else SCHEMA_VERSION


def _sealed(
    events: Sequence[Event],
    keys: Mapping[int, SubjectKey],
    periods: Mapping[int, bytes],
    ids: Sequence[bytes],
) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    encode = _encoder.encode
    only = next(iter(periods.values())) if len(periods) == 1 else None
    nonces, of_accounts = _nonces(len(ids)), _nonces(len(ids))
    for event, id, nonce, of_account in zip(events, ids, nonces, of_accounts, strict=True):
        stream, payload, account = event.stream.int, event.payload, event.account
        at, period, schema_version = event.occurred_at, None, SCHEMA_VERSION
        if type(payload) is Tracked:
            period, schema_version = only or periods[month_of(at)], PERIODS_SCHEMA_VERSION
        elif type(payload) in SAYS:
            own, schema_version = keys[int.from_bytes(id)], CONTENTS_SCHEMA_VERSION
            bound = envelope(stream, event.version, id, account, event.topic, schema_version, at)
            yield bound, own.seal(encode(payload), _SUBJECT_PART + bound, nonce), None
            continue
        bound = envelope(stream, event.version, id, account, event.topic, schema_version, at)
        if type(payload) is Erased:
            yield bound, b"", None
            continue
        if type(payload) is ActivitySummed:
            yield bound, *_sums(event, payload, keys, bound, (nonce, of_account))
            continue
        state = keys[stream].seal(encode(payload), _SUBJECT_PART + bound, nonce, period)
        if account is None:
            yield bound, state, None
            continue
        part = event.account_part
        if part is None:
            yield bound, state, None
        else:
            kept = keys[account.int].seal(encode(part), _ACCOUNT_PART + bound, of_account, period)
            yield bound, state, kept


def _sums(
    event: Event,
    sums: ActivitySummed,
    keys: Mapping[int, SubjectKey],
    bound: bytes,
    nonces: tuple[bytes, bytes],
) -> tuple[bytes, bytes | None]:
    """The two parts of what is left of activity. That of somebody erased is sealed under a key that
    nobody keeps: it is as unreadable as all else of him."""
    plain = _encoder.encode(sums)
    own = keys.get(event.stream.int) or _key_of_nobody()
    state = own.seal(plain, _SUBJECT_PART + bound, nonces[0])
    if event.account is None:
        return state, None
    theirs = keys.get(event.account.int) or _key_of_nobody()
    return state, theirs.seal(plain, _ACCOUNT_PART + bound, nonces[1])


def _key_of_nobody() -> SubjectKey:
    return SubjectKey(1, os.urandom(KEY_BYTES))


class Sealer:
    """Turns events into rows of the log and back."""

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
        """What of tracked activity still opens."""
        return self._keys.periods.kept()

    def sealing(self, events: Sequence[Event]) -> Sealing:
        """Gets the keys of events whose payloads, and apart from them what their accounts keep,
        are sealed when they are written.

        Raises:
            SubjectErased: a subject's key was destroyed. Sums of what somebody did go without
                what is sealed under it.
            PeriodOver: activity is older than what is kept of it.
        """
        needed = _needed(events)
        keys = self._keys.fetch_or_make(needed.subjects)
        if needed.summed:
            keys |= self._keys.fetch(needed.summed)
        periods = self._keys.fetch_or_make_periods(needed.months)
        # A seal for the subject, and one for the account.
        for n in self._keys.drawn(2 * len(events)):
            event = events[n // 2]
            sealed_for = event.account if n % 2 else event.stream
            if sealed_for is not None and sealed_for.int in keys:
                self._keys.count(sealed_for.int, keys[sealed_for.int].version)
        return Sealing(events, keys, periods, needed.own_ids)

    def seal_events(self, events: Sequence[Event]) -> list[SealedEvent]:
        """The rows of events. Raises: SubjectErased: as `sealing`."""
        return self.sealing(events).rows()

    def open_rows(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None = None
    ) -> list[OpenedEvent]:
        """Opens rows; parts whose key is destroyed, or not among `keys` if given, come back as
        None, and both parts of tracked activity that is no longer kept.

        Raises:
            Tampered: a part was altered or moved; names partition and position.
            UnknownForm: it was written by a newer version; names the place too.
        """
        secrets = self._secrets(rows, keys)
        try:
            return [_opened(row, secrets) for row in rows]
        except UnreadableEvent:
            newer = self._newer(rows, secrets)
            if newer is None:
                raise
        return [_opened(row, newer) for row in rows]

    def open_each(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None = None
    ) -> list[OpenedEvent | Gap]:
        """As `open_rows`; rows that do not open come back as gaps, in their places."""
        secrets = self._secrets(rows, keys)
        try:
            return [_opened(row, secrets) for row in rows]
        except UnreadableEvent:
            secrets = self._newer(rows, secrets) or secrets
        return [_opened_or_gap(row, secrets) for row in rows]

    def _secrets(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None
    ) -> _Secrets:
        if keys is None:
            subjects = {row.stream.int for row in rows}
            subjects.update(
                row.account.int for row in rows if row.account_state is not None and row.account
            )
            keys = self._keys.fetch(subjects)
        kept = self.kept()
        periods = self._keys.fetch_periods(
            {month_of(row.occurred_at) for row in rows if _is_of_period(row)}
        )
        return _Secrets(keys, periods, kept, self.contents(rows))

    def _newer(self, rows: Sequence[RecordedEvent], secrets: _Secrets) -> _Secrets | None:
        """The same with versions of keys that another process made since; None: there are none."""
        behind = _behind(rows, secrets.keys)
        if not behind:
            return None
        return secrets._replace(keys={**secrets.keys, **self._keys.fetch_anew(behind)})

    def contents(self, rows: Sequence[RecordedEvent]) -> dict[uuid.UUID, Current]:
        """What of the rows is sealed under a key of its own, by the id of the event; or is replaced
        since: this also of what was recorded before there were such keys."""
        saying = {SubjectId(row.event_id): row for row in rows if row.topic in SAYING_TOPICS}
        if not saying:
            return {}
        now = self._contents.now(saying)
        return {
            id: now.get(id, Current(id, None))
            for id, row in saying.items()
            if row.schema_version >= CONTENTS_SCHEMA_VERSION
            or (id in now and (now[id].key is None or now[id].state is not None))
        }

    def replacement(self, row: RecordedEvent, payload: Payload) -> Replacement:
        """What is to stand in place of the payload of a row."""
        return self._contents.replacement(_encoder.encode(payload), envelope_of(row))

    def open_events(
        self, rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey] | None = None
    ) -> list[Event]:
        """The domain events of rows whose subjects are not erased; `keys` as in `open_rows`.

        Raises:
            Tampered: as `open_rows`.
        """
        return [
            event_of(one, one.payload)
            for one in self.open_rows(rows, keys)
            if one.payload is not None
        ]

    def seal_states(self, states: Sequence[Subject]) -> list[bytes]:
        """Seals aggregates' states for snapshots.

        Raises:
            SubjectErased: a subject's key was destroyed.
        """
        keys = self._keys.fetch_or_make({one.id.int for one in states})
        for n in self._keys.drawn(len(states)):
            self._keys.count(states[n].id.int, keys[states[n].id.int].version)
        return [
            keys[one.id.int].seal(_encoder.encode(one), _snapshot_bound(one.id, one.version), nonce)
            for one, nonce in zip(states, _nonces(len(states)), strict=True)
        ]

    def open_states(
        self, kind: SubjectKind, snapshots: Iterable[tuple[SubjectId, int, bytes]]
    ) -> dict[SubjectId, User | Account]:
        """Opens snapshots; those of erased subjects are absent."""
        snapshots = list(snapshots)
        keys = self._keys.fetch(subject.int for subject, _, _ in snapshots)
        behind = {
            subject.int
            for subject, _, sealed in snapshots
            if subject.int in keys and keys[subject.int].is_behind(sealed)
        }
        if behind:
            keys |= self._keys.fetch_anew(behind)
        state_type: type[User] | type[Account] = User if kind is SubjectKind.USER else Account
        return {
            subject: msgspec.msgpack.decode(
                unseal(keys[subject.int], sealed, _snapshot_bound(subject, version)),
                type=state_type,
            )
            for subject, version, sealed in snapshots
            if subject.int in keys
        }


def _behind(rows: Sequence[RecordedEvent], keys: Mapping[int, SubjectKey]) -> set[int]:
    """Those whose keys lack the version that a row was sealed with: another process made it."""
    parts = [(row.stream.int, row.state) for row in rows] + [
        (row.account.int, row.account_state)
        for row in rows
        if row.account is not None and row.account_state is not None
    ]
    return {
        subject for subject, sealed in parts if subject in keys and keys[subject].is_behind(sealed)
    }


def _snapshot_bound(subject: SubjectId, version: int) -> bytes:
    return _SNAPSHOT + subject.bytes + struct.pack(">qH", version, SCHEMA_VERSION)


class _Secrets(NamedTuple):
    """What opens some rows."""

    keys: Mapping[int, SubjectKey]
    periods: Mapping[int, bytes]
    kept: RetentionBounds
    contents: Mapping[uuid.UUID, Current]


class _Needed(NamedTuple):
    """What is needed to seal some events.

    Attributes:
        subjects: whose keys have to be there.
        summed: who keep sums: where one is erased by now, its part is left out.
        months: of activity.
        own_ids: of those events that have a key of their own, by index.
    """

    subjects: set[int]
    summed: set[int]
    months: set[int]
    own_ids: dict[int, bytes]


def _needed(events: Sequence[Event]) -> _Needed:
    needed = _Needed(set(), set(), set(), {})
    subjects, months = needed.subjects, needed.months
    for n, event in enumerate(events):
        payload_type, account = type(event.payload), event.account
        if payload_type is Tracked:
            subjects.add(event.stream.int)
            months.add(month_of(event.occurred_at))
            if account is not None:
                subjects.add(account.int)
            continue
        if payload_type is ActivitySummed:
            needed.summed.add(event.stream.int)
            if account is not None:
                needed.summed.add(account.int)
            continue
        if payload_type is not Erased:
            subjects.add(event.stream.int)
        if account is not None and event.needs_account:
            subjects.add(account.int)
        if payload_type in SAYS:
            [needed.own_ids[n]] = _random_ids(1)
            subjects.add(int.from_bytes(needed.own_ids[n]))
    return needed


def _is_of_period(row: RecordedEvent) -> bool:
    return row.schema_version >= PERIODS_SCHEMA_VERSION and row.topic in ACTIVITY_OF_TOPIC


def _opened_or_gap(row: RecordedEvent, secrets: _Secrets) -> OpenedEvent | Gap:
    try:
        return _opened(row, secrets)
    except UnreadableEvent as error:
        is_altered = isinstance(error, Tampered)
        reason = GapReason.ALTERED if is_altered else GapReason.UNREADABLE
        return Gap(row, reason, type(error).__name__)


def _opened(row: RecordedEvent, secrets: _Secrets) -> OpenedEvent:
    keys, periods, kept, contents = secrets
    if not row.state and PAYLOAD_OF_TOPIC.get(row.topic) is Erased:
        return OpenedEvent(row, Erased())
    is_activity = row.topic in ACTIVITY_OF_TOPIC
    if is_activity and not kept.has(row.occurred_at, row.log_partition, row.position):
        return OpenedEvent(row, None, is_kept=False)
    bound = envelope_of(row)
    payload: Payload | None = None
    part: AccountPart | None = None
    sums: ActivitySummed | None = None
    try:
        secret = periods[month_of(row.occurred_at)] if _is_of_period(row) else None
        own = contents.get(row.event_id)
        key = keys.get(row.stream.int) if own is None else own.key
        if key is not None and secret is not None:
            key = key.of_period(secret)
        if key is not None:
            plain = (
                own.opened(bound)
                if own is not None and own.state is not None
                else unseal(key, row.state, _SUBJECT_PART + bound)
            )
            payload = _decoders[row.topic].decode(plain)
        is_owed = row.account is not None and (is_activity or row.topic in SUMMED_TOPICS)
        if not row.state or is_owed != (row.account_state is not None):
            raise Tampered("a part is missing, or is one too many")
        if row.account_state is not None and row.account is not None:
            key = keys.get(row.account.int)
            if key is not None and secret is not None:
                key = key.of_period(secret)
            if key is not None:
                plain = unseal(key, row.account_state, _ACCOUNT_PART + bound)
                if is_activity:
                    part = _account_decoder.decode(plain)
                else:
                    sums = _sums_decoder.decode(plain)
    except (Tampered, InvalidTag, KeyError, ValueError, msgspec.MsgspecError) as error:
        place = f"the event at partition {row.log_partition}, position {row.position}"
        is_known = row.topic in PAYLOAD_OF_TOPIC and row.schema_version <= CONTENTS_SCHEMA_VERSION
        if is_known and not isinstance(error, msgspec.MsgspecError):
            raise Tampered(f"{place} does not open: it was altered or moved") from None
        raise UnknownForm(
            f"{place} is of a form that is not known: it was written by a newer version, or altered"
        ) from None
    return OpenedEvent(row, payload, part, sums)
