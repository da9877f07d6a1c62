"""Compiles conditions to the evidence of a decision: the value of a contact in each test of a
condition.

`domain.conditions.evidence` defines evidence; tests compare the two. The evidence stands in the
SELECT list of the statement that finds differing subjects, so that PostgreSQL computes it for them
alone, from the same rows and at the same instant as the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evidence import MAX_SEEN_CHARS, MAX_SEEN_ITEMS, all_leaves
from domain.identity import SubjectKind
from projections.conditions.compiler import SIDES, Compiler, QueryScope
from projections.conditions.fragments import BoundParams, Compiled, Contact, Sql
from projections.kernel.tables import contacts

PAIRS_A_CALL = 50
"""Most arguments of `jsonb_build_object`: a function of PostgreSQL takes 100."""

# A value of a property, with texts and lists cut.
_PROPERTY = Sql("""
    (SELECT CASE jsonb_typeof(of.value)
            WHEN 'string' THEN to_jsonb(left(of.value #>> '{{}}', {chars}))
            WHEN 'array' THEN (
                SELECT coalesce(jsonb_agg(left(item.value, {chars}) ORDER BY item.n), '[]')
                FROM jsonb_array_elements_text(of.value) WITH ORDINALITY AS item(value, n)
                WHERE item.n <= {items})
            ELSE of.value END
     FROM (SELECT {properties} -> {name} AS value) of)""")

_INSTANT = Sql("""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""")

_SCORE = Sql("""
    (SELECT kept.value FROM views.scores kept
     WHERE kept.score = {id} AND kept.log_partition = {c}.log_partition
       AND kept.subject = {c}.subject)""")

_SO = Sql("(SELECT jsonb_build_object('value', it.so, 'held', it.so) FROM (SELECT {so} AS so) it)")

_TIMES = Sql("""
    (SELECT jsonb_build_object('value', it.times, 'held', {held})
     FROM (SELECT coalesce(sum(did.count), 0) AS times FROM {deeds}) it)""")

_OTHERS = Sql("""
    (SELECT jsonb_build_object('value', it.so, 'held', {held})
     FROM (SELECT count(DISTINCT {theirs}) FILTER (WHERE {holds}) AS so,
                  coalesce(bool_and({holds}), false) AS every
           FROM {others}) it)""")

_TEXTS = {
    ask.Attribute.NAME,
    ask.Attribute.EXTERNAL_ID,
    ask.Attribute.EMAIL,
    ask.Attribute.DOMAIN,
}


def evidence(
    conditions: Mapping[str, ask.Condition],
    kind: SubjectKind,
    moment: Moment,
    *,
    contact: Contact = contacts,
) -> sa.ColumnElement[dict[str, dict[str, Any]]]:
    """Evidence of conditions about a row of `contact`, whose kind is `kind`: a jsonb object, as
    `domain.conditions.evidence.evidence_of` defines it.

    Args:
        conditions: by JSON pointer into the definition.
    """
    params = BoundParams()
    text = saw(conditions, kind, Sql("{c}"), Compiler(moment, QueryScope.FEW, params), params)
    return Compiled(text, contact, params, JSONB())


def saw(
    conditions: Mapping[str, ask.Condition],
    kind: SubjectKind,
    c: Sql,
    compiler: Compiler,
    params: BoundParams,
) -> Sql:
    """The same as SQL, about the contact `c`.

    Args:
        compiler: of scope FEW, with the same `params`.
    """
    looking = _Looking(compiler, params)
    pairs = [
        f"{params.text(place)}, {looking.at(leaf, kind, c)}"
        for place, leaf in all_leaves(conditions)
    ]
    calls = [
        f"jsonb_build_object({', '.join(pairs[n : n + PAIRS_A_CALL])})"
        for n in range(0, len(pairs), PAIRS_A_CALL)
    ]
    return Sql(f"({' || '.join(calls)})" if calls else "jsonb_build_object()")


class _Looking:
    """Compiles the evidence of single tests."""

    def __init__(self, compiler: Compiler, params: BoundParams) -> None:
        self._compiler = compiler
        self._params = params

    def at(self, leaf: ask.Condition, kind: SubjectKind, c: Sql) -> Sql:
        match leaf:
            case ask.Did():
                deeds = self._compiler.deeds(leaf, kind, c)
                return Sql(_TIMES.format(held=self._often_enough(leaf.count), deeds=deeds))
            case ask.OfAccounts(quantifier, where) | ask.OfUsers(quantifier, where):
                others, holds = self._compiler.others(where, kind, c)
                _, theirs = SIDES[kind]
                enough = self._enough(quantifier)
                return Sql(_OTHERS.format(held=enough, theirs=theirs, holds=holds, others=others))
            case ask.InSegment() | ask.BelongsTo():
                return Sql(_SO.format(so=self._compiler.condition(leaf, kind, c)))
            case _:
                holds = self._compiler.condition(leaf, kind, c)
                return Sql(
                    f"jsonb_build_object('value', {self._value(leaf, kind, c)}, 'held', {holds})"
                )

    def _value(self, leaf: ask.Condition, kind: SubjectKind, c: Sql) -> str:
        match leaf:
            case ask.PropertyIs(name):
                return _PROPERTY.format(
                    properties=f"{c}.properties",
                    name=self._params.text(name),
                    chars=MAX_SEEN_CHARS,
                    items=MAX_SEEN_ITEMS,
                )
            case ask.AttributeIs(attribute):
                column = f"{c}.{attribute.value}"
                if attribute in _TEXTS:
                    return f"left({column}, {MAX_SEEN_CHARS})"
                return _INSTANT.format(column=column)
            case ask.StageIs():
                return f"{c}.stage"
            case ask.HealthIs():
                return f"{c}.health"
            case ask.SignalIs(signal):
                return self._compiler.condition(ask.SignalIs(signal, True), kind, c)
            case ask.ScoreIs(score):
                id = self._compiler.definition("score", score, kind)
                return _SCORE.format(c=c, id=id)
            case _:
                raise TypeError(f"{type(leaf).__name__} is evaluated elsewhere")

    def _often_enough(self, count: ask.Count) -> str:
        match count:
            case ask.Occurred():
                return "it.times > 0"
            case ask.DidNotOccur():
                return "it.times = 0"
            case ask.AtLeastTimes(times):
                return f"it.times >= {self._params.times(times)}"
            case ask.AtMostTimes(times):
                return f"it.times <= {self._params.times(times)}"
            case ask.ExactlyTimes(times):
                return f"it.times = {self._params.times(times)}"

    def _enough(self, quantifier: ask.Quantifier) -> str:
        match quantifier:
            case ask.AnyOf():
                return "it.so > 0"
            case ask.EveryOf():
                return "it.every"
            case ask.AtLeastOf(count):
                return f"it.so >= {self._params.times(count)}"
