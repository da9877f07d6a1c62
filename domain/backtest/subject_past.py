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


class Written(NamedTuple):
    """The value of a property.

    Attributes:
        position: of the event that wrote it.
        at: the latest time for which it was sent.
        late: a value that was sent late, for a time after `at`: it holds until the next.
    """

    position: int
    at: datetime
    value: Any
    late: tuple[datetime, Any] | None = None

    @property
    def present(self) -> Any:
        return self.value if self.late is None else self.late[1]

    def confirmed(self, at: datetime) -> Written:
        """As after the value was sent again for a time."""
        if at <= self.at:
            return self
        is_over = self.late is not None and self.late[0] < at
        return self._replace(at=at, late=None if is_over else self.late)


class Past:
    """A subject as replayed so far, with the position of the event that wrote each value last."""

    def __init__(self, kind: SubjectKind) -> None:
        self.facts = Facts(kind)
        self.is_there = False
        """False where only memberships of an erased user name the subject."""
        self.written: dict[str, Written] = {}
        self.identities: list[tuple[int, int, bool, Identity]] = []
        self.released: dict[Identity, int] = {}
        self.goes_by: tuple[int, Identity] | None = None
        self.registered_at: datetime | None = None
        self.manual_stage: tuple[int, StageSet | None] = (0, None)
        self.memberships: dict[SubjectId, list[MembershipEvent]] = {}
        self.deeds: Counter[DeedKey] = Counter()
        self.seen: Seen | None = None

    def register(self, at: datetime | None) -> None:
        """The subject is on record since a time, or since an earlier one."""
        if at is not None and (self.registered_at is None or at < self.registered_at):
            self.registered_at = at


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
            case "membership_backdated", _:
                if record is None:  # at a time before its first known beginning
                    record = Membership(user, account, event.at, None, None)
                record = msgspec.structs.replace(record, joined_at=event.at)
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


def attributes_of(past: Past, merged: list[Past]) -> dict[Attribute, str | datetime]:
    """
    Args:
        merged: the subjects that were merged into this one.
    """
    attributes: dict[Attribute, str | datetime] = {}
    seen = [part.seen for part in (past, *merged) if part.seen is not None]
    registered = [part.registered_at for part in (past, *merged) if part.registered_at is not None]
    if registered or seen:
        attributes[Attribute.REGISTERED_AT] = min(registered + [span.first for span in seen])
    if seen:
        attributes[Attribute.FIRST_SEEN] = min(span.first for span in seen)
        attributes[Attribute.LAST_SEEN] = max(span.last for span in seen)
    name = name_of(past.facts.properties)
    if name is not None:
        attributes[Attribute.NAME] = name
    known = [
        (absorbed, identity)
        for position, _, absorbed, identity in sorted(past.identities)
        if past.released.get(identity, -1) < position
    ]
    external = [identity for _, identity in known if identity.scheme.is_external_id]
    if external:
        shown = external[0] if past.goes_by is None else past.goes_by[1]
        attributes[Attribute.EXTERNAL_ID] = shown.value
    for scheme, attribute in ((Scheme.EMAIL, Attribute.EMAIL), (Scheme.DOMAIN, Attribute.DOMAIN)):
        values = [
            (absorbed, identity.value) for absorbed, identity in known if identity.scheme is scheme
        ]
        own = [value for absorbed, value in values if not absorbed]
        present = past.facts.properties.get(scheme.value)
        if scheme.kind is past.facts.kind and isinstance(present, str) and present:
            attributes[attribute] = present
        elif values:
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
