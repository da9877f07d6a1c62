"""A condition from JSON. A refusal names the exact place and what would be accepted there.

Depth is checked on the raw JSON and size on the decoded tree, before any function walks it.
"""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from domain import calendar
from domain.conditions.language import (
    MAX_DEPTH,
    Attribute,
    Condition,
    Count,
    Quantifier,
    Test,
)
from domain.conditions.tree import refuse_large, too_deep
from domain.errors import InvalidInput, unknown

# A condition takes two levels of JSON; the tests and periods of the innermost take two more.
_MAX_JSON_DEPTH = 2 * MAX_DEPTH + 4

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]')
_MESSAGE_WITH_PATH = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNKNOWN_TAG = re.compile(r"Invalid (?:enum )?value '(.*)'$", re.DOTALL)

_decoder: msgspec.json.Decoder[Condition] = msgspec.json.Decoder(Condition)


def decode(raw: bytes, pointer: str = "") -> Condition:
    """A condition from JSON.

    Args:
        pointer: JSON pointer to where the condition stands in what was sent.

    Raises:
        InvalidInput: it is not a condition, is nested too deeply or is too large; with a pointer.
    """
    _refuse_deep_json(raw, pointer)
    try:
        condition = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), pointer) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the condition is no JSON: {error}", pointer=pointer) from None
    refuse_large(condition, pointer)
    return condition


def _refuse_deep_json(raw: bytes, pointer: str) -> None:
    steps: list[str | int] = []
    is_key = False
    for match in _TOKEN.finditer(raw):
        token = match.group()
        if token in (b"{", b"["):
            if len(steps) == _MAX_JSON_DEPTH:
                raise too_deep(pointer + "".join(f"/{step}" for step in steps))
            steps.append("" if token == b"{" else 0)
            is_key = token == b"{"
        elif token in (b"}", b"]"):
            if steps:
                steps.pop()
            is_key = False
        elif token == b"," and steps:
            last = steps[-1]
            if isinstance(last, int):
                steps[-1] = last + 1
            is_key = not isinstance(last, int)
        elif token == b":":
            is_key = False
        elif is_key and steps:
            steps[-1] = _escaped(token[1:-1].decode(errors="replace"))


def _refusal(message: str, pointer: str) -> InvalidInput:
    """msgspec's message, with its path as a JSON pointer and the tags that are known there."""
    match = _MESSAGE_WITH_PATH.match(message)
    assert match is not None
    detail, path = match.group(1).replace("`", ""), match.group(2) or ""
    steps = [name or index for name, index in _STEP.findall(path)]
    pointer += "".join(f"/{_escaped(step)}" for step in steps)
    tag = _UNKNOWN_TAG.match(detail)
    if tag is not None and steps:
        known = _known_tags(steps)
        if known:
            return InvalidInput(unknown(f"{steps[-1]}", tag.group(1), known), pointer=pointer)
    return InvalidInput(f"{detail[:1].lower()}{detail[1:]}", pointer=pointer)


def _known_tags(steps: list[str]) -> list[str]:
    parent = steps[-2] if len(steps) > 1 else ""
    match parent, steps[-1]:
        case "test", "op":
            return _tags(Test)
        case "count", "op":
            return _tags(Count)
        case "quantifier", "op":
            return _tags(Quantifier)
        case "period", "type":
            return _tags(calendar.Period)
        case _, "type":
            return _tags(Condition)
        case _, "activity":
            return ["event", "page", "screen", "channel", "campaign"]
        case _, "name":
            return [attribute.value for attribute in Attribute]
        case _:
            return []


def _tags(union: object) -> list[str]:
    return [tag for type in get_args(union) if isinstance(tag := type.__struct_config__.tag, str)]


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")
