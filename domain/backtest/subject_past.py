"""The past of a subject: the events that a replay has applied, and the facts that follow."""

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
    """An event of a user's membership of an account."""

    position: int
    verb: str
    at: datetime
    payload: Payload | None


class DeedKey(NamedTuple):
    """Activity that counts together.

    Attributes:
        metadata: the values that conditions test, as JSON; None: erased, or no longer kept.
    """

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
    """The events of a day, in no order: positions decide which of two events holds."""

    def __init__(self) -> None:
        self.events: list[ReplayEvent] = []
        self.deeds: dict[tuple[SubjectKind, SubjectId], Counter[DeedKey]] = {}
        self.seen: dict[tuple[SubjectKind, SubjectId], Seen] = {}
        self.listed: list[tuple[UUID, int, ListChange]] = []


class Past:
    """A subject as replayed so far, with the position of the event that wrote each value last."""

    def __init__(self, kind: SubjectKind) -> None:
        self.facts = Facts(kind)
        self.is_there = False
        """False where only memberships of an erased user name the subject."""
        self.written: dict[str, tuple[int, Any]] = {}
        self.identities: list[tuple[int, int, bool, Identity]] = []
        self.registered: int | None = None
        self.manual_stage: tuple[int, StageSet | None] = (0, None)
        self.memberships: dict[SubjectId, list[MembershipEvent]] = {}
        self.deeds: Counter[DeedKey] = Counter()
        self.seen: Seen | None = None


def record_of(
    user: SubjectId, account: SubjectId, history: list[MembershipEvent]
) -> Membership | None:
    """The membership after its events; None before the first."""
    record: Membership | None = None
    for event in sorted(history):
        match event.verb, event.payload:
            case "membership_started", payload:
                properties = payload.properties if isinstance(payload, MembershipStarted) else {}
                record = Membership(user, account, event.at, None, _role(properties.get("role")))
            case "membership_ended", _:
                if record is not None:
                    record = msgspec.structs.replace(record, left_at=event.at)
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


def deed_of(key: DeedKey, count: int) -> Deed:
    metadata = None if key.metadata is None else msgspec.json.decode(key.metadata)
    return Deed(key.activity, key.name, key.day, key.in_account, count, metadata)


def attributes_of(past: Past, seen: list[Seen]) -> dict[Attribute, str | datetime]:
    attributes: dict[Attribute, str | datetime] = {}
    if Attribute.REGISTERED_AT in past.facts.attributes:
        attributes[Attribute.REGISTERED_AT] = past.facts.attributes[Attribute.REGISTERED_AT]
    if seen:
        attributes[Attribute.FIRST_SEEN] = min(span.first for span in seen)
        attributes[Attribute.LAST_SEEN] = max(span.last for span in seen)
    name = name_of(past.facts.properties)
    if name is not None:
        attributes[Attribute.NAME] = name
    known = [(absorbed, identity) for _, _, absorbed, identity in sorted(past.identities)]
    external = [identity.value for _, identity in known if identity.scheme.is_external_id]
    if external:
        attributes[Attribute.EXTERNAL_ID] = external[0]
    for scheme, attribute in ((Scheme.EMAIL, Attribute.EMAIL), (Scheme.DOMAIN, Attribute.DOMAIN)):
        values = [
            (absorbed, identity.value) for absorbed, identity in known if identity.scheme is scheme
        ]
        own = [value for absorbed, value in values if not absorbed]
        if values:
            attributes[attribute] = own[-1] if own else values[-1][1]
    return attributes


def name_of(properties: Mapping[str, Any]) -> str | None:
    """The name of a subject, as lists show it: `name`, else `full_name`, else first and last."""

    def text(name: str) -> str | None:
        value = properties.get(name)
        if value is None or isinstance(value, str):
            return value
        return msgspec.json.encode(value).decode()

    for whole in ("name", "full_name"):
        name = text(whole)
        if name is not None:
            return name
    parts = [
        next((value for name in names if (value := text(name)) is not None), "")
        for names in (("first_name", "firstName"), ("last_name", "lastName"))
    ]
    return " ".join(parts).strip(" ") or None
