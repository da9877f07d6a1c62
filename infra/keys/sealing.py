"""Seals events under their subjects' keys; `infra.keys.opening` opens them again.

A sealed part is: key version (2 bytes, big-endian), nonce (12), ciphertext and tag (AES-256-GCM).
The envelope in clear is bound to it as associated data, with which part it is: two rows, two parts
or two versions that were swapped do not open. Tracked activity is sealed under keys that are
derived for the month in which it occurred: see `infra.keys.month_keys`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from domain.definitions.retention import month_of
from domain.events.event import Event
from domain.events.payloads import ActivitySummed, Erased, Payload, Tracked
from domain.events.recorded import RecordedEvent, SealedEvent
from domain.events.schema import (
    CONTENT_KEYS_VERSION,
    DAYS_VERSION,
    FIRST_VERSION,
    MONTH_KEYS_VERSION,
    WITH_VALUES,
    schema_version,
)
from domain.events.topics import SAYS
from domain.identity import SubjectId
from infra.keys.content_keys import Replacement
from infra.keys.key_encryption import KEY_BYTES
from infra.keys.opening import ACCOUNT_PART, SUBJECT_PART, EventOpener
from infra.keys.subject_key import SubjectKey, random_nonces
from infra.log.record_format import envelope, envelope_of

_TO_VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
_TO_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))

_encoder = msgspec.msgpack.Encoder()


class Sealing:
    """Events with their keys at hand; each pass over it seals them anew."""

    def __init__(
        self,
        events: Sequence[Event],
        keys: Mapping[int, SubjectKey],
        months: Mapping[int, bytes],
        own_ids: Mapping[int, bytes],
    ) -> None:
        """
        Args:
            own_ids: the ids of those events, by index, that have a key of their own; the key goes
                by the id.
        """
        self._events = events
        self._keys = keys
        self._months = months
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
        return _sealed(events, self._keys, self._months, self._ids(order))

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
                schema_version(type(event.payload)),
                event.occurred_at,
                state,
                account_state,
            )
            for event, event_id, (_, state, account_state) in zip(
                self._events,
                ids,
                _sealed(self._events, self._keys, self._months, ids),
                strict=True,
            )
        ]


class Sealer(EventOpener):
    """Turns events into rows of the log and back. Safe for use from many threads."""

    def sealing(self, events: Sequence[Event]) -> Sealing:
        """Gets the keys of events; the payloads, and apart from them the accounts' parts, are
        sealed while the rows are written.

        Raises:
            SubjectErased: a subject's key is destroyed. The sums of an erased subject's activity
                are sealed under a key that is thrown away instead.
            PeriodOver: activity is older than retention keeps.
            Unavailable: the key-encryption key is out of reach.
        """
        needed = _needed(events)
        keys = self._keys.fetch_or_make(needed.subjects)
        if needed.summed:
            keys |= self._keys.fetch(needed.summed)
        months = self._keys.months.fetch_or_make(needed.months)
        # A seal for the subject, and one for the account.
        for n in self._keys.versions.draw(2 * len(events)):
            event = events[n // 2]
            sealed_for = event.account if n % 2 else event.stream
            if sealed_for is not None and sealed_for.int in keys:
                self._keys.versions.count(sealed_for.int, keys[sealed_for.int].version)
        return Sealing(events, keys, months, needed.own_ids)

    def seal_events(self, events: Sequence[Event]) -> list[SealedEvent]:
        """The rows of events. Raises: as `sealing`."""
        return self.sealing(events).rows()

    def replacement(self, row: RecordedEvent, payload: Payload) -> Replacement:
        """A payload, sealed to stand in place of that of a row."""
        return self._contents.replacement(_encoder.encode(payload), envelope_of(row))


def _random_ids(count: int) -> list[bytes]:
    """UUIDs of version 4, as bytes, all from one call for entropy."""
    entropy = bytearray(os.urandom(16 * count))
    entropy[6::16] = entropy[6::16].translate(_TO_VERSION_4)
    entropy[8::16] = entropy[8::16].translate(_TO_VARIANT)
    ids = bytes(entropy)
    return [ids[n : n + 16] for n in range(0, 16 * count, 16)]


def _sealed(
    events: Sequence[Event],
    keys: Mapping[int, SubjectKey],
    months: Mapping[int, bytes],
    ids: Sequence[bytes],
) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    encode = _encoder.encode
    only = next(iter(months.values())) if len(months) == 1 else None
    nonces, account_nonces = random_nonces(len(ids)), random_nonces(len(ids))
    for event, id, nonce, account_nonce in zip(events, ids, nonces, account_nonces, strict=True):
        stream, payload, account = event.stream.int, event.payload, event.account
        at, month, form = event.occurred_at, None, FIRST_VERSION
        if type(payload) is Tracked:
            month, form = only or months[month_of(at)], MONTH_KEYS_VERSION
        elif type(payload) in SAYS:
            own, form = keys[int.from_bytes(id)], CONTENT_KEYS_VERSION
            bound = envelope(stream, event.version, id, account, event.topic, form, at)
            yield bound, own.seal(encode(payload), SUBJECT_PART + bound, nonce), None
            continue
        elif type(payload) in WITH_VALUES:
            form = DAYS_VERSION
        bound = envelope(stream, event.version, id, account, event.topic, form, at)
        if type(payload) is Erased:
            yield bound, b"", None
            continue
        if type(payload) is ActivitySummed:
            yield bound, *_sealed_sums(event, payload, keys, bound, (nonce, account_nonce))
            continue
        state = keys[stream].seal(encode(payload), SUBJECT_PART + bound, nonce, month)
        if account is None:
            yield bound, state, None
            continue
        part = event.account_part
        if part is None:
            yield bound, state, None
        else:
            key = keys[account.int]
            yield (
                bound,
                state,
                key.seal(encode(part), ACCOUNT_PART + bound, account_nonce, month),
            )


def _sealed_sums(
    event: Event,
    sums: ActivitySummed,
    keys: Mapping[int, SubjectKey],
    bound: bytes,
    nonces: tuple[bytes, bytes],
) -> tuple[bytes, bytes | None]:
    """The two parts of the sums of activity. Of an erased subject, a part is sealed under a key
    that is thrown away: it is as unreadable as all else of the subject."""
    plain = _encoder.encode(sums)
    key = keys.get(event.stream.int) or _throwaway_key()
    state = key.seal(plain, SUBJECT_PART + bound, nonces[0])
    if event.account is None:
        return state, None
    account_key = keys.get(event.account.int) or _throwaway_key()
    return state, account_key.seal(plain, ACCOUNT_PART + bound, nonces[1])


def _throwaway_key() -> SubjectKey:
    return SubjectKey(1, os.urandom(KEY_BYTES))


class _Needed(NamedTuple):
    """The keys that sealing some events needs.

    Attributes:
        subjects: their keys must exist.
        summed: subjects whose sums are among the events; an erased one needs no key.
        months: of tracked activity.
        own_ids: the ids of those events, by index, that have a key of their own.
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
