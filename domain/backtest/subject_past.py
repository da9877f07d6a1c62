"""One subject, as far as it has been replayed, and what that comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.backtest.replay_scope import ReplayEvent
from domain.conditions.evaluation import Deed, Facts, Membership
from domain.conditions.language import Attribute
from domain.events.definitions import ListChange
from domain.events.payloads import MembershipChanged, MembershipStarted, Payload, StageSet
from domain.identity import Identity, Scheme, SubjectId, SubjectKind


class MembershipEvent(NamedTuple):
    """Something that happened to the record of a user in an account."""

    position: int
    verb: str
    at: datetime
    payload: Payload | None


class DeedKey(NamedTuple):
    """What is counted as one. `metadata`: what is asked for of it, as JSON; None: nobody knows."""

    activity: str
    name: str
    day: date
    in_account: bool
    metadata: bytes | None


class Seen(NamedTuple):
    first: datetime
    last: datetime

    def and_(self, other: Seen) -> Seen:
        return Seen(min(self.first, other.first), max(self.last, other.last))


class Day:
    """What occurred on a day, in no order: each thing tells which of two holds."""

    def __init__(self) -> None:
        self.events: list[ReplayEvent] = []
        self.deeds: dict[tuple[SubjectKind, SubjectId], Counter[DeedKey]] = {}
        self.seen: dict[tuple[SubjectKind, SubjectId], Seen] = {}
        self.listed: list[tuple[UUID, int, ListChange]] = []


class Past:
    """A subject, as far as it has been replayed. Of each thing the position is kept that said it
    last."""

    def __init__(self, kind: SubjectKind) -> None:
        self.facts = Facts(kind)
        self.is_there = False
        """Not for a mere membership of somebody who was erased."""
        self.written: dict[str, tuple[int, Any]] = {}
        self.identities: list[tuple[int, int, bool, Identity]] = []
        self.registered: int | None = None
        self.hand: tuple[int, StageSet | None] = (0, None)
        self.memberships: dict[SubjectId, list[MembershipEvent]] = {}
        self.deeds: Counter[DeedKey] = Counter()
        self.seen: Seen | None = None


def record_of(
    user: SubjectId, account: SubjectId, history: list[MembershipEvent]
) -> Membership | None:
    record: Membership | None = None
    for one in sorted(history):
        match one.verb, one.payload:
            case "membership_started", payload:
                properties = payload.properties if isinstance(payload, MembershipStarted) else {}
                record = Membership(user, account, one.at, None, _role(properties.get("role")))
            case "membership_ended", _:
                if record is not None:
                    record = msgspec.structs.replace(record, left_at=one.at)
            case _, MembershipChanged(values, deleted):
                if record is not None and "role" in deleted:
                    record = msgspec.structs.replace(record, role=None)
                elif record is not None and "role" in values:
                    record = msgspec.structs.replace(record, role=_role(values["role"]))
            case _:
                pass
    return record


def _role(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def deed_of(one: DeedKey, count: int) -> Deed:
    metadata = None if one.metadata is None else msgspec.json.decode(one.metadata)
    return Deed(one.activity, one.name, one.day, one.in_account, count, metadata)


def attributes_of(past: Past, seen: list[Seen]) -> dict[Attribute, str | datetime]:
    found: dict[Attribute, str | datetime] = {}
    if Attribute.REGISTERED_AT in past.facts.attributes:
        found[Attribute.REGISTERED_AT] = past.facts.attributes[Attribute.REGISTERED_AT]
    if seen:
        found[Attribute.FIRST_SEEN] = min(one.first for one in seen)
        found[Attribute.LAST_SEEN] = max(one.last for one in seen)
    name = name_of(past.facts.properties)
    if name is not None:
        found[Attribute.NAME] = name
    known = [(absorbed, one) for _, _, absorbed, one in sorted(past.identities)]
    external = [one.value for _, one in known if one.scheme.is_external_id]
    if external:
        found[Attribute.EXTERNAL_ID] = external[0]
    for scheme, attribute in ((Scheme.EMAIL, Attribute.EMAIL), (Scheme.DOMAIN, Attribute.DOMAIN)):
        values = [(absorbed, one.value) for absorbed, one in known if one.scheme is scheme]
        own = [value for absorbed, value in values if not absorbed]
        if values:
            found[attribute] = own[-1] if own else values[-1][1]
    return found


def name_of(properties: Mapping[str, Any]) -> str | None:
    """The name of a subject, as lists show it: `name`, else `full_name`, else first and last."""

    def text(name: str) -> str | None:
        value = properties.get(name)
        if value is None or isinstance(value, str):
            return value
        return msgspec.json.encode(value).decode()

    for whole in ("name", "full_name"):
        found = text(whole)
        if found is not None:
            return found
    parts = [
        next((value for one in names if (value := text(one)) is not None), "")
        for names in (("first_name", "firstName"), ("last_name", "lastName"))
    ]
    return " ".join(parts).strip(" ") or None
