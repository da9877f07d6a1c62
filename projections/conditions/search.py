"""A search as a predicate about rows of `views.search_entries`.

All of it is answered by indexes: what a text begins with by one for each text, what it contains by
trigrams, and what is like a word by the keys of words.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from domain.errors import InvalidInput
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.search.question import TRIGRAM_CHARS, Search, Token, Word, search_of
from projections.conditions.fragments import Predicate
from projections.kernel.tables import contacts, merges, search_entries

MAX_SEARCH_CHARS = 200

PLAN_EACH = sa.text("SET LOCAL plan_cache_mode = force_custom_plan")
"""How much a search finds decides about its plan: one for all searches would be none for most."""

LAST_CHARACTER = "\U0010ffff"

_entries = search_entries.c

# As the index `search_entries_by_text` has it; bound parameters would not match.
_WHOLE = sa.literal_column(
    "(' ' || search_entries.name || ' ' || search_entries.address || ' '"
    " || search_entries.external_id || ' ' || search_entries.others)",
    sa.Text,
)

STARTING = (_entries.name, _entries.address, _entries.external_id)
"""What an entry is found by the beginning of."""


def read(conn: sa.Connection, typed: str) -> Search | None:
    """Reads a search; None: nothing but spaces, which is no search. Changes settings of the
    transaction.

    Raises:
        InvalidInput: it is too long.
    """
    if len(typed) > MAX_SEARCH_CHARS:
        raise InvalidInput(f"a search is at most {MAX_SEARCH_CHARS} characters", pointer="/search")
    search = search_of(typed)
    if search is None:
        return None
    conn.execute(PLAN_EACH)
    if search.subject is None:
        return search
    survivor = conn.scalar(
        sa.select(merges.c.survivor).where(
            merges.c.log_partition == log_partition(search.subject),
            merges.c.loser == search.subject,
        )
    )
    return search if survivor is None else search.about(SubjectId(survivor))


def found(search: Search, kind: SubjectKind) -> Predicate:
    """About a row of `views.whole_contacts`: a search finds it."""
    return entry_is(kind, matching(search))


def entry_is(kind: SubjectKind, predicate: Predicate) -> Predicate:
    """About a row of `views.whole_contacts`: the predicate holds of its entry."""
    return sa.tuple_(contacts.c.log_partition, contacts.c.subject).in_(
        sa.select(_entries.log_partition, _entries.subject).where(
            _entries.kind == kind.value, predicate
        )
    )


def matching(search: Search, *, forgiving: bool = True) -> Predicate:
    """About a row of `views.search_entries`: it begins with the search, or has all its tokens.

    Args:
        forgiving: or words like those.
    """
    ways = [starting(search)]
    if search.subject is not None:
        partition = log_partition(search.subject)
        ways.append(
            sa.and_(_entries.log_partition == partition, _entries.subject == search.subject)
        )
    if search.tokens:
        ways.append(sa.and_(*(_has(token, forgiving) for token in search.tokens)))
    return sa.or_(*ways)


def starting(search: Search) -> Predicate:
    """About a row of `views.search_entries`: one of its texts begins with the search."""
    return sa.or_(*(begins(text, search) for text in STARTING))


def begins(text: sa.ColumnElement[str], search: Search) -> Predicate:
    """A range, for which the planner knows better than for LIKE how much is in it."""
    return text.between(search.text, search.text + LAST_CHARACTER)


def _has(token: Token, forgiving: bool) -> Predicate:
    contained = _contains(token.text)
    if not (forgiving and token.words):
        return contained
    return sa.or_(contained, sa.and_(*map(_has_like, token.words)))


def _has_like(word: Word) -> Predicate:
    if not word.keys:
        return _contains(word.text)
    return _entries["keys"].op("&&", is_comparison=True)(
        sa.literal(word.keys, postgresql.ARRAY(sa.Integer))
    )


def _contains(text: str) -> Predicate:
    """A short text only where a word begins with it: an index has no answer to more."""
    space = " " if len(text) < TRIGRAM_CHARS and text.isascii() else ""
    return _WHOLE.like(f"%{space}{_literal(text)}%")


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
