"""Searches bytes for erased values, in every encoding that they could have. Pure."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

from domain.errors import InvalidInput

MAX_VALUES = 200
MIN_CHARS, MAX_CHARS = 6, 2_000
"""Of a value: shorter values stand everywhere by chance."""


class Finding(msgspec.Struct, frozen=True):
    """
    Attributes:
        value: the index of the found value.
        form: the encoding in which it was found: `text`, `utf-16`, `base64`, `percent`, `hex`,
            `escaped`.
        place: a table, a large object or a file.
        count: how often.
    """

    value: int
    form: str
    place: str
    count: int


class Scan(msgspec.Struct, frozen=True):
    """The result of a search.

    Attributes:
        tables, large_objects, files, bytes: how many were searched.
        not_searched: the places that could not be searched, and why.
    """

    as_of: datetime
    findings: list[Finding]
    tables: int
    large_objects: int
    files: int
    bytes: int
    not_searched: list[str]


def checked_values(values: Sequence[str]) -> list[str]:
    """Raises: InvalidInput: none, too many, or one that is too short or too long; says which."""
    if not 0 < len(values) <= MAX_VALUES:
        raise InvalidInput(f"search for 1 to {MAX_VALUES} values at a time", pointer="/values")
    for n, value in enumerate(values):
        if not MIN_CHARS <= len(value) <= MAX_CHARS:
            raise InvalidInput(
                f"a value has {MIN_CHARS} to {MAX_CHARS:,} characters: shorter ones occur"
                " everywhere by chance",
                pointer=f"/values/{n}",
            )
    return list(values)


def forms(value: str) -> dict[bytes, str]:
    """The bytes that a value could be stored as, with ASCII letters in lower case, each with its
    form. Bytes that are too short to mean anything are left out."""
    spelled = {
        unicodedata.normalize(form, text)
        for text in (value, value.lower(), value.upper(), value.casefold(), value.title())
        for form in ("NFC", "NFD")
    }
    known: dict[bytes, str] = {}
    for text in sorted(spelled):
        plain = text.encode(errors="surrogatepass")
        for form, content in (
            ("text", plain),
            ("utf-16", text.encode("utf-16-le", errors="surrogatepass")),
            ("percent", quote(plain, safe="").encode()),
            ("percent", quote(plain).encode()),
            ("percent", quote_plus(plain).encode()),
            ("hex", plain.hex().encode()),
            ("escaped", json.dumps(text)[1:-1].encode()),
            ("escaped", json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogatepass")),
            ("escaped", plain.replace(b"\\", b"\\\\")),
            ("escaped", html.escape(text).encode(errors="surrogatepass")),
            *(("base64", coded) for coded in _within_base64(plain)),
        ):
            if len(content) >= MIN_CHARS:
                known.setdefault(content.lower(), form)
    return known


def _within_base64(plain: bytes) -> Iterator[bytes]:
    """The characters that base64 makes of some bytes alone, at each offset in a longer text. A
    character holds 6 bits: those at the ends, which may hold bits of other bytes, are left out."""
    for offset in range(3):
        first, end = -(-offset * 8 // 6), (offset + len(plain)) * 8 // 6
        coded = base64.b64encode(bytes(offset) + plain)[first:end]
        yield coded
        yield coded.translate(bytes.maketrans(b"+/", b"-_"))


class Searcher:
    """Finds all forms of some values in one pass over bytes."""

    def __init__(self, values: Sequence[str]) -> None:
        self._known: dict[bytes, list[tuple[int, str]]] = {}
        for n, value in enumerate(values):
            for content, form in forms(value).items():
                self._known.setdefault(content, []).append((n, form))
        self._pattern = re.compile(_alternatives(list(self._known)), re.DOTALL)
        self.longest = max(map(len, self._known))

    def __repr__(self) -> str:
        return f"Searcher({len(self._known)} forms)"

    def search(self, pieces: Iterator[bytes]) -> tuple[dict[tuple[int, str], int], int]:
        """How often each value stands in each form in a stream of pieces, by index of the value and
        form; and the length of the stream in bytes."""
        counts: dict[tuple[int, str], int] = {}
        size, overlap = 0, b""
        for piece in pieces:
            size += len(piece)
            content = overlap + bytes(piece).lower()
            end = 0
            for match in self._pattern.finditer(content):
                end = match.end()
                for value_and_form in self._known[match[0]]:
                    counts[value_and_form] = counts.get(value_and_form, 0) + 1
            overlap = content[max(end, len(content) - self.longest + 1) :]
        return counts, size


def _alternatives(contents: Sequence[bytes]) -> bytes:
    """A pattern for any of some contents, the longest first. It branches byte by byte, so that a
    thousand contents take little longer than a single one."""
    tree: dict[int, Any] = {}
    for content in contents:
        node = tree
        for byte in content:
            node = node.setdefault(byte, {})
        node[-1] = {}
    return _branches(tree)


def _branches(node: Mapping[int, Any]) -> bytes:
    prefix = b""
    while len(node) == 1 and -1 not in node:
        [(byte, node)] = node.items()
        prefix += re.escape(bytes([byte]))
    branches = [
        re.escape(bytes([byte])) + _branches(below) for byte, below in node.items() if byte >= 0
    ]
    if not branches:
        return prefix
    ends = b"?" if -1 in node else b""
    return prefix + b"(?:" + b"|".join(branches) + b")" + ends
