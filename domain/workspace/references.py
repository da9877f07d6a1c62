"""References between definitions, and circles among them.

Conditions refer to segments by id, and to stages, scores and signals by name within a kind. The
references of all families form a graph. The stages of a kind are one node, for the first stage that
holds wins; the health of a kind is one node too, and rests on its stages and all of its profiles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from domain.conditions.counters import Counter, counters_of
from domain.conditions.language import (
    Condition,
    HealthIs,
    InSegment,
    OfAccounts,
    OfUsers,
    ScoreIs,
    SignalIs,
    StageIs,
)
from domain.conditions.tree import parts as parts_of
from domain.definitions.destinations import Destination
from domain.definitions.types import (
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    Segment,
    Settings,
    Signal,
    Stages,
    Undeciding,
    family_of,
)
from domain.identity import SubjectKind


class Named(NamedTuple):
    """The target of a reference in a condition.

    Attributes:
        name: the name of a stage, score or signal, or the id of a segment; empty: the stages or
            the health of the kind as a whole.
    """

    family: DefinitionKind
    kind: SubjectKind
    name: str = ""


class Reference(NamedTuple):
    """A reference; `pointer` is the JSON pointer to it in its definition."""

    to: Named
    pointer: str


class Part(NamedTuple):
    """A condition inside a definition.

    Attributes:
        decides: whether others can rest on the answer. A goal decides nothing.
    """

    condition: Condition
    pointer: str
    decides: bool = True


def parts(definition: Definition) -> Iterator[Part]:
    """The conditions of a definition, each with its JSON pointer."""
    match definition:
        case Segment(_, _, condition):
            if condition is not None:
                yield Part(condition, "/condition")
        case Stages(_, _, stages):
            for n, stage in enumerate(stages):
                yield Part(stage.condition, f"/stages/{n}/condition")
        case HealthProfile():
            if definition.good is not None:
                yield Part(definition.good, "/good")
            if definition.bad is not None:
                yield Part(definition.bad, "/bad")
        case Score(_, _, rules):
            for n, rule in enumerate(rules):
                yield Part(rule.condition, f"/rules/{n}/condition")
        case Signal():
            yield Part(definition.condition, "/condition")
            if definition.goal is not None:
                yield Part(definition.goal, "/goal", decides=False)
        case Settings() | Destination():
            pass


def references(condition: Condition, kind: SubjectKind, pointer: str = "") -> Iterator[Reference]:
    """The definitions that a condition about a kind refers to."""
    match condition:
        case StageIs(stages):
            for n, stage in enumerate(stages):
                yield Reference(
                    Named(DefinitionKind.STAGES, kind, stage or ""), f"{pointer}/stages/{n}"
                )
        case HealthIs():
            yield Reference(Named(DefinitionKind.HEALTH, kind), f"{pointer}/health")
        case ScoreIs(score):
            yield Reference(Named(DefinitionKind.SCORE, kind, score), f"{pointer}/score")
        case SignalIs(signal):
            yield Reference(Named(DefinitionKind.SIGNAL, kind, signal), f"{pointer}/signal")
        case InSegment(segment):
            named = Named(DefinitionKind.SEGMENT, kind, str(segment))
            yield Reference(named, f"{pointer}/segment")
        case OfAccounts(_, where):
            yield from references(where, SubjectKind.ACCOUNT, f"{pointer}/where")
        case OfUsers(_, where):
            yield from references(where, SubjectKind.USER, f"{pointer}/where")
        case _:
            for part, step in parts_of(condition):
                yield from references(part, kind, f"{pointer}{step}")


def references_of(definition: Definition, *, deciding: bool = False) -> Iterator[Reference]:
    """The definitions that a definition refers to.

    Args:
        deciding: leaves out references that decide nothing: of a goal, of the segment of a
            destination.
    """
    if isinstance(definition, Destination):
        if definition.segment is not None and definition.kind is not None and not deciding:
            named = Named(DefinitionKind.SEGMENT, definition.kind, str(definition.segment))
            yield Reference(named, "/segment")
        return
    if isinstance(definition, Settings):
        return
    for part in parts(definition):
        if part.decides or not deciding:
            yield from references(part.condition, definition.kind, part.pointer)
    if isinstance(definition, HealthProfile):
        for n, stage in enumerate(definition.stages):
            named = Named(DefinitionKind.STAGES, definition.kind, stage or "")
            yield Reference(named, f"/stages/{n}")


def provides(id: DefinitionId, definition: Definition) -> set[Named]:
    """Returns the targets that an active definition offers to conditions."""
    match definition:
        case Segment(kind):
            return {Named(DefinitionKind.SEGMENT, kind, str(id))}
        case Stages(kind, _, stages):
            return {Named(DefinitionKind.STAGES, kind, stage.name) for stage in stages}
        case Score(kind, name) | Signal(kind, name):
            return {Named(family_of(definition), kind, name)}
        case _:
            return set()


Active = Mapping[DefinitionId, Definition]
"""The active definitions, by id."""


def path_back(id: DefinitionId, active: Active) -> tuple[list[str], str] | None:
    """The shortest circle through an active definition.

    Returns:
        The names on the circle, the definition's own first and last, and the JSON pointer to the
        reference that begins it. None: no circle.
    """
    graph = _Graph(active)
    definition = active[id]
    goal = _node(id, definition)
    for reference in references_of(definition, deciding=True):
        way = graph.way(graph.node(reference.to), goal)
        if way is not None:
            return [graph.label(node) for node in (goal, *way)], reference.pointer
    return None


def _node(id: DefinitionId, definition: Definition) -> Named:
    """The node of the graph that a definition is, or is a part of."""
    if isinstance(definition, Undeciding):
        raise TypeError("settings and destinations decide nothing")
    family = family_of(definition)
    by_kind = isinstance(definition, Stages | HealthProfile)
    return Named(family, definition.kind, "" if by_kind else str(id))


class _Graph:
    def __init__(self, active: Active) -> None:
        self._labels: dict[Named, str] = {}
        self._ids: dict[Named, Named] = {}
        self._rests_on: dict[Named, list[Named]] = {}
        deciding = {
            id: definition
            for id, definition in active.items()
            if not isinstance(definition, Undeciding)
        }
        for id, definition in deciding.items():
            node = _node(id, definition)
            self._labels[node] = (
                f"{'stages' if isinstance(definition, Stages) else 'health'} of {definition.kind}s"
                if isinstance(definition, Stages | HealthProfile)
                else f"“{definition.name}”"
            )
            for named in provides(id, definition):
                self._ids[named] = node
        for id, definition in deciding.items():
            self._rests_on.setdefault(_node(id, definition), []).extend(
                self.node(reference.to) for reference in references_of(definition, deciding=True)
            )

    def node(self, named: Named) -> Named:
        if named.family in (DefinitionKind.STAGES, DefinitionKind.HEALTH):
            return named._replace(name="")
        return self._ids.get(named, named)

    def label(self, node: Named) -> str:
        return self._labels[node]

    def way(self, start: Named, goal: Named) -> list[Named] | None:
        """The nodes of the shortest way from `start` to `goal`, both included; None: no way."""
        came_from: dict[Named, Named | None] = {start: None}
        waiting = deque([start])
        while waiting:
            here = waiting.popleft()
            if here == goal:
                return list(reversed(list(_back(here, came_from))))
            for following in self._rests_on.get(here, ()):
                if following not in came_from:
                    came_from[following] = here
                    waiting.append(following)
        return None


def _back(node: Named, came_from: Mapping[Named, Named | None]) -> Iterator[Named]:
    here: Named | None = node
    while here is not None:
        yield here
        here = came_from[here]


def users_of(some: Iterable[Named], active: Active) -> list[str]:
    """The names of the definitions that refer to any of these."""
    wanted = set(some)
    return sorted(
        definition.name
        for definition in active.values()
        if not isinstance(definition, Settings)
        and any(reference.to in wanted for reference in references_of(definition))
    )


def counters_of_definition(definition: Definition) -> set[Counter]:
    """The counters that the conditions of a definition need."""
    return {counter for part in parts(definition) for counter in counters_of(part.condition)}
