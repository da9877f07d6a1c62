"""The tree of a condition: its parts, its depth and its size."""

from __future__ import annotations

from collections.abc import Iterator

from domain.conditions.language import (
    MAX_DEPTH,
    MAX_NODES,
    AllOf,
    Condition,
    Not,
    OfAccounts,
    OfUsers,
    OneOf,
)
from domain.errors import InvalidInput


def parts(condition: Condition) -> Iterator[tuple[Condition, str]]:
    """The conditions directly inside another one, each with its JSON pointer there."""
    match condition:
        case AllOf(of) | OneOf(of):
            yield from ((part, f"/of/{n}") for n, part in enumerate(of))
        case Not(of):
            yield of, "/of"
        case OfAccounts(_, where) | OfUsers(_, where):
            yield where, "/where"


def too_deep(pointer: str) -> InvalidInput:
    return InvalidInput(
        f"the condition is nested deeper than {MAX_DEPTH} levels; flatten it, or make a segment of"
        " a part and ask for that",
        pointer=pointer,
    )


def refuse_large(condition: Condition, pointer: str) -> None:
    """Raises: InvalidInput: nested deeper than MAX_DEPTH, or with more parts than MAX_NODES.

    Works without recursion, for a condition that was made in Python can have any depth.
    """
    unvisited = [(condition, pointer, 1)]
    count = 0
    while unvisited:
        node, here, depth = unvisited.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise too_deep(here)
        if count > MAX_NODES:
            raise InvalidInput(
                f"the condition has more than {MAX_NODES} parts; use `in` for lists of values, or"
                " make segments of its parts and ask for those",
                pointer=here,
            )
        unvisited += reversed([(part, f"{here}{step}", depth + 1) for part, step in parts(node)])
