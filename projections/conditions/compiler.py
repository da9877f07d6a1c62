"""Compiles a condition to one SQL predicate: for lists, counts, segments, previews, back-tests.

`domain.conditions.evaluation` defines the meaning of a condition; tests compare the two. The
predicate is about a row of `views.whole_contacts` and is never null.
`projections.conditions.fragments` keeps SQL apart from values.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TypeGuard

from domain.calendar import Moment, bounds
from domain.conditions import language as ask
from domain.conditions.counters import counter_of
from domain.identity import SubjectKind
from projections.conditions.date_window import day_window, stored_date, window
from projections.conditions.fragments import (
    BoundParams,
    Compiled,
    Contact,
    Predicate,
    Sql,
    json_text,
)
from projections.kernel.tables import contacts

# Memberships, each under the account of today.
_RECORDS = Sql("""
    SELECT m.log_partition, m.user_id, coalesce(g.survivor, m.account_id) AS account,
           m.account_id, m.role, m.joined_at, m.left_at
    FROM views.memberships m LEFT JOIN views.merges g ON g.loser = m.account_id""")

_OF_USER = Sql("WHERE m.log_partition = {c}.log_partition AND m.user_id = {c}.subject")

_OF_ACCOUNT = Sql("""
    WHERE m.account_id = ANY (array_append(
        ARRAY(SELECT was.loser FROM views.merges was WHERE was.survivor = {c}.subject),
        {c}.subject))""")

# Of several records in one account, the one that the 360 view shows.
_SHOWN = Sql("""
    SELECT DISTINCT ON (held.log_partition, held.user_id, held.account) held.*
    FROM ({records}) held
    ORDER BY held.log_partition, held.user_id, held.account, held.left_at DESC NULLS FIRST,
             held.joined_at, held.account_id""")

# An account also has the pages, screens, channels and campaigns of its present members that name no
# account.
_SHARED_DAYS = Sql("""
    (SELECT did.subject, did.count FROM views.{table} did WHERE {own}
     UNION ALL
     SELECT present.account, did.count
     FROM (SELECT DISTINCT held.log_partition, held.user_id, held.account FROM ({records}) held
           WHERE held.left_at IS NULL) present
     JOIN views.{table} did
       ON did.log_partition = present.log_partition AND did.subject = present.user_id
     WHERE NOT did.in_account AND {theirs}) did""")


# `last_seen` as the index has it.
_IN_ORDER = "coalesce({}, '-infinity'::timestamptz)"


class QueryScope(enum.Enum):
    """The number of subjects that a predicate is evaluated for, which decides its form.

    ALL: most subjects: activity is counted once for all.
    FEW: one subject, some that changed, a page: activity is looked up for each.
    """

    ALL = "all"
    FEW = "few"


def predicate(
    condition: ask.Condition,
    kind: SubjectKind,
    moment: Moment,
    *,
    scope: QueryScope = QueryScope.ALL,
    contact: Contact = contacts,
) -> Predicate:
    """Whether the condition holds of a row of `contact`, whose kind is `kind`.

    Args:
        condition: passed `domain.conditions.validation.check`; its counters of metadata are filled
            (`projections.counters.requests.require`).
    """
    params = BoundParams()
    text = Compiler(moment, scope, params).condition(condition, kind, Sql("{c}"))
    return Compiled(text, contact, params)


class Compiler:
    """Each method returns SQL that can stand in a NOT, an AND or an OR.

    `c` is the alias of the contact; `{c}` for the contact of the predicate itself.
    """

    def __init__(self, moment: Moment, scope: QueryScope, params: BoundParams) -> None:
        self._moment = moment
        self._scope = scope
        self._params = params
        self._others = 0

    def condition(self, condition: ask.Condition, kind: SubjectKind, c: Sql) -> Sql:
        match condition:
            case ask.AllOf(of):
                parts = [self.condition(part, kind, c) for part in of]
                return Sql(f"({' AND '.join(parts)})") if parts else Sql("true")
            case ask.OneOf(of):
                parts = [self.condition(part, kind, c) for part in of]
                return Sql(f"({' OR '.join(parts)})") if parts else Sql("false")
            case ask.Not(of):
                return _not(self.condition(of, kind, c))
            case ask.PropertyIs(name, test):
                return self._property(Sql(f"{c}.properties"), name, test)
            case ask.AttributeIs(attribute, test):
                column = Sql(f"{c}.{attribute.value}")
                is_seen = attribute is ask.Attribute.LAST_SEEN
                return self._attribute(
                    column, test, _IN_ORDER.format(column) if is_seen else column
                )
            case ask.Did():
                return self._did(condition, kind, c)
            case ask.StageIs(stages):
                named = self._params.list([stage for stage in stages if stage is not None])
                in_named = f"{c}.stage IS NOT NULL AND {c}.stage = ANY ({named})"
                return Sql(
                    f"({in_named} OR {c}.stage IS NULL)" if None in stages else f"({in_named})"
                )
            case ask.HealthIs(health):
                return Sql(f"({c}.health = ANY ({self._params.list([*health])}))")
            case ask.ScoreIs(score, test):
                return self._score(score, test, kind, c)
            case ask.SignalIs(signal, on):
                id = self.definition("signal", signal, kind)
                source = f"views.signals did WHERE did.signal = {id} AND did.is_on" + self._own(c)
                is_on = self._among(c, _SUBJECT, Sql(source))
                return is_on if on else _not(is_on)
            case ask.InSegment(segment):
                source = f"views.segment_members did WHERE did.segment = {self._params.id(segment)}"
                return self._among(c, _SUBJECT, Sql(source + self._own(c)))
            case ask.BelongsTo():
                return self._belongs(condition, kind, c)
            case ask.OfAccounts(quantifier, where) | ask.OfUsers(quantifier, where):
                return self._of_others(quantifier, where, kind, c)

    def _property(self, properties: Sql, name: str, test: ask.Test) -> Sql:
        params = self._params
        match test:
            case ask.Is(value):
                return Sql(f"({properties} @> {params.json({name: value})})")
            case ask.IsNot(value):
                return Sql(f"(NOT {properties} @> {params.json({name: value})})")
            case ask.In(values):
                return self._value_in(properties, name, values)
            case ask.NotIn(values):
                return _not(self._value_in(properties, name, values))
            case ask.IsSet():
                return self._is_set(properties, name)
            case ask.IsNotSet():
                return _not(self._is_set(properties, name))
            case ask.Contains(value):
                text = f"views.text_of({properties}, {params.text(name)})"
                return Sql(
                    f"(coalesce(strpos({text}, {params.text(value)}) > 0, false)"
                    f" OR {properties} @> {params.json({name: [value]})})"
                )
            case ask.StartsWith(value):
                text = f"views.text_of({properties}, {params.text(name)})"
                return Sql(f"coalesce(starts_with({text}, {params.text(value)}), false)")
            case ask.Greater() | ask.AtLeast() | ask.Less() | ask.AtMost() | ask.Between():
                number = Sql(f"views.number_of({properties}, {params.text(name)})")
                return Sql(f"coalesce({self._number(number, test)}, false)")
            case _:
                return self._date(properties, name, test)

    def _date(self, properties: Sql, name: str, test: ask.Test) -> Sql:
        """Days and instants are told apart by their length: 10 characters, and 20 or more."""
        text, named = self._params.text, self._params.text(name)
        value = f"{properties}, {named}"
        stored = f"views.text_of({value})"
        instants = zip((">=", "<"), window(test, self._moment), strict=True)
        days = zip((">=", "<"), day_window(test, self._moment), strict=True)
        in_days = [f'{stored} COLLATE "C" {op} {text(day.isoformat())}' for op, day in days if day]
        in_time = [
            f"rtrim({stored}, 'Z') COLLATE \"C\" {op} {text(stored_date(at))}"
            for op, at in instants
            if at
        ]
        # The test for a date comes last: it costs ten times as much.
        in_days.append(f"views.day_of({value}) IS NOT NULL")
        in_time.append(f"views.instant_of({value}) IS NOT NULL")
        return Sql(
            f"coalesce(CASE length({properties} ->> {named}) WHEN 10 THEN {' AND '.join(in_days)}"
            f" ELSE {' AND '.join(in_time)} END, false)"
        )

    def _value_in(self, properties: Sql, name: str, values: Sequence[ask.Scalar]) -> Sql:
        known = self._params.list([json_text(value) for value in values])
        value = f"{properties} -> {self._params.text(name)}"
        return Sql(f"coalesce(({value}) = ANY ({known}::jsonb[]), false)")

    def _is_set(self, properties: Sql, name: str) -> Sql:
        value = f"{properties} -> {self._params.text(name)}"
        return Sql(f"coalesce(jsonb_typeof({value}) <> 'null', false)")

    def _number(
        self,
        number: Sql,
        test: ask.Greater | ask.AtLeast | ask.Less | ask.AtMost | ask.Between,
    ) -> Sql:
        params = self._params
        match test:
            case ask.Greater(value):
                return Sql(f"{number} > {params.number(value)}")
            case ask.AtLeast(value):
                return Sql(f"{number} >= {params.number(value)}")
            case ask.Less(value):
                return Sql(f"{number} < {params.number(value)}")
            case ask.AtMost(value):
                return Sql(f"{number} <= {params.number(value)}")
            case ask.Between(low, high):
                return Sql(f"{number} BETWEEN {params.number(low)} AND {params.number(high)}")

    def _attribute(self, column: Sql, test: ask.Test, compared: str) -> Sql:
        """
        Args:
        compared: replaces the column where instants are compared.
        """
        params = self._params
        is_set = f"{column} IS NOT NULL"
        match test:
            case ask.IsSet():
                return Sql(f"({is_set})")
            case ask.IsNotSet():
                return Sql(f"({column} IS NULL)")
            case ask.Is(value):
                return Sql(f"({is_set} AND {column} = {params.text(str(value))})")
            case ask.IsNot(value):
                return Sql(f"(NOT ({is_set} AND {column} = {params.text(str(value))}))")
            case ask.In(values):
                return Sql(f"({is_set} AND {column} = ANY ({params.list([*map(str, values)])}))")
            case ask.NotIn(values):
                known = params.list([*map(str, values)])
                return Sql(f"(NOT ({is_set} AND {column} = ANY ({known})))")
            case ask.Contains(value):
                return Sql(f"({is_set} AND strpos({column}, {params.text(value)}) > 0)")
            case ask.StartsWith(value):
                return Sql(f"({is_set} AND starts_with({column}, {params.text(value)}))")
            case _:
                limits = zip((">=", "<"), window(test, self._moment), strict=True)
                tests = [f"{compared} {op} {params.instant(at)}" for op, at in limits if at]
                return Sql(f"({' AND '.join([is_set, *tests])})")

    def _score(self, score: str, test: ask.Test, kind: SubjectKind, c: Sql) -> Sql:
        id, params = self.definition("score", score, kind), self._params
        value, is_set = Sql("did.value"), "did.value IS NOT NULL"
        match test:
            case ask.IsNot(wanted):
                return _not(self._score(score, ask.Is(wanted), kind, c))
            case ask.NotIn(wanted):
                return _not(self._score(score, ask.In(wanted), kind, c))
            case ask.IsNotSet():
                return _not(self._score(score, ask.IsSet(), kind, c))
            case ask.IsSet():
                passes = is_set
            case ask.Is(wanted):
                passes = f"{value} = {params.number(wanted)}" if _is_number(wanted) else "false"
            case ask.In(wanted):
                numbers = [params.number(number) for number in wanted if _is_number(number)]
                passes = f"{value} IN ({', '.join(numbers)})" if numbers else "false"
            case ask.Greater() | ask.AtLeast() | ask.Less() | ask.AtMost() | ask.Between():
                passes = self._number(value, test)
            case _:
                passes = "false"
        source = f"views.scores did WHERE did.score = {id} AND {passes}" + self._own(c)
        return self._among(c, _SUBJECT, Sql(source))

    def definition(self, family: str, name: str, kind: SubjectKind) -> Sql:
        """The id of the active score or signal of a name."""
        return Sql(
            f"(SELECT named.id FROM views.definitions named WHERE named.family = '{family}'"
            f" AND named.kind = '{kind.value}' AND named.name = {self._params.text(name)}"
            " AND named.status = 'active')"
        )

    def _did(self, condition: ask.Did, kind: SubjectKind, c: Sql) -> Sql:
        match condition.count:
            case ask.Occurred():
                return self._counted(condition, kind, c)
            case ask.DidNotOccur() | ask.ExactlyTimes(0):
                return _not(self._counted(condition, kind, c))
            case ask.AtLeastTimes(0):
                return Sql("true")
            case ask.AtLeastTimes(1):
                return self._counted(condition, kind, c)
            case ask.AtLeastTimes(times):
                return self._counted(condition, kind, c, f">= {self._params.times(times)}")
            case ask.AtMostTimes(times):
                return _not(
                    self._counted(condition, kind, c, f">= {self._params.times(times + 1)}")
                )
            case ask.ExactlyTimes(times):
                return self._counted(condition, kind, c, f"= {self._params.times(times)}")

    def _counted(self, condition: ask.Did, kind: SubjectKind, c: Sql, times: str = "") -> Sql:
        """Whether a subject did something so many times; at all, without `times`."""
        source = self.deeds(condition, kind, c)
        if times:
            source = Sql(f"{source} GROUP BY did.subject HAVING sum(did.count) {times}")
        return self._among(c, _SUBJECT, source)

    def deeds(self, condition: ask.Did, kind: SubjectKind, c: Sql) -> Sql:
        """The source, as `did`, of counts: a subject and a count a row."""
        params = self._params
        if condition.where:
            table, that = "counter_days", f"did.counter = {params.id(counter_of(condition).id)}"
        else:
            activity, name = params.text(condition.activity), params.text(condition.name)
            id = (
                f"(SELECT id FROM views.names WHERE kind = {activity}"
                f" AND views.digest_of(name) = views.digest_of({name}) AND name = {name})"
            )
            table, that = "activity_days", f"did.name_id = {id}"
        if condition.period is not None:
            first, last = bounds(condition.period, self._moment.today)
            that += f" AND did.day BETWEEN {params.day(first)} AND {params.day(last)}"
        own = that + self._own(c)
        if kind is SubjectKind.ACCOUNT and condition.activity != "event":
            records = self._records(kind, c)
            return Sql(_SHARED_DAYS.format(table=table, own=own, theirs=that, records=records))
        return Sql(f"views.{table} did WHERE {own}")

    def _own(self, c: Sql) -> str:
        """Narrows a source to the contact; scope ALL reads it once for all."""
        if self._scope is QueryScope.ALL:
            return ""
        return f" AND did.log_partition = {c}.log_partition AND did.subject = {c}.subject"

    def _among(self, c: Sql, subject: Sql, source: Sql) -> Sql:
        """Whether a contact is among the subjects of a source; in scope FEW, whether the source
        has rows."""
        if self._scope is QueryScope.ALL:
            return Sql(f"({c}.subject IN (SELECT {subject} FROM {source}))")
        return Sql(f"(EXISTS (SELECT FROM {source}))")

    def _records(self, kind: SubjectKind, c: Sql) -> Sql:
        if self._scope is QueryScope.ALL:
            return _RECORDS
        own = _OF_USER if kind is SubjectKind.USER else _OF_ACCOUNT
        return Sql(f"{_RECORDS} {own.format(c=c)}")

    def _belongs(self, condition: ask.BelongsTo, kind: SubjectKind, c: Sql) -> Sql:
        mine, other = SIDES[kind]
        records = self._records(kind, c)
        if condition.ended or condition.role is not None:
            records = Sql(_SHOWN.format(records=records))
        source = f"({records}) held WHERE held.left_at IS "
        source += "NOT NULL" if condition.ended else "NULL"
        if condition.role is not None:
            source += f" AND held.role = {self._params.text(condition.role)}"
        if condition.other is not None:
            id = self._params.id(condition.other)
            survivor = f"SELECT g.survivor FROM views.merges g WHERE g.loser = {id}"
            source += f" AND {other} = coalesce(({survivor}), {id})"
        return self._among(c, mine, Sql(source))

    def _of_others(
        self, quantifier: ask.Quantifier, where: ask.Condition, kind: SubjectKind, c: Sql
    ) -> Sql:
        mine, theirs = SIDES[kind]
        others, holds = self.others(where, kind, c)
        source = str(others)
        match quantifier:
            case ask.AnyOf():
                source += f" AND {holds}"
            case ask.EveryOf():
                source += f" GROUP BY {mine} HAVING bool_and({holds})"
            case ask.AtLeastOf(count):
                least = self._params.times(count)
                source += f" AND {holds} GROUP BY {mine} HAVING count(DISTINCT {theirs}) >= {least}"
        return self._among(c, mine, Sql(source))

    def others(self, where: ask.Condition, kind: SubjectKind, c: Sql) -> tuple[Sql, Sql]:
        """The source, as `held`, of memberships with the other kind; and whether `where` holds
        of each."""
        self._others += 1
        o = Sql(f"other{self._others}")
        _, theirs = SIDES[kind]
        their_kind = SubjectKind.ACCOUNT if kind is SubjectKind.USER else SubjectKind.USER
        source = Sql(
            f"({self._records(kind, c)}) held"
            f" JOIN views.whole_contacts {o} ON {o}.subject = {theirs}"
            f" WHERE held.left_at IS NULL AND {o}.kind = '{their_kind.value}'"
        )
        return source, self.condition(where, their_kind, o)


_SUBJECT = Sql("did.subject")
# The columns of memberships: of the kind of the contact, and of the other kind.
SIDES = {
    SubjectKind.USER: (Sql("held.user_id"), Sql("held.account")),
    SubjectKind.ACCOUNT: (Sql("held.account"), Sql("held.user_id")),
}


def _is_number(value: ask.Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not(text: Sql) -> Sql:
    return Sql(f"(NOT {text})")
