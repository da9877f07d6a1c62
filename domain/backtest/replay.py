"""The past again: what was known of users and accounts at the end of each calendar day.

Events count from the day on which they occurred, however late they were told. Of what happened to
a subject up to a day, what was recorded last holds: so on the last day all is as it stands now.
Two subjects that turned out to be one are two until the day on which they did.

It keeps only what is asked for, by day, so that a long past of many subjects fits in memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, tzinfo
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
    attributes_of,
    deed_of,
    record_of,
)
from domain.calendar import day_of
from domain.conditions.evaluation import Facts, Membership, World
from domain.conditions.language import Attribute
from domain.definitions.retention import RetentionBounds
from domain.events.definitions import ListChange, MembersListed
from domain.events.payloads import (
    Absorbed,
    ActivitySummed,
    Identified,
    MembershipStarted,
    MergedInto,
    PropertiesChanged,
    Registered,
    StageReleased,
    StageSet,
    Tracked,
)
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.name_rules import NameRules
from domain.properties import converted

_TRACKED = {topic.partition(".")[2]: activity for topic, activity in ACTIVITY_OF_TOPIC.items()}
_SUMMED = "activity_summed"
_MEMBERSHIP_VERBS = ("membership_started", "membership_changed", "membership_ended")


class Replay:
    """
    Attributes:
        world: as of the day that was reached.
        hand: of those subjects whose stage is set by hand, the stage.
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
            names: by which properties have other types than they were sent with.
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
        self.hand: dict[UUID, str | None] = {}

    # -- what is told

    def tell(self, events: Iterable[ReplayEvent], bounds: RetentionBounds) -> None:
        """Takes events in, those of each stream in their order, before the first day is reached.
        Of activity they are those that are still kept; which days of it count, `kept` says."""
        for event in events:
            if event.verb in _TRACKED:
                self._tell_deed(event, bounds)
            elif event.verb == _SUMMED:
                self._tell_sums(event, bounds)
            elif event.account is not None and event.verb in _MEMBERSHIP_VERBS:
                if self._is_chosen(event.stream) or self._is_chosen(event.account):
                    self._day(self._effective(event, event.account)).events.append(event)
            elif self._scope.memberships or self._is_chosen(event.stream):
                if isinstance(event.payload, Absorbed):
                    self._absorbed_at[event.stream] = event.at
                says = event.payload is not None and self._is_chosen(event.stream)
                if says or event.verb == "merged_into":
                    self._day(event.at).events.append(event)

    def tell_list(self, segment: UUID, position: int, at: datetime, change: ListChange) -> None:
        """Takes in a change of the list of a static segment."""
        self._day(at).listed.append((segment, position, change))

    def _is_chosen(self, subject: SubjectId) -> bool:
        return self._chosen is None or subject in self._chosen

    def _day(self, at: datetime) -> Day:
        return self._days[day_of(at, self._zone)]

    def _effective(self, event: ReplayEvent, account: SubjectId) -> datetime:
        """What was taken over from a merged user has dates of its own, but was the survivor's
        only from the merge on."""
        key = (event.stream, account)
        if event.verb == "membership_started":
            taken = isinstance(event.payload, MembershipStarted) and event.payload.taken_from
            self._begun[key] = self._absorbed_at.get(event.stream) if taken else None
        since = self._begun.get(key)
        return event.at if since is None else max(event.at, since)

    def _tell_deed(self, event: ReplayEvent, bounds: RetentionBounds) -> None:
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

    def _tell_sums(self, event: ReplayEvent, bounds: RetentionBounds) -> None:
        """What is left of activity that is no longer kept: of its metadata nothing."""
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
        """What it counts as, if somebody asks for it."""
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

    # -- as time goes on

    def advance(self, day: date | None) -> set[SubjectId]:
        """Goes on to the end of a day; None: to the end of all that was told. Returns the
        subjects about whom there is something new, those that turned out to be another one
        included."""
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
            self._show(id)
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
        past = self._past(event.kind, id)
        past.is_there = True
        match payload:
            case Registered(identities):
                past.identities += [
                    (position, n, False, identity) for n, identity in enumerate(identities)
                ]
                if past.registered is None or position < past.registered:
                    past.registered = position
                    past.facts.attributes[Attribute.REGISTERED_AT] = event.at
            case Identified(identities):
                past.identities += [
                    (position, n, False, identity) for n, identity in enumerate(identities)
                ]
            case PropertiesChanged(values, deleted):
                self._write(past, position, dict.fromkeys(deleted) | dict(values))
            case Absorbed():
                past.identities += [
                    (position, n, True, identity) for n, identity in enumerate(payload.identities)
                ]
                self._write(past, position, payload.properties)
            case StageSet() | StageReleased():
                if position > past.hand[0]:
                    past.hand = (position, payload if isinstance(payload, StageSet) else None)
            case _:
                return set()
        return {id}

    def _write(self, past: Past, position: int, values: Mapping[str, Any]) -> None:
        kind = past.facts.kind
        types = self._types[kind]
        for name, sent in values.items():
            if name in self._scope.properties[kind]:
                before = past.written.get(name)
                if before is None or before[0] < position:
                    type = None if sent is None else types.get(name)
                    value = sent if type is None else converted(sent, type)
                    past.written[name] = (position, value)

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

    def _show(self, id: SubjectId) -> None:
        """Brings what the world says of a subject up to date."""
        if not self._is_chosen(id):
            return
        if id in self._gone:
            self._subjects.pop(id, None)
            self.hand.pop(id, None)
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
            name: value for name, (_, value) in past.written.items() if value is not None
        }
        deeds = sum((part.deeds for part in parts), past.deeds.copy())
        facts.deeds = [deed_of(key, count) for key, count in deeds.items()]
        facts.attributes = attributes_of(past, [part.seen for part in (past, *parts) if part.seen])
        _, hand = past.hand
        if hand is None:
            self.hand.pop(id, None)
        else:
            self.hand[id] = hand.stage
        self._subjects[id] = facts

    def is_listed(self, segment: UUID, subject: UUID) -> bool:
        """Whether a subject is on the list of a static segment, itself or as one merged into it."""
        members = self._lists.get(segment, {})
        ids = (SubjectId(subject), *self._losers.get(subject, ()))
        return any(members.get(id, (0, False))[1] for id in ids)

    def neighbours(self, subjects: Iterable[UUID]) -> Iterator[UUID]:
        """Those of the other kind that subjects have, or had, to do with."""
        for subject in subjects:
            for user, account in self._records.get(subject, {}):
                yield user if user != subject else self._merged.get(account, account)
