"""A search as a predicate about rows of `views.search_entries`.

All of it is answered by indexes: what a text begins with by one for each text, what it contains by
trigrams, and what is like a word by the keys of words.
"""

from __future__ import annotations

import enum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from domain.errors import InvalidInput
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.search.question import Search, Token, search_of
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

_STARTING = (_entries.name, _entries.address, _entries.external_id)
"""What an entry is found by the whole or the beginning of."""


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


class Way(enum.IntEnum):
    """How a search finds a contact, the best first. A contact is found in the first way that
    fits."""

    EXACT = 0
    STARTING = 1
    CONTAINED = 2
    LIKE = 3


def found(search: Search, kind: SubjectKind) -> Predicate:
    """About a row of `views.whole_contacts`: a search finds it, in whatever way. By subject alone,
    as PostgreSQL would take the partition for something that seldom agrees."""
    found = [_finds(search, way) for way in Way]
    return contacts.c.subject.in_(
        sa.select(_entries.subject).where(
            _entries.kind == kind.value, sa.or_(*(one for one in found if one is not None))
        )
    )


def entries_by(search: Search, way: Way) -> Predicate | None:
    """About a row of `views.search_entries`: a search finds it in this way, and no better one;
    None: it finds none."""
    predicate = _finds(search, way)
    if predicate is None:
        return None
    better = [_finds(search, other) for other in Way if other < way]
    return sa.and_(predicate, *(sa.not_(one) for one in better if one is not None))


def _finds(search: Search, way: Way) -> Predicate | None:
    match way:
        case Way.EXACT:
            here = [text == search.text for text in _STARTING]
            if search.subject is not None:
                partition = log_partition(search.subject)
                mine = sa.and_(
                    _entries.log_partition == partition, _entries.subject == search.subject
                )
                here.append(mine)
            return sa.or_(*here)
        case Way.STARTING:
            # A range, for which the planner knows better than for LIKE how much is in it.
            last = search.text + LAST_CHARACTER
            return sa.or_(*(text.between(search.text, last) for text in _STARTING))
        case Way.CONTAINED:
            return sa.and_(*map(_contains, search.tokens))
        case Way.LIKE:
            if not search.is_forgiving:
                return None
            like = sa.and_(*map(_has_like, search.tokens))
            *before, unfinished = search.tokens
            if not before:
                return like
            return sa.or_(like, sa.and_(*map(_has_like, before), _contains(unfinished)))


def _has_like(token: Token) -> Predicate:
    """For each word of a token a word like it."""
    return sa.and_(
        *(
            _entries["keys"].op("&&", is_comparison=True)(
                sa.literal(word.keys, postgresql.ARRAY(sa.Integer))
            )
            for word in token.words
        )
    )


def _contains(token: Token) -> Predicate:
    """A short text of letters only where a word begins with it: an index has no answer to more."""
    text = token.text
    space = " " if token.begins_words else ""
    pattern = f"%{space}{_literal(text)}%"
    if token.rare is None:
        return _WHOLE.like(pattern)
    # Trigrams that everybody has, as of the host of an e-mail, make the index slow.
    unindexed = _WHOLE.concat("").like(pattern)
    return sa.and_(_WHOLE.like(f"%{_literal(token.rare)}%"), unindexed)


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
