"""A batch of opened events, sorted once into what the read models need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, tzinfo
from typing import NamedTuple, Protocol

from domain.events import ACTIVITY_OF_TOPIC, AccountPart, Payload, Tracked
from domain.identity import SubjectId, SubjectKind


class Place(Protocol):
    """The envelope of a recorded event, as read from the log."""

    @property
    def log_partition(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def stream(self) -> SubjectId: ...
    @property
    def account(self) -> SubjectId | None: ...
    @property
    def topic(self) -> str: ...
    @property
    def occurred_at(self) -> datetime: ...
    @property
    def recorded_at(self) -> datetime: ...


class Opened(Protocol):
    """A recorded event, opened as far as its keys still allow."""

    @property
    def row(self) -> Place: ...
    @property
    def payload(self) -> Payload | None: ...
    @property
    def account_part(self) -> AccountPart | None: ...


class DayKey(NamedTuple):
    subject: SubjectId
    activity: str
    name: str
    day: date
    in_account: bool


class DayCount:
    """How often something happened on a day, and the first and the last time."""

    __slots__ = ("count", "first_at", "last_at")

    def __init__(self, at: datetime) -> None:
        self.count = 1
        self.first_at = self.last_at = at

    def add(self, at: datetime) -> None:
        self.count += 1
        if at < self.first_at:
            self.first_at = at
        elif at > self.last_at:
            self.last_at = at


class Batch:
    """What a batch says, with merged subjects replaced by those they live on in.

    Attributes:
        changes: events of the aggregates, in order within each partition, as
            (kind, verb, subject, account, event).
        days: tracked activity, counted by subject, name and day; a user's activity in an account
            counts for both.
        uses: how often each name of activity was used, as (activity, name).
        subject_kinds: of every subject that has activity here.
    """

    def __init__(
        self, opened: Sequence[Opened], survivors: Mapping[SubjectId, SubjectId], zone: tzinfo
    ) -> None:
        self.survivors = survivors
        self.changes: list[tuple[SubjectKind, str, SubjectId, SubjectId | None, Opened]] = []
        self.days: dict[DayKey, DayCount] = {}
        self.uses: dict[tuple[str, str], DayCount] = {}
        self.subject_kinds: dict[SubjectId, str] = {}
        days = self.days
        for one in opened:
            row, payload = one.row, one.payload
            stream = survivors.get(row.stream, row.stream)
            account = row.account
            if account is not None:
                account = survivors.get(account, account)
            activity = ACTIVITY_OF_TOPIC.get(row.topic)
            if activity is None:
                kind, _, verb = row.topic.partition(".")
                self.changes.append((SubjectKind(kind), verb, stream, account, one))
                continue
            at = row.occurred_at
            day = at.astimezone(zone).date()
            part = one.account_part
            if isinstance(payload, Tracked):
                name = payload.activity.name
                self._count(days, DayKey(stream, activity, name, day, account is not None), at)
                self.subject_kinds[stream] = row.topic[: row.topic.index(".")]
            elif part is not None:
                name = part.name
            else:
                continue
            if part is not None and account is not None:
                self._count(days, DayKey(account, activity, name, day, True), at)
                self.subject_kinds[account] = SubjectKind.ACCOUNT.value
            use = self.uses.get((activity, name))
            if use is None:
                self.uses[activity, name] = DayCount(at)
            else:
                use.add(at)

    @staticmethod
    def _count(days: dict[DayKey, DayCount], key: DayKey, at: datetime) -> None:
        count = days.get(key)
        if count is None:
            days[key] = DayCount(at)
        else:
            count.add(at)
