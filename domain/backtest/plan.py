"""The plan of a back-test: the facts that the replay needs, and the order of the decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from domain.backtest.replay_scope import ReplayScope
from domain.conditions import language as ask
from domain.conditions.language import Condition
from domain.conditions.tree import parts as parts_of
from domain.definitions.types import (
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stages,
    Undeciding,
    family_of,
)
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from domain.workspace.dependencies import NAME_PROPERTIES, asks_the_calendar
from domain.workspace.references import Named, parts, references_of

Active = Mapping[DefinitionId, Definition]


class Node(NamedTuple):
    """A decision about all users, or about all accounts.

    Attributes:
        of: the segment, score or signal; None: the stages or the health of the kind.
    """

    family: DefinitionKind
    kind: SubjectKind
    of: DefinitionId | None = None


class Plan:
    """
    Attributes:
        scope: the facts that the replay needs.
        reach: the most steps over memberships that a condition takes.
        lists: the static segments whose lists are needed.

    Args:
        replaces: the active definition that the draft is compared with and takes the place of.

    Raises:
        InvalidInput: the draft would rest on itself, or decides nothing.
    """

    def __init__(
        self, draft: Definition, active: Active, replaces: DefinitionId | None = None
    ) -> None:
        if isinstance(draft, Undeciding):
            raise InvalidInput("this decides nothing that could be tested")
        self.draft = draft
        self.kind = draft.kind
        self.active = active
        self.replaces = replaces
        self.scope = ReplayScope()
        self.lists: list[DefinitionId] = []
        self._nodes: dict[Node, int] = {}
        self._open: set[Node] = set()
        self._named = {
            (family_of(definition), definition.kind, definition.name): id
            for id, definition in active.items()
            if isinstance(definition, Score | Signal)
        }
        self._calendar: set[bool] = set()
        reaches = [self._visit_definition(draft, with_goal=True)]
        if isinstance(draft, HealthProfile):
            reaches += [self._visit_definition(profile) for profile in self.other_profiles]
            reaches.append(self._visit(Node(DefinitionKind.STAGES, draft.kind)))
        counterpart = self.counterpart
        if counterpart is not None:
            reaches.append(self._visit(counterpart))
        self.reach = max(reaches)

    @property
    def order(self) -> list[Node]:
        """The decisions that come before the draft, each after those that it rests on."""
        return list(self._nodes)

    @property
    def calendar_moves_deeds(self) -> bool:
        return bool(self._calendar)

    @property
    def calendar_moves_all(self) -> bool:
        return True in self._calendar

    @property
    def counterpart(self) -> Node | None:
        """The active decision that the draft is compared with; None: there is none."""
        family = family_of(self.draft)
        if family in (DefinitionKind.STAGES, DefinitionKind.HEALTH):
            is_active = any(
                family_of(definition) is family and definition.kind is self.kind
                for definition in self.active.values()
                if not isinstance(definition, Undeciding)
            )
            return Node(family, self.kind) if is_active else None
        return None if self.replaces is None else Node(family, self.kind, self.replaces)

    @property
    def other_profiles(self) -> list[HealthProfile]:
        """The active profiles of the kind, without the one that the draft replaces."""
        return [
            profile
            for id, profile in self.active.items()
            if isinstance(profile, HealthProfile)
            and profile.kind is self.kind
            and id != self.replaces
        ]

    def stages(self, kind: SubjectKind) -> Stages | None:
        return next(
            (
                stages
                for stages in self.active.values()
                if isinstance(stages, Stages) and stages.kind is kind
            ),
            None,
        )

    def profiles(self, kind: SubjectKind) -> list[HealthProfile]:
        return [
            profile
            for profile in self.active.values()
            if isinstance(profile, HealthProfile) and profile.kind is kind
        ]

    def _definitions(self, node: Node) -> list[Definition]:
        match node.family:
            case DefinitionKind.STAGES:
                stages = self.stages(node.kind)
                return [] if stages is None else [stages]
            case DefinitionKind.HEALTH:
                return [*self.profiles(node.kind)]
            case _:
                definition = None if node.of is None else self.active.get(node.of)
                return [] if definition is None else [definition]

    def _node(self, named: Named) -> Node:
        match named.family:
            case DefinitionKind.STAGES | DefinitionKind.HEALTH:
                return Node(named.family, named.kind)
            case DefinitionKind.SEGMENT:
                return Node(named.family, named.kind, DefinitionId(UUID(named.name)))
            case _:
                id = self._named.get((named.family, named.kind, named.name))
                return Node(named.family, named.kind, id)

    def _visit(self, node: Node) -> int:
        """Adds a node after those that it rests on. Returns its reach."""
        if node in self._nodes:
            return self._nodes[node]
        if node in self._open:
            raise InvalidInput(
                f"the {node.family} of {node.kind}s would rest on itself; ask for something else"
            )
        self._open.add(node)
        reach = max(map(self._visit_definition, self._definitions(node)), default=0)
        if node.family is DefinitionKind.HEALTH and self.profiles(node.kind):
            reach = max(reach, self._visit(Node(DefinitionKind.STAGES, node.kind)))
        self._open.remove(node)
        self._nodes[node] = reach
        return reach

    def _visit_definition(self, definition: Definition, *, with_goal: bool = False) -> int:
        """Adds the definitions that a definition refers to. Returns its reach. A goal counts only
        in the draft."""
        if isinstance(definition, Undeciding):
            return 0
        if isinstance(definition, Segment) and definition.condition is None:
            self.lists += [id for id, other in self.active.items() if other is definition]
        for reference in references_of(definition, deciding=not with_goal):
            self._visit(self._node(reference.to))
        reaches = [0]
        for part in parts(definition):
            if not (part.decides or with_goal):
                continue
            reaches.append(self._reach(part.condition, definition.kind))
            if asks_the_calendar(part.condition):
                self._calendar |= set(_calendar(part.condition))
        return max(reaches)

    def _reach(self, condition: Condition, kind: SubjectKind) -> int:
        """Adds what a condition tests to the scope. Returns its reach."""
        scope = self.scope
        match condition:
            case ask.PropertyIs(name):
                scope.properties[kind].add(name)
            case ask.AttributeIs(ask.Attribute.NAME):
                scope.properties[kind].update(NAME_PROPERTIES)
            case ask.AttributeIs(ask.Attribute.EMAIL | ask.Attribute.DOMAIN as attribute):
                scope.properties[kind].add(attribute.value)
            case ask.Did(activity, name):
                metadata = scope.activities.setdefault((activity, name), set())
                metadata.update(part.name for part in condition.where)
                return int(kind is SubjectKind.ACCOUNT and activity != "event")
            case ask.BelongsTo():
                scope.memberships = True
            case ask.OfAccounts(_, where):
                return 1 + self._reach(where, SubjectKind.ACCOUNT)
            case ask.OfUsers(_, where):
                return 1 + self._reach(where, SubjectKind.USER)
            case ask.AllOf() | ask.OneOf() | ask.Not():
                return max((self._reach(part, kind) for part, _ in parts_of(condition)), default=0)
            case ask.StageIs():
                return self._visit(Node(DefinitionKind.STAGES, kind))
            case ask.HealthIs():
                return self._visit(Node(DefinitionKind.HEALTH, kind))
            case ask.ScoreIs(name):
                return self._visit(self._node(Named(DefinitionKind.SCORE, kind, name)))
            case ask.SignalIs(name):
                return self._visit(self._node(Named(DefinitionKind.SIGNAL, kind, name)))
            case ask.InSegment(segment):
                return self._visit(self._node(Named(DefinitionKind.SEGMENT, kind, str(segment))))
            case _:
                pass
        return 0


def _calendar(condition: Condition) -> Iterator[bool]:
    """Yields what the calendar changes in a condition: True: a date; False: only periods of
    activity."""
    inner = [part for part, _ in parts_of(condition)]
    for part in inner:
        yield from _calendar(part)
    if not inner and asks_the_calendar(condition):
        # Without any activity, no period changes a count.
        yield not isinstance(condition, ask.Did)
