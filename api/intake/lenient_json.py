"""Reads JSON that the strict decoder refuses: half surrogates, bytes that are not UTF-8, NaN, and
numbers and depth without end. Each is kept in a form that the checks of values refuse, so that it
spoils one value and not the batch that it came in."""

from __future__ import annotations

import json
import math
import re

MAX_DEPTH = 64
"""The intake reads nothing that is nested deeper than this, and leaves it out."""

_MAX_DIGITS = 400

# A string that is never closed reaches to the end, so that no mark is looked at twice.
_MARKS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def loaded(text: bytes | bytearray) -> object:
    """The value that a JSON text holds.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(_shallow(text).decode("utf-8-sig", "surrogateescape"), parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _shallow(text: bytes | bytearray) -> bytes:
    pieces, depth, start = [], 0, 0
    for mark_match in _MARKS.finditer(text):
        mark = mark_match[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                pieces.append(text[start : mark_match.start()])
        elif mark in (b"]", b"}"):
            if depth == MAX_DEPTH + 1:
                pieces.append(b"[]")
                start = mark_match.end()
            depth -= 1
    if depth > MAX_DEPTH:
        raise ValueError("the text is cut short")
    return b"".join([*pieces, text[start:]])
