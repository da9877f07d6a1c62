"""Searching for values that should be gone: the forms that they could have, and what was found."""

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
"""Of a value. What is shorter stands everywhere by chance."""


class Finding(msgspec.Struct, frozen=True):
    """
    Attributes:
        value: which of the values, by its index.
        form: in which it was found: `text`, `utf-16`, `base64`, `percent`, `hex`, `escaped`.
        place: a table, a large object or a file.
        count: how often.
    """

    value: int
    form: str
    place: str
    count: int


class Scan(msgspec.Struct, frozen=True):
    """What a search found.

    Attributes:
        tables, large_objects, files, bytes: how many were searched.
        not_searched: what could not be, and why.
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
                f"a value has {MIN_CHARS} to {MAX_CHARS:,} characters: what is shorter stands"
                " everywhere by chance",
                pointer=f"/values/{n}",
            )
    return list(values)


def forms(value: str) -> dict[bytes, str]:
    """What bytes a value could be kept as, whatever the case of its ASCII letters, and as which
    form. Those that are too short to mean anything are left out."""
    spelled = {
        unicodedata.normalize(form, text)
        for text in (value, value.lower(), value.upper(), value.casefold(), value.title())
        for form in ("NFC", "NFD")
    }
    found: dict[bytes, str] = {}
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
            *(("base64", one) for one in _within_base64(plain)),
        ):
            if len(content) >= MIN_CHARS:
                found.setdefault(content.lower(), form)
    return found


def _within_base64(plain: bytes) -> Iterator[bytes]:
    """The characters that base64 makes of some bytes and of nothing else, wherever in a longer text
    these begin: each holds 6 bits, and those at the ends may hold bits of what stands around."""
    for offset in range(3):
        first, end = -(-offset * 8 // 6), (offset + len(plain)) * 8 // 6
        coded = base64.b64encode(bytes(offset) + plain)[first:end]
        yield coded
        yield coded.translate(bytes.maketrans(b"+/", b"-_"))


class Searcher:
    """Finds the forms of some values in bytes, all at once."""

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
        """How often each value stands in each form in a stream of pieces; and its length."""
        counts: dict[tuple[int, str], int] = {}
        size, kept = 0, b""
        for piece in pieces:
            size += len(piece)
            content = kept + bytes(piece).lower()
            end = 0
            for match in self._pattern.finditer(content):
                end = match.end()
                for one in self._known[match[0]]:
                    counts[one] = counts.get(one, 0) + 1
            kept = content[max(end, len(content) - self.longest + 1) :]
        return counts, size


def _alternatives(contents: Sequence[bytes]) -> bytes:
    """A pattern for any of some contents that branches byte by byte: told apart by their first
    bytes, a thousand take little longer than one. The longest is found first."""
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
