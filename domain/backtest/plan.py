"""What a back-test has to know and to decide, in which order."""

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
    """What is decided of all users, or of all accounts: `of` tells a segment, a score or a signal
    by its id; stages and health there are one of each."""

    family: DefinitionKind
    kind: SubjectKind
    of: DefinitionId | None = None


class Plan:
    """What has to be known and decided for a back-test, in order.

    Attributes:
        asked: what the replay has to know.
        reach: how many steps over memberships the conditions take to ask something of others.
        lists: static segments whose lists are asked for.

    Args:
        replaces: the active definition that the draft is held against, and whose place it takes.

    Raises:
        InvalidInput: what is asked for comes back to itself.
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
        self.asked = ReplayScope()
        self.lists: list[DefinitionId] = []
        self._nodes: dict[Node, int] = {}
        self._open: set[Node] = set()
        self._named = {
            (family_of(one), one.kind, one.name): id
            for id, one in active.items()
            if isinstance(one, Score | Signal)
        }
        self._calendar: set[bool] = set()
        reaches = [self._visit_definition(draft, with_goal=True)]
        if isinstance(draft, HealthProfile):
            reaches += [self._visit_definition(one) for one in self.other_profiles]
            reaches.append(self._visit(Node(DefinitionKind.STAGES, draft.kind)))
        counterpart = self.counterpart
        if counterpart is not None:
            reaches.append(self._visit(counterpart))
        self.reach = max(reaches)

    @property
    def order(self) -> list[Node]:
        """What is decided before the draft, each after what it rests on."""
        return list(self._nodes)

    @property
    def calendar_moves_deeds(self) -> bool:
        return bool(self._calendar)

    @property
    def calendar_moves_all(self) -> bool:
        return True in self._calendar

    @property
    def counterpart(self) -> Node | None:
        """What the draft is held against; None: nothing is active in its place."""
        family = family_of(self.draft)
        if family in (DefinitionKind.STAGES, DefinitionKind.HEALTH):
            of_kind = [
                one
                for one in self.active.values()
                if not isinstance(one, Undeciding) and one.kind is self.kind
            ]
            there = any(family_of(one) is family for one in of_kind)
            return Node(family, self.kind) if there else None
        return None if self.replaces is None else Node(family, self.kind, self.replaces)

    @property
    def other_profiles(self) -> list[HealthProfile]:
        """The active profiles of stages that the draft, a profile, is not for."""
        return [
            one
            for id, one in self.active.items()
            if isinstance(one, HealthProfile) and one.kind is self.kind and id != self.replaces
        ]

    def stages(self, kind: SubjectKind) -> Stages | None:
        return next(
            (o for o in self.active.values() if isinstance(o, Stages) and o.kind is kind), None
        )

    def profiles(self, kind: SubjectKind) -> list[HealthProfile]:
        return [
            one
            for one in self.active.values()
            if isinstance(one, HealthProfile) and one.kind is kind
        ]

    def _definitions(self, node: Node) -> list[Definition]:
        match node.family:
            case DefinitionKind.STAGES:
                stages = self.stages(node.kind)
                return [] if stages is None else [stages]
            case DefinitionKind.HEALTH:
                return [*self.profiles(node.kind)]
            case _:
                found = None if node.of is None else self.active.get(node.of)
                return [] if found is None else [found]

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
        """Takes in a node and what it rests on; returns how far it reaches over memberships."""
        if node in self._nodes:
            return self._nodes[node]
        if node in self._open:
            raise InvalidInput(
                f"the {node.family} of {node.kind}s would rest on itself; ask for something else"
            )
        self._open.add(node)
        reach = max((self._visit_definition(one) for one in self._definitions(node)), default=0)
        if node.family is DefinitionKind.HEALTH and self.profiles(node.kind):
            reach = max(reach, self._visit(Node(DefinitionKind.STAGES, node.kind)))
        self._open.remove(node)
        self._nodes[node] = reach
        return reach

    def _visit_definition(self, definition: Definition, *, with_goal: bool = False) -> int:
        """Takes in what a definition asks for. Whether a signal is on rests not on its goal."""
        if isinstance(definition, Undeciding):
            return 0
        if isinstance(definition, Segment) and definition.condition is None:
            self.lists += [id for id, one in self.active.items() if one is definition]
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
        """Notes what a condition asks for; returns how far it reaches."""
        asked = self.asked
        match condition:
            case ask.PropertyIs(name):
                asked.properties[kind].add(name)
            case ask.AttributeIs(ask.Attribute.NAME):
                asked.properties[kind].update(NAME_PROPERTIES)
            case ask.Did(activity, name):
                metadata = asked.activities.setdefault((activity, name), set())
                metadata.update(one.name for one in condition.where)
                return int(kind is SubjectKind.ACCOUNT and activity != "event")
            case ask.BelongsTo():
                asked.memberships = True
            case ask.OfAccounts(_, where):
                return 1 + self._reach(where, SubjectKind.ACCOUNT)
            case ask.OfUsers(_, where):
                return 1 + self._reach(where, SubjectKind.USER)
            case ask.AllOf() | ask.OneOf() | ask.Not():
                return max((self._reach(one, kind) for one, _ in parts_of(condition)), default=0)
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
    """What the calendar moves in a condition: True: a date, False: only periods of deeds."""
    inner = [one for one, _ in parts_of(condition)]
    for one in inner:
        yield from _calendar(one)
    if not inner and asks_the_calendar(condition):
        # Where nothing was done, no period changes what is counted.
        yield not isinstance(condition, ask.Did)
