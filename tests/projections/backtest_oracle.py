"""The past the long way round: for each day everything is read again from the first event on, and
everything is decided again, until nothing changes any more. Back-tests are held against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any
from uuid import UUID

import msgspec

from domain.calendar import Moment
from domain.conditions.evaluation import Deed, Facts, Membership, World, holds
from domain.conditions.language import Attribute, Health
from domain.definitions import scores
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stages,
)
from domain.events.decisions import OfDay, SignalTriggered
from domain.events.payloads import (
    Absorbed,
    Dating,
    Identified,
    MembershipChanged,
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
from domain.events.recorded import OpenedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectKind
from domain.workspace.signals import SignalState, following
from infra.bootstrap.annals import Annals
from tests.random_conditions import whole

Active = Mapping[DefinitionId, Definition]
DRAFT = DefinitionId(UUID(int=1))


def told(annals: Annals) -> list[OpenedEvent]:
    """The whole log, in the order of its partitions."""
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    rows.sort(key=lambda row: (row.log_partition, row.position))
    return [
        event
        for event in annals.sealer.open_rows(rows)
        if event.row.topic.partition(".")[0] in set(SubjectKind)
    ]


class Past:
    """What was known at an instant; None: all that ever was told. Days are those of `zone`."""

    def __init__(self, log: list[OpenedEvent], until: datetime | None, zone: tzinfo) -> None:
        self.zone = zone
        self.facts: dict[UUID, Facts] = {}
        self.names: dict[UUID, list[tuple[bool, Any]]] = {}
        self.roles: dict[tuple[UUID, UUID], Membership] = {}
        self.merged: dict[UUID, UUID] = {}
        self.deeds: list[tuple[UUID, SubjectKind, Deed, datetime]] = []
        self.hands: dict[UUID, str | None] = {}
        self.gone: set[UUID] = set()
        self.registered: dict[UUID, list[datetime]] = {}
        self.said: dict[tuple[UUID, str], datetime] = {}
        taken: dict[tuple[UUID, UUID], datetime] = {}
        absorbed: dict[UUID, datetime] = {}
        for event in log:
            row, payload = event.row, event.payload
            at = row.occurred_at
            if isinstance(payload, Absorbed):
                absorbed[row.stream] = at
            if row.account is not None and "membership_" in row.topic:
                key = (row.stream, row.account)
                if isinstance(payload, MembershipStarted) and payload.taken_from is not None:
                    taken[key] = absorbed[row.stream]
                elif row.topic.endswith("_started"):
                    taken.pop(key, None)
                at = max(at, taken.get(key, at))
            if until is None or at <= until:
                self._take(event)
        self._gather()

    def _take(self, event: OpenedEvent) -> None:
        row, payload, id = event.row, event.payload, event.row.stream
        kind = SubjectKind(row.topic.partition(".")[0])
        if row.topic in ACTIVITY_OF_TOPIC:
            self._take_deed(event)
            return
        if row.account is not None and "membership_" in row.topic:
            self._take_membership(event, (id, row.account))
            return
        if row.topic.endswith("merged_into"):
            self.gone.add(id)
            if isinstance(payload, MergedInto):
                self.merged[id] = payload.survivor
        if row.account is not None:
            return
        if isinstance(payload, Dating):
            self._facts(id, kind)
            self.registered.setdefault(id, []).append(row.occurred_at)
        match payload:
            case Registered(identities) | Identified(identities):
                self.names.setdefault(id, []).extend((False, name) for name in identities)
            case Absorbed(_, identities, properties, deleted):
                self._write(id, kind, deleted, properties)
                self.said |= {(id, name): at for name, at in payload.said_at.items()}
                self.names.setdefault(id, []).extend((True, name) for name in identities)
            case PropertiesChanged(values, deleted):
                self._write(id, kind, deleted, values)
                said = (*deleted, *values, *payload.confirmed)
                self.said |= {(id, name): row.occurred_at for name in said}
            case PropertiesConfirmed(names):
                self.said |= {(id, name): row.occurred_at for name in names}
            case PropertiesBackdated(values, deleted):
                late = [
                    name
                    for name in (*deleted, *values)
                    if self.said.get((id, name), row.occurred_at) <= row.occurred_at
                ]
                self._write(id, kind, late, {n: values[n] for n in late if n in values})
                self.said |= {(id, name): row.occurred_at for name in late}
            case StageSet(stage):
                self._facts(id, kind)
                self.hands[id] = stage
            case StageReleased():
                self.hands.pop(id, None)
            case _:
                pass

    def _write(
        self, id: UUID, kind: SubjectKind, deleted: Iterable[str], values: Mapping[str, Any]
    ) -> None:
        kept = self._facts(id, kind).properties
        for name in deleted:
            kept.pop(name, None)
        kept.update(values)

    def _take_deed(self, event: OpenedEvent) -> None:
        row, activity = event.row, ACTIVITY_OF_TOPIC[event.row.topic]
        day = row.occurred_at.astimezone(self.zone).date()
        named = row.account is not None
        if isinstance(event.payload, Tracked):
            did = event.payload.activity
            deed = Deed(activity, did.name, day, named, 1, dict(did.metadata))
            kind = SubjectKind(row.topic.partition(".")[0])
            self.deeds.append((row.stream, kind, deed, row.occurred_at))
            if row.account is not None and event.account_part is not None:
                self.deeds.append((row.account, SubjectKind.ACCOUNT, deed, row.occurred_at))
        elif row.account is not None and event.account_part is not None:
            deed = Deed(activity, event.account_part.name, day, True, 1, None)
            self.deeds.append((row.account, SubjectKind.ACCOUNT, deed, row.occurred_at))

    def _take_membership(self, event: OpenedEvent, key: tuple[UUID, UUID]) -> None:
        row, payload = event.row, event.payload
        if row.topic.endswith("_started"):
            role = (
                payload.properties.get("role") if isinstance(payload, MembershipStarted) else None
            )
            self.roles[key] = Membership(*key, row.occurred_at, None, role)
        elif row.topic.endswith("_backdated"):
            before = self.roles.get(key, Membership(*key, row.occurred_at, None, None))
            self.roles[key] = msgspec.structs.replace(before, joined_at=row.occurred_at)
        elif key not in self.roles:
            return
        elif row.topic.endswith("_ended"):
            self.roles[key] = msgspec.structs.replace(self.roles[key], left_at=row.occurred_at)
        elif isinstance(payload, MembershipChanged):
            role = self.roles[key].role
            role = None if "role" in payload.deleted else payload.values.get("role", role)
            self.roles[key] = msgspec.structs.replace(self.roles[key], role=role)

    def _facts(self, id: UUID, kind: SubjectKind) -> Facts:
        return self.facts.setdefault(id, Facts(kind))

    def _today(self, id: UUID) -> UUID:
        while id in self.merged:
            id = self.merged[id]
        return id

    def _gather(self) -> None:
        seen: dict[UUID, list[datetime]] = {}
        for id, kind, deed, at in self.deeds:
            facts = self._facts(self._today(id), kind)
            facts.deeds.append(deed)
            seen.setdefault(self._today(id), []).append(at)
        for id, times in list(self.registered.items()):
            if self._today(id) != id:
                self.registered.setdefault(self._today(id), []).extend(times)
        for id, facts in self.facts.items():
            if times := self.registered.get(id, []) + seen.get(id, []):
                facts.attributes[Attribute.REGISTERED_AT] = min(times)
            if id in seen:
                facts.attributes[Attribute.FIRST_SEEN] = min(seen[id])
                facts.attributes[Attribute.LAST_SEEN] = max(seen[id])
        merged = {id: self._today(id) for id in self.merged}
        self.world = whole(
            {id: fact for id, fact in self.facts.items() if id not in self.gone},
            [role for (user, _), role in self.roles.items() if user not in self.gone],
            merged,
        )


def decided(
    log: list[OpenedEvent], draft: Definition, active: Active, moments: list[Moment]
) -> tuple[list[dict[UUID, Any]], dict[UUID, Facts]]:
    """What a draft says of each subject of its kind, by day; and of the last day what all that is
    active says, as the facts of each."""
    last: dict[UUID, Facts] = {}
    states: dict[tuple[DefinitionId, UUID], SignalState] = {}
    days: list[dict[UUID, Any]] = []
    everything = dict(active) | {DRAFT: draft}
    for moment in moments:
        past = Past(log, None if moment is moments[-1] else moment.now, moment.zone)
        world = past.world
        before: Any = None
        while True:
            after = {
                (key, id): _decision_of(
                    key, definition, id, past, world, moment, everything, draft, states
                )
                for key, definition in everything.items()
                for id, facts in world.subjects.items()
                if facts.kind is getattr(definition, "kind", None)
            }
            _put(after, world, active)
            if after == before:
                break
            before = after
        states |= {key: state for key, state in after.items() if isinstance(state, SignalState)}
        days.append(
            {
                id: answer.is_on if isinstance(answer, SignalState) else answer
                for (key, id), answer in after.items()
                if key == DRAFT
            }
        )
        last = dict(world.subjects)
    return days, last


def _put(answers: dict[tuple[DefinitionId, UUID], Any], world: World, active: Active) -> None:
    for id, facts in world.subjects.items():
        stages = next(
            (
                key
                for key, definition in active.items()
                if isinstance(definition, Stages) and definition.kind is facts.kind
            ),
            None,
        )
        facts.stage = None if stages is None else answers[stages, id]
        profiles = [
            key
            for key, definition in active.items()
            if isinstance(definition, HealthProfile)
            and definition.kind is facts.kind
            and facts.stage in definition.stages
        ]
        facts.health = answers[profiles[0], id] if profiles else Health.NORMAL
        for key, definition in active.items():
            answer = answers.get((key, id))
            match definition:
                case Score(kind, name) if kind is facts.kind:
                    facts.scores[name] = float(answer or 0)
                case Signal(kind, name) if kind is facts.kind and answer is not None:
                    (facts.signals.add if answer.is_on else facts.signals.discard)(name)
                case Segment(kind) if kind is facts.kind:
                    (facts.segments.add if answer else facts.segments.discard)(key)
                case _:
                    pass


def _decision_of(
    key: DefinitionId,
    definition: Definition,
    id: UUID,
    past: Past,
    world: World,
    moment: Moment,
    everything: Active,
    draft: Definition,
    states: dict[tuple[DefinitionId, UUID], SignalState],
) -> Any:
    match definition:
        case Stages(_, _, stages):
            if id in past.hands:
                return past.hands[id]
            return next((s.name for s in stages if holds(s.condition, id, world, moment)), None)
        case HealthProfile():
            profile = definition
            if key == DRAFT and world.subjects[id].stage not in definition.stages:
                others = [
                    other
                    for k, other in everything.items()
                    if k != DRAFT
                    and isinstance(other, HealthProfile)
                    and other.kind is definition.kind
                    and world.subjects[id].stage in other.stages
                ]
                if not others:
                    return Health.NORMAL
                profile = others[0]
            if profile.good is not None and holds(profile.good, id, world, moment):
                return Health.GOOD
            if profile.bad is not None and holds(profile.bad, id, world, moment):
                return Health.BAD
            return Health.NORMAL
        case Score(_, _, rules):
            held = [r.name for r in rules if holds(r.condition, id, world, moment)]
            return float(scores.value(rules, held))
        case Segment(_, _, condition):
            assert condition is not None
            return holds(condition, id, world, moment)
        case Signal():
            state = states.get((key, id), SignalState())
            coming = following(
                definition,
                state,
                holds=holds(definition.condition, id, world, moment),
                goal_holds=definition.goal is not None
                and holds(definition.goal, id, world, moment),
                now=moment.now,
            )
            for n, step in enumerate(coming.steps, state.ordinal + 1):
                place = (key, n, 0, OfDay(moment.today))
                event = (
                    SignalTriggered(*place, goal_due_at=coming.goal_due_at)
                    if step.what is SignalTriggered
                    else step.what(*place)
                )
                state = state.evolve(event, step.of_time or moment.now)
            return state
        case _:
            return None
