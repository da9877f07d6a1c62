"""A replay of the log: the facts about users and accounts at the end of each calendar day.

An event counts from the day on which it occurred, however late it was recorded. Of the events up to
a day, the one that was recorded last holds, so the last day equals the present. Merged subjects are
apart until the day of their merge.

The replay holds only what its scope names, by day, so that years of many subjects fit in memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, tzinfo
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from domain.backtest.replay_scope import ReplayEvent, ReplayScope
from domain.backtest.subject_past import (
    Day,
    DeedKey,
    MembershipEvent,
    Past,
    Seen,
    Written,
    attributes_of,
    deed_of,
    record_of,
)
from domain.calendar import day_of
from domain.conditions.evaluation import Facts, Membership, World
from domain.definitions.retention import RetentionBounds
from domain.events.definitions import ListChange, MembersListed
from domain.events.payloads import (
    Absorbed,
    ActivitySummed,
    Dating,
    Identified,
    IdentitiesReleased,
    MembershipStarted,
    MergedInto,
    PropertiesBackdated,
    PropertiesChanged,
    PropertiesConfirmed,
    Registered,
    StageReleased,
    StageSet,
    Tracked,
)
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.name_rules import NameRules
from domain.properties import converted
from domain.registration import created_at

_TRACKED = {topic.partition(".")[2]: activity for topic, activity in ACTIVITY_OF_TOPIC.items()}
_SUMMED = "activity_summed"
_MEMBERSHIP_VERBS = (
    "membership_started",
    "membership_backdated",
    "membership_changed",
    "membership_ended",
)


class Replay:
    """
    Attributes:
        world: the facts as of the day that was reached.
        manual_stages: the stage of each subject whose stage is set manually.
    """

    def __init__(
        self,
        scope: ReplayScope,
        chosen: Iterable[SubjectId] | None,
        zone: tzinfo,
        names: NameRules,
    ) -> None:
        """
        Args:
            chosen: the subjects to replay; None: all.
            names: the rules that give properties another type than they were sent with.
        """
        self._scope = scope
        self._types = {kind: names.types_of(kind) for kind in SubjectKind}
        self._chosen = None if chosen is None else frozenset(chosen)
        self._zone = zone
        self._days: defaultdict[date, Day] = defaultdict(Day)
        self._due: list[date] = []
        self._absorbed_at: dict[SubjectId, datetime] = {}
        self._begun: dict[tuple[SubjectId, SubjectId], datetime | None] = {}
        self._pasts: dict[SubjectId, Past] = {}
        self._gone: set[SubjectId] = set()
        self._losers: dict[UUID, set[SubjectId]] = {}
        self._lists: dict[UUID, dict[SubjectId, tuple[int, bool]]] = {}
        self._subjects: dict[UUID, Facts] = {}
        self._merged: dict[UUID, UUID] = {}
        self._records: dict[UUID, dict[tuple[SubjectId, SubjectId], Membership]] = {}
        self.world = World(self._subjects, (), self._merged, self._records)
        self.manual_stages: dict[UUID, str | None] = {}

    def add(self, events: Iterable[ReplayEvent], bounds: RetentionBounds) -> None:
        """Adds events, those of a stream in their order, before the first `advance`.

        Args:
            bounds: the days of activity that retention still counts.
        """
        for event in events:
            if event.verb in _TRACKED:
                self._add_activity(event, bounds)
            elif event.verb == _SUMMED:
                self._add_sums(event, bounds)
            elif event.account is not None and event.verb in _MEMBERSHIP_VERBS:
                if self._is_chosen(event.stream) or self._is_chosen(event.account):
                    self._day(self._effective(event, event.account)).events.append(event)
            elif self._scope.memberships or self._is_chosen(event.stream):
                if isinstance(event.payload, Absorbed):
                    self._absorbed_at[event.stream] = event.at
                says = event.payload is not None and self._is_chosen(event.stream)
                if says or event.verb == "merged_into":
                    self._day(event.at).events.append(event)

    def add_list_change(
        self, segment: UUID, position: int, at: datetime, change: ListChange
    ) -> None:
        """Adds a change of the list of a static segment, before the first `advance`."""
        self._day(at).listed.append((segment, position, change))

    def _is_chosen(self, subject: SubjectId) -> bool:
        return self._chosen is None or subject in self._chosen

    def _day(self, at: datetime) -> Day:
        return self._days[day_of(at, self._zone)]

    def _effective(self, event: ReplayEvent, account: SubjectId) -> datetime:
        """When a membership event takes effect: memberships taken over from a merged user keep
        their dates, but are the survivor's from the merge on."""
        key = (event.stream, account)
        if event.verb == "membership_started":
            taken = isinstance(event.payload, MembershipStarted) and event.payload.taken_from
            self._begun[key] = self._absorbed_at.get(event.stream) if taken else None
        since = self._begun.get(key)
        return event.at if since is None else max(event.at, since)

    def _add_activity(self, event: ReplayEvent, bounds: RetentionBounds) -> None:
        day = day_of(event.at, self._zone)
        if day < bounds.counted_since:
            return
        parties = []
        if event.payload is not None or not event.is_opened:
            parties.append((event.kind, event.stream))
        if event.account is not None and (event.account_name is not None or not event.is_opened):
            parties.append((SubjectKind.ACCOUNT, event.account))
        parties = [party for party in parties if self._is_chosen(party[1])]
        if not parties:
            return
        deed = self._deed(event, day, has_metadata=day >= bounds.metadata_counted_since)
        past_day, seen = self._days[day], Seen(event.at, event.at)
        for party in parties:
            if deed is not None:
                past_day.deeds.setdefault(party, Counter())[deed] += 1
            before = past_day.seen.get(party)
            past_day.seen[party] = seen if before is None else before.and_(seen)

    def _add_sums(self, event: ReplayEvent, bounds: RetentionBounds) -> None:
        """Adds the counts of activity that retention summed; these have no metadata."""
        own = event.payload if isinstance(event.payload, ActivitySummed) else None
        parties = [] if own is None else [(event.kind, event.stream)]
        if event.account is not None and event.account_sums is not None:
            parties.append((SubjectKind.ACCOUNT, event.account))
        left = own or event.account_sums
        for sum in () if left is None else left.days:
            if sum.day < bounds.counted_since:
                continue
            past_day, seen = self._days[sum.day], Seen(sum.first_at, sum.last_at)
            in_account = event.account is not None
            deed = DeedKey(sum.activity, sum.name, sum.day, in_account, None)
            is_asked = (sum.activity, sum.name) in self._scope.activities
            for party in parties:
                if not self._is_chosen(party[1]):
                    continue
                if is_asked:
                    past_day.deeds.setdefault(party, Counter())[deed] += sum.count
                before = past_day.seen.get(party)
                past_day.seen[party] = seen if before is None else before.and_(seen)

    def _deed(self, event: ReplayEvent, day: date, *, has_metadata: bool) -> DeedKey | None:
        """The key under which an activity counts; None: no condition tests it."""
        activity = _TRACKED[event.verb]
        known = event.payload.activity if isinstance(event.payload, Tracked) else None
        name = known.name if known is not None else event.account_name
        keys = None if name is None else self._scope.activities.get((activity, name))
        if name is None or keys is None:
            return None
        metadata: bytes | None = None
        if known is not None and has_metadata:
            values = {key: known.metadata[key] for key in sorted(keys) if key in known.metadata}
            metadata = msgspec.json.encode(values)
        return DeedKey(activity, name, day, event.account is not None, metadata)

    def advance(self, day: date | None) -> set[SubjectId]:
        """Advances to the end of a day; None: applies all events that are left.

        Returns:
            The subjects that changed, merged ones included.
        """
        if not self._due:
            self._due = sorted(self._days, reverse=True)
        changed: set[SubjectId] = set()
        while self._due and (day is None or self._due[-1] <= day):
            changed |= self._apply(self._days.pop(self._due.pop()))
        return changed

    def _apply(self, day: Day) -> set[SubjectId]:
        changed: set[SubjectId] = set()
        for event in day.events:
            changed |= self._apply_event(event)
        for (kind, id), deeds in day.deeds.items():
            self._past(kind, id).deeds.update(deeds)
            changed.add(id)
        for (kind, id), seen in day.seen.items():
            past = self._past(kind, id)
            past.seen = seen if past.seen is None else past.seen.and_(seen)
            changed.add(id)
        for segment, position, change in day.listed:
            on = isinstance(change, MembersListed)
            members = self._lists.setdefault(segment, {})
            for subject in change.subjects:
                if members.get(subject, (0, on))[0] <= position:
                    members[subject] = (position, on)
                changed.add(subject)
        changed |= {SubjectId(self._merged.get(id, id)) for id in changed}
        for id in changed:
            self._update_facts(id)
        return changed

    def _past(self, kind: SubjectKind, id: SubjectId) -> Past:
        past = self._pasts.get(id)
        if past is None:
            past = self._pasts[id] = Past(kind)
        return past

    def _apply_event(self, event: ReplayEvent) -> set[SubjectId]:
        payload, id, position = event.payload, event.stream, event.position
        if event.account is not None and event.verb in _MEMBERSHIP_VERBS:
            return self._apply_membership(event, event.account)
        if event.verb == "merged_into":
            self._gone.add(id)
            survivor = payload.survivor if isinstance(payload, MergedInto) else None
            return self._merge(id, survivor)
        if event.account is not None:
            return set()
        past = self._past(event.kind, id)
        past.is_there = True
        if isinstance(payload, Dating):
            past.register(event.at)
        match payload:
            case Registered(identities):
                past.identities += [
                    (position, n, False, identity) for n, identity in enumerate(identities)
                ]
            case Identified(identities, goes_by):
                past.identities += [
                    (position, n, False, identity) for n, identity in enumerate(identities)
                ]
                if goes_by is not None and (past.goes_by is None or past.goes_by[0] < position):
                    past.goes_by = (position, goes_by)
            case IdentitiesReleased(identities):
                past.released.update(dict.fromkeys(identities, position))
            case PropertiesChanged(values, deleted):
                self._write(past, event, dict.fromkeys(deleted) | dict(values))
                self._confirm(past, position, dict.fromkeys(payload.confirmed, event.at))
                past.register(created_at(values, self._zone))
            case PropertiesBackdated(values, deleted):
                self._write_late(past, event.at, dict.fromkeys(deleted) | dict(values))
                past.register(created_at(values, self._zone))
            case PropertiesConfirmed(names):
                self._confirm(past, position, dict.fromkeys(names, event.at))
            case Absorbed():
                past.identities += [
                    (position, n, True, identity) for n, identity in enumerate(payload.identities)
                ]
                changes = dict.fromkeys(payload.deleted) | dict(payload.properties)
                self._write(past, event, changes, payload.said_at)
                self._confirm(past, position, payload.said_at)
            case StageSet() | StageReleased():
                if position > past.manual_stage[0]:
                    past.manual_stage = (
                        position,
                        payload if isinstance(payload, StageSet) else None,
                    )
            case _:
                return set()
        return {id}

    def _write(
        self,
        past: Past,
        event: ReplayEvent,
        values: Mapping[str, Any],
        said_at: Mapping[str, datetime] = MappingProxyType({}),
    ) -> None:
        for name, sent in values.items():
            if name in self._scope.properties[past.facts.kind]:
                before = past.written.get(name)
                if before is None or before.position < event.position:
                    at = said_at.get(name, event.at)
                    past.written[name] = Written(event.position, at, self._typed(past, name, sent))

    def _write_late(self, past: Past, at: datetime, values: Mapping[str, Any]) -> None:
        """Writes values that were sent late: they hold until the next that was sent for a later
        time, whichever was recorded first."""
        for name, sent in values.items():
            if name in self._scope.properties[past.facts.kind]:
                before = past.written.get(name, Written(-1, at, None))
                if before.at <= at and (before.late is None or before.late[0] <= at):
                    late = (at, self._typed(past, name, sent))
                    past.written[name] = before._replace(late=late)

    def _confirm(self, past: Past, position: int, said_at: Mapping[str, datetime]) -> None:
        """Notes that values, or their lack, were sent again for later times."""
        for name, at in said_at.items():
            if name in self._scope.properties[past.facts.kind]:
                before = past.written.get(name, Written(position, at, None))
                if before.position <= position:
                    past.written[name] = before.confirmed(at)

    def _typed(self, past: Past, name: str, sent: Any) -> Any:
        type = None if sent is None else self._types[past.facts.kind].get(name)
        return sent if type is None else converted(sent, type)

    def _apply_membership(self, event: ReplayEvent, account: SubjectId) -> set[SubjectId]:
        user = event.stream
        history = self._past(SubjectKind.USER, user).memberships.setdefault(account, [])
        history.append(MembershipEvent(event.position, event.verb, event.at, event.payload))
        if user not in self._gone:
            self._keep(user, account, record_of(user, account, history))
        return {user, SubjectId(self._merged.get(account, account))}

    def _keep(self, user: SubjectId, account: SubjectId, record: Membership | None) -> None:
        for party in (user, self._merged.get(account, account)):
            records = self._records.setdefault(party, {})
            if record is None:
                records.pop((user, account), None)
            else:
                records[user, account] = record

    def _merge(self, loser: SubjectId, survivor: SubjectId | None) -> set[SubjectId]:
        changed = {loser}
        for user, account in list(self._records.get(loser, {})):
            if user == loser:
                self._keep(user, account, None)
                changed.add(SubjectId(self._merged.get(account, account)))
        if survivor is None:
            return changed
        today = self._merged.get(survivor, survivor)
        self._merged[loser] = today
        losers = self._losers.setdefault(today, set())
        losers |= {loser} | self._losers.pop(loser, set())
        for id in losers:
            self._merged[id] = today
        moved = self._records.pop(loser, {})
        if moved:
            self._records.setdefault(today, {}).update(moved)
        return changed | {SubjectId(today)} | {SubjectId(id) for id in self.neighbours([today])}

    def _update_facts(self, id: SubjectId) -> None:
        """Updates the facts about a subject in the world."""
        if not self._is_chosen(id):
            return
        if id in self._gone:
            self._subjects.pop(id, None)
            self.manual_stages.pop(id, None)
            return
        past = self._pasts.get(id)
        losers = self._losers.get(id, ())
        parts = [self._pasts[loser] for loser in losers if loser in self._pasts]
        if not parts and (past is None or not (past.is_there or past.seen)):
            return
        if past is None:
            past = self._past(parts[0].facts.kind, id)
        facts = past.facts
        facts.properties = {
            name: written.present
            for name, written in past.written.items()
            if written.present is not None
        }
        deeds = sum((part.deeds for part in parts), past.deeds.copy())
        facts.deeds = [deed_of(key, count) for key, count in deeds.items()]
        facts.attributes = attributes_of(past, parts)
        _, manual = past.manual_stage
        if manual is None:
            self.manual_stages.pop(id, None)
        else:
            self.manual_stages[id] = manual.stage
        self._subjects[id] = facts

    def is_listed(self, segment: UUID, subject: UUID) -> bool:
        """Whether a subject, or one that was merged into it, is on the list of a static segment."""
        members = self._lists.get(segment, {})
        ids = (SubjectId(subject), *self._losers.get(subject, ()))
        return any(members.get(id, (0, False))[1] for id in ids)

    def neighbours(self, subjects: Iterable[UUID]) -> Iterator[UUID]:
        """The subjects of the other kind that share a membership with these, past ones included."""
        for subject in subjects:
            for user, account in self._records.get(subject, {}):
                yield user if user != subject else self._merged.get(account, account)
