"""A search: how what was typed is read, and how well an entry answers it."""

from __future__ import annotations

import enum
import uuid
from typing import NamedTuple

import msgspec

from domain.identity import SubjectId
from domain.search.entry import (
    MAX_TEXT_CHARS,
    SearchEntry,
    forgives,
    searched_keys,
    words,
)
from domain.search.folding import folded

MAX_TOKENS = 12
"""Of a longer search the other tokens are not looked for."""

TRIGRAM_CHARS = 3
"""A shorter token is found only where a word begins with it."""

RARE_CHARS = 4
"""A number or code of that length is in few entries."""

_ENDS = ",;:.!?'\"()[]{}<>…·•¿¡"
"""Punctuation around words, which says nothing about them."""


class Answer(enum.IntEnum):
    """How an entry answers a search, the best first."""

    EXACT = 0
    PREFIX = 1
    CONTAINED = 2
    LIKE = 3


class Rank(NamedTuple):
    """Where an entry stands among the answers; the least comes first.

    Attributes:
        distance: within one kind of answer. Of what is alike: the number of slips.
    """

    answer: Answer
    distance: int


class Word(NamedTuple):
    """A word that is searched.

    Attributes:
        keys: a word like it has one of them.
    """

    text: str
    keys: list[int]


class Token(NamedTuple):
    """A part of a search between spaces: contained in an entry, or like words there.

    Attributes:
        rare: a number or code in it, which few others contain; None: nothing is likely to be rare.
    """

    text: str
    words: list[Word]
    rare: str | None

    @property
    def begins_words(self) -> bool:
        """Whether it is contained only where a word begins with it."""
        return len(self.text) < TRIGRAM_CHARS and self.text.isascii() and self.text.isalnum()

    def is_in(self, whole: str) -> bool:
        """Whether all texts of an entry contain it."""
        return (" " if self.begins_words else "") + self.text in whole


class Search(msgspec.Struct, frozen=True):
    """
    Attributes:
        text: as it was typed, folded.
        subject: the contact whose id in Annals it is.
        tokens: an entry contains all of them, in any order, or words like theirs. Where one has
            words, all have.
        is_forgiving: whether anything else than what is contained can be like it.
    """

    text: str
    subject: SubjectId | None
    tokens: list[Token]
    is_forgiving: bool

    def about(self, subject: SubjectId) -> Search:
        """The same search for the id of another contact."""
        return msgspec.structs.replace(self, subject=subject)


def search_of(typed: str) -> Search | None:
    """Reads a search; None: nothing but spaces, which is no search."""
    text = folded(typed)[:MAX_TEXT_CHARS].rstrip()
    if not text:
        return None
    parts = [part.strip(_ENDS) for part in text.split() if words(part)] or text.split()
    parts = list(dict.fromkeys(parts))[:MAX_TOKENS]
    tokens = [_token(part) for part in parts]
    forgiving = any(forgives(word.text) for token in tokens for word in token.words)
    return Search(text, _subject(text), tokens, forgiving)


def _subject(text: str) -> SubjectId | None:
    try:
        return SubjectId(uuid.UUID(text))
    except ValueError:
        return None


def _token(text: str) -> Token:
    of_text = words(text)
    codes = [word for word in of_text if len(word) >= RARE_CHARS and not word.isalpha()]
    rare = max(codes, key=len) if codes and len(of_text) > 1 else None
    return Token(text, [Word(word, searched_keys(word)) for word in of_text], rare)


def rank(search: Search, entry: SearchEntry, subject: uuid.UUID) -> Rank:
    """How well an entry answers a search that found it."""
    text = search.text
    if subject == search.subject:
        return Rank(Answer.EXACT, 0)
    shown = (entry.address, entry.external_id, entry.name)
    for n, value in enumerate(shown, 1):
        if value == text:
            return Rank(Answer.EXACT, n)
    if text in entry.others.split(" "):
        return Rank(Answer.EXACT, len(shown) + 1)
    if any(value.startswith(text) for value in shown):
        return Rank(Answer.PREFIX, 0)
    whole = entry.whole
    missing = [token for token in search.tokens if not token.is_in(whole)]
    if not missing:
        return Rank(Answer.CONTAINED, sum(not _begins(whole, t.text) for t in search.tokens))
    there = words(whole)
    slips = sum(
        min((_slips(word.text, other) for other in there), default=MAX_SLIPS)
        for token in missing
        for word in token.words
    )
    return Rank(Answer.LIKE, slips)


def _begins(whole: str, token: str) -> bool:
    """Whether a word begins with a token."""
    at = whole.find(token)
    while at > 0 and whole[at - 1].isalnum():
        at = whole.find(token, at + 1)
    return at >= 0


MAX_SLIPS = 3


def _slips(word: str, other: str) -> int:
    """The slips that make one word of the other: 0, 1, 2 for more; 3 for many. A word that goes
    on counts as the same."""
    if other.startswith(word):
        return 0
    if abs(len(word) - len(other)) > 1:
        return MAX_SLIPS
    start, end_word, end_other = 0, len(word), len(other)
    while start < min(end_word, end_other) and word[start] == other[start]:
        start += 1
    while min(end_word, end_other) > start and word[end_word - 1] == other[end_other - 1]:
        end_word -= 1
        end_other -= 1
    left, right = word[start:end_word], other[start:end_other]
    if max(len(left), len(right)) <= 1:
        return 1
    if len(left) == len(right) == 2 and left == right[::-1]:
        return 1
    return 2 if max(len(left), len(right)) <= 4 else MAX_SLIPS
