"""Objects and lists that senders nest, as flat values: the `city` of an `address` is the property
`address.city`.

Nothing is lost for its shape without being told: what lies too deep, or beyond the number of
values that are taken, is left out by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

from domain.properties import RefusedValue, normal_number, shown_name
from domain.texts import trimmed

MAX_LEVELS = 8
"""Most parts of a flattened name."""

MAX_NESTED_VALUES = 256
"""Most values that are taken out of the nested objects of one object."""

_PLAIN = frozenset({str, int, float, bool, type(None)})

_NAME = re.compile("[!-~](?:[ -~]*[!-~])?")

Flat = tuple[dict[str, object], list[RefusedValue]]


def flat_traits(sent: dict[str, object]) -> Flat:
    """Properties with flat values, and those that were left out.

    A list becomes a list of texts: numbers and booleans as JSON writes them, objects and lists as
    their JSON text; null items are dropped. An empty object is nothing, and deep inside an empty
    list is too.
    """
    if _are_plain(sent) and (
        _PLAIN.issuperset(map(type, sent.values()))
        or all(type(value) in _PLAIN or _is_texts(value) for value in sent.values())
    ):
        return sent, []
    return _flattened(sent, _as_texts, keeps_empty=True)


def flat_metadata(sent: dict[str, object]) -> Flat:
    """The same of the properties of an event, which hold no lists: a list becomes its JSON text,
    and an empty one nothing."""
    if _are_plain(sent) and _PLAIN.issuperset(map(type, sent.values())):
        return sent, []
    return _flattened(sent, _as_json, keeps_empty=False)


def _are_plain(names: Mapping[str, object]) -> bool:
    """Whether there is nothing to trim or to compose in names."""
    text = "_".join(names)
    return text.isascii() and (
        (text.isidentifier() and "" not in names) or all(map(_NAME.fullmatch, names))
    )


def _is_texts(value: object) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _flattened(
    sent: Mapping[str, object], listed: Callable[[list[object]], object], *, keeps_empty: bool
) -> Flat:
    flat: dict[str, object] = {}
    refused: list[RefusedValue] = []

    def refuse(name: str, reason: str) -> None:
        refused.append(RefusedValue(shown_name(name), reason))

    def put(name: str, value: object) -> None:
        if name in flat:
            refuse(name, "the name is sent twice, once with spaces around it or as a nested object")
            return
        try:
            flat[name] = listed(value) if isinstance(value, list) else value
        except (ValueError, RecursionError):
            refuse(name, "the list holds what cannot be written as a text")

    later = []
    for name, value in sent.items():
        if value == {} or (value == [] and not keeps_empty):
            continue
        if isinstance(value, dict) or name != trimmed(name):
            later.append((trimmed(name), value))  # a name that is sent as it is comes first
        else:
            put(name, value)
    room = MAX_NESTED_VALUES
    for name, value in later:
        if not isinstance(value, dict):
            put(name, value)
            continue
        for nested_name, nested in _leaves(name, value, 1, refuse):
            if room == 0:
                refuse(name, f"at most {MAX_NESTED_VALUES} nested values are kept: send fewer")
                break
            room -= 1
            put(nested_name, nested)
    return flat, refused


def _leaves(
    prefix: str, nested: dict[str, object], level: int, refuse: Callable[[str, str], None]
) -> Iterator[tuple[str, object]]:
    """The values inside of an object, each under its whole name."""
    for part, value in nested.items():
        name = f"{prefix}.{trimmed(part)}"
        if value in ({}, []):
            continue
        if not trimmed(part) or not prefix:
            refuse(name, "a part of the name is empty")
        elif not isinstance(value, dict):
            yield name, value
        elif level + 1 < MAX_LEVELS:
            yield from _leaves(name, value, level + 1, refuse)
        else:
            refuse(name, f"nested deeper than {MAX_LEVELS} levels: send it flatter")


def _as_texts(items: list[object]) -> list[str]:
    return [item if isinstance(item, str) else _as_json(item) for item in items if item is not None]


def _as_json(value: object) -> str:
    if isinstance(value, float):
        value = normal_number(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
