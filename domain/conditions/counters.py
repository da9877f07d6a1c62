"""Counters: they answer conditions on metadata, which itself stays sealed in the log.

A counter is an activity, a name and tests of metadata. Its id is derived from these, so conditions
that ask the same share a counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from domain.calendar import Moment
from domain.conditions.evaluation import metadata_passes
from domain.conditions.language import Condition, Did, MetadataIs
from domain.conditions.tree import parts

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(tuple[MetadataIs, ...]).decode


class Counter(msgspec.Struct, frozen=True):
    """
    Attributes:
        tests: the tests of metadata, which must all hold, as canonical JSON.
    """

    activity: str
    name: str
    tests: str

    @property
    def id(self) -> UUID:
        text = _encode([self.activity, self.name, self.tests])
        return UUID(bytes=hashlib.blake2b(text, digest_size=16).digest(), version=4)

    @property
    def where(self) -> tuple[MetadataIs, ...]:
        return _decode(self.tests)

    def counts(self, metadata: Mapping[str, object], moment: Moment) -> bool:
        """Whether an event with this metadata counts. Uses only the zone of the moment."""
        return all_pass(self.where, metadata, moment)


def all_pass(where: Sequence[MetadataIs], metadata: Mapping[str, object], moment: Moment) -> bool:
    """Whether metadata passes all of some tests. Uses only the zone of the moment."""
    return all(metadata_passes(part.test, metadata.get(part.name), moment) for part in where)


def counter_of(condition: Did) -> Counter:
    """The counter that answers a condition with tests of metadata, whatever their order."""
    tests = sorted({_encode(part) for part in condition.where})
    return Counter(condition.activity, condition.name, f"[{b','.join(tests).decode()}]")


def counters_of(condition: Condition) -> set[Counter]:
    """All counters that a condition needs."""
    if isinstance(condition, Did):
        return {counter_of(condition)} if condition.where else set()
    return {counter for part, _ in parts(condition) for counter in counters_of(part)}
