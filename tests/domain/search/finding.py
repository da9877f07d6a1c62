"""What a search finds, in plain Python: the oracle of the SQL, and specs that need no database."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID, uuid5

from domain.search.entry import SearchEntry, entry
from domain.search.question import Rank, Search, Token, rank, search_of

_NAMESPACE = UUID(int=0)


def person(
    name: str | None = None, email: str | None = None, id: str | None = None, *others: str
) -> SearchEntry:
    return entry(name, email, id, [value for value in (id, email, *others) if value])


def subject_of(who: str) -> UUID:
    return uuid5(_NAMESPACE, who)


def finds(search: Search, entry: SearchEntry, subject: UUID) -> bool:
    starts = (entry.name, entry.address, entry.external_id)
    if any(text.startswith(search.text) for text in starts) or subject == search.subject:
        return True
    if all(_contains(entry, token) for token in search.tokens):
        return True
    *before, last = search.tokens
    return (
        search.is_forgiving
        and all(_has_like(entry, token) for token in before)
        and (_has_like(entry, last) or (bool(before) and _contains(entry, last)))
    )


def _has_like(entry: SearchEntry, token: Token) -> bool:
    return all(not set(word.keys).isdisjoint(entry.keys) for word in token.words)


def _contains(entry: SearchEntry, token: Token) -> bool:
    return token.is_in(entry.whole)


def answers(typed: str, entries: Mapping[str, SearchEntry]) -> list[str]:
    """Who answers a search, the best first; then in the order of the entries."""
    search = search_of(typed)
    if search is None:
        return list(entries)
    found = {
        who: ranked(search, entry, who)
        for who, entry in entries.items()
        if finds(search, entry, subject_of(who))
    }
    return sorted(found, key=lambda who: found[who])


def ranked(search: Search, entry: SearchEntry, who: str) -> Rank:
    return rank(search, entry, subject_of(who))
