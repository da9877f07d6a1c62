"""A batch of opened events, sorted once into what the read models need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from typing import NamedTuple, Protocol

from domain.definitions import DefinitionKind
from domain.events import ACTIVITY_OF_TOPIC, AccountPart, Payload, Tracked, stream_kind
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.workspace import Workspace


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


class Day(NamedTuple):
    """What a count of a subject is about."""

    activity: str
    name: str
    day: date
    in_account: bool


class Tally:
    """What a subject did in a batch: the first and the last time of all, and counts by day."""

    __slots__ = ("days", "first_at", "kind", "last_at", "subject")

    def __init__(self, subject: SubjectId, kind: str, at: datetime) -> None:
        self.subject = subject
        self.kind = kind
        self.first_at = self.last_at = at
        self.days: dict[Day, DayCount] = {}

    def add(self, day: Day, at: datetime) -> None:
        if at < self.first_at:
            self.first_at = at
        elif at > self.last_at:
            self.last_at = at
        count = self.days.get(day)
        if count is None:
            self.days[day] = DayCount(at)
        else:
            count.add(at)


class Batch:
    """What a batch says, with merged subjects replaced by those they live on in.

    Attributes:
        workspace: what holds there, as of now.
        changes: events of the aggregates, in order within each partition, as
            (kind, verb, subject, account, event).
        definitions: events about what people saved, in order within each partition.
        tallies: tracked activity of each subject; a user's activity in an account counts for both.
        uses: how often each name of activity was used, as (activity, name).
    """

    def __init__(
        self,
        opened: Sequence[Opened],
        survivors: Mapping[SubjectId, SubjectId],
        workspace: Workspace,
    ) -> None:
        self.opened = opened
        self.survivors = survivors
        self.workspace = workspace
        zones, zone = workspace.zones, workspace.zone
        self.definitions: list[Opened] = []
        self.changes: list[tuple[SubjectKind, str, SubjectId, SubjectId | None, Opened]] = []
        self.uses: dict[tuple[str, str], DayCount] = {}
        self._tallies: dict[SubjectId, Tally] = {}
        for one in opened:
            row, payload = one.row, one.payload
            stream, account, at = row.stream, row.account, row.occurred_at
            if survivors:
                stream = survivors.get(stream, stream)
                if account is not None:
                    account = survivors.get(account, account)
            activity = ACTIVITY_OF_TOPIC.get(row.topic)
            if activity is None:
                about, verb = stream_kind(row.topic), row.topic.partition(".")[2]
                if isinstance(about, DefinitionKind):
                    self.definitions.append(one)
                else:
                    self.changes.append((about, verb, stream, account, one))
                continue
            part = one.account_part
            if isinstance(payload, Tracked):
                name = payload.activity.name
            elif part is not None:
                name = part.name
            else:
                continue
            if zones.chosen:
                zone = zones.at(row.recorded_at)
            day = at.astimezone(zone).date()
            if payload is not None:
                kind = row.topic[: row.topic.index(".")]
                self._tally(stream, kind, Day(activity, name, day, account is not None), at)
            if part is not None and account is not None:
                self._tally(account, "account", Day(activity, name, day, True), at)
            use = self.uses.get((activity, name))
            if use is None:
                self.uses[activity, name] = DayCount(at)
            else:
                use.add(at)

    def _tally(self, subject: SubjectId, kind: str, day: Day, at: datetime) -> None:
        tally = self._tallies.get(subject)
        if tally is None:
            tally = self._tallies[subject] = Tally(subject, kind, at)
        tally.add(day, at)

    @cached_property
    def tallies(self) -> list[tuple[int, Tally]]:
        """By partition and subject, the order of every key: two workers that meet the same rows
        wait for one another, and never deadlock."""
        found = [(log_partition(id), tally) for id, tally in self._tallies.items()]
        return sorted(found, key=lambda one: (one[0], one[1].subject.bytes))
