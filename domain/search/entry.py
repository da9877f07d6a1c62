"""What a search looks at of a contact: its texts, folded, and the keys of its words.

Two words have a key in common where one is the other but for a slip: two letters swapped, one
missing, too many or another. For the keys of a word are the word and what is left of it without
each of its letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from domain.search.folding import folded

MAX_TEXT_CHARS = 256
"""Characters of a name, an address or an id that are compared with a search, after folding."""

MAX_LONG_CHARS = 10_000
"""Characters of a longer name, within which a search is looked for."""

MAX_OTHERS_CHARS = 512
"""Characters of the other identities."""

FORGIVING_CHARS = 4
"""In a shorter word no letter may be wrong: too little would be left of it."""

MAX_FORGIVING_CHARS = 20
_MIXED_CHARS = 12
_DIGITS = re.compile(r"\d")
_WORDS = re.compile(r"\w+")
_SIGN = 1 << 31


class SearchEntry(NamedTuple):
    """
    Attributes:
        name, address, external_id: what the contact is called, folded; empty: none. The address
            is a user's e-mail, an account's domain.
        others: its other identities, folded, with spaces between them; and its name, if that is
            longer than `MAX_TEXT_CHARS`.
        keys: of the words of all these but a long name, as signed numbers of 32 bits.
    """

    name: str
    address: str
    external_id: str
    others: str
    keys: list[int]

    @property
    def whole(self) -> str:
        """All texts, each after a space. PostgreSQL has an index on the same."""
        return f" {self.name} {self.address} {self.external_id} {self.others}"


def entry(
    name: str | None, address: str | None, external_id: str | None, identities: Iterable[str]
) -> SearchEntry:
    """The entry of a contact.

    Args:
        identities: all of them, in the order in which they were learned. Of many, the last count.
    """
    raw = (name, address, external_id)
    shown = (_start(name), _start(address), _start(external_id))
    others: list[str] = []
    room = MAX_OTHERS_CHARS
    for identity in reversed([*dict.fromkeys(identities)]):
        if identity in raw:
            continue
        text = _start(identity)
        room -= len(text) + 1
        if room < 0:
            break
        if text not in shown:
            others.append(text)
    rest = " ".join(others)
    keys: list[int] = []
    for word in dict.fromkeys(words(f"{shown[0]} {shown[1]} {shown[2]} {rest}")):
        keys += keys_of(word)
    if name is not None and len(name) > MAX_TEXT_CHARS:
        rest = f"{rest} {folded(name)[:MAX_LONG_CHARS]}".strip()
    return SearchEntry(*shown, rest, keys)


def words(text: str) -> list[str]:
    """The words of a folded text: runs of letters and digits."""
    return _WORDS.findall(text.replace("_", " "))


def searched_keys(word: str) -> list[int]:
    """The keys by which a word that is searched finds those like it. One of three letters finds
    them with a letter more, or with two swapped."""
    if len(word) == FORGIVING_CHARS - 1 and forgives(word):
        swapped = (word[1] + word[0] + word[2], word[0] + word[2] + word[1])
        return [key for text in (word, *swapped) for key in keys_of(text)]
    return keys_of(word)


def keys_of(word: str) -> list[int]:
    """The keys of a word in an entry: first that of the whole. None is remembered: words are names,
    and an erasure reaches no memory of a process."""
    if len(word) < FORGIVING_CHARS or not forgives(word):
        return [crc32(word.encode()) - _SIGN]
    if not word.isascii():
        left = [word[:n] + word[n + 1 :] for n in range(len(word))]
        return [crc32(text.encode()) - _SIGN for text in (word, *left)]
    data = word.encode()
    return [
        crc32(data) - _SIGN,
        *[crc32(data[:n] + data[n + 1 :]) - _SIGN for n in range(len(data))],
    ]


def forgives(word: str) -> bool:
    """Whether a slip in this word is forgiven: not in a number or a code."""
    if not FORGIVING_CHARS - 1 <= len(word) <= MAX_FORGIVING_CHARS:
        return False
    if word.isalpha():
        return True
    return len(word) <= _MIXED_CHARS and 3 * len(_DIGITS.findall(word)) <= len(word)


def _start(text: str | None) -> str:
    return folded(text)[:MAX_TEXT_CHARS].rstrip() if text else ""
