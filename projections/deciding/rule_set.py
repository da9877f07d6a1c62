"""The set of rules: finds subjects whose decisions differ from the results of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import psycopg
import sqlalchemy as sa

from domain.calendar import Moment
from domain.identity import log_partition_of
from domain.workspace.dependencies import Dependency, Fact
from projections.conditions.compiler import QueryScope
from projections.deciding.rules.rule import Row, Rule
from projections.kernel import pg_arrays
from projections.kernel.pipeline import pipeline
from projections.models.changes import Id

PLAN_ONCE = sa.text("SET LOCAL plan_cache_mode = force_generic_plan")

PREPARED = 500
"""Prepared statements of a connection, at most."""


class RuleSet:
    """The rules, as of one reading of the definitions.

    Attributes:
        waits_for: by key, the decisions about the same subject that a rule rests on, directly or
            not.
        depth: by key, the length of the longest chain of rules that a rule rests on.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.by_key = {rule.key: rule for rule in rules}
        self._resting_on: dict[Fact, list[tuple[Rule, tuple[str, ...]]]] = {}
        self.waits_for = _waits_for(rules)
        for rule in rules:
            looks_at = {Dependency(fact) for fact in (rule.decides, *self.waits_for[rule.key])}
            for fact, way in rule.rests_on | looks_at:
                self._resting_on.setdefault(fact, []).append((rule, way))
        self.depth = _depths(rules)
        self._statements: dict[tuple[str, date, QueryScope], tuple[str, dict[str, object]]] = {}

    def resting_on(self, fact: Fact) -> list[tuple[Rule, tuple[str, ...]]]:
        """The rules that a fact affects, each with the path to the subjects."""
        return self._resting_on.get(fact, [])

    def first_of(self, keys: Sequence[str]) -> list[str]:
        """The rules among these that rest on none of the others: they decide first."""
        depths = {key: self.depth.get(key, 0) for key in keys}
        return [key for key in keys if depths[key] == min(depths.values())]

    @property
    def asking_the_calendar(self) -> list[Rule]:
        return [rule for rule in self.by_key.values() if rule.asks_the_calendar]

    def differing(
        self, conn: sa.Connection, moment: Moment, due: Sequence[tuple[Rule, Sequence[Id]]]
    ) -> list[tuple[Rule, Row]]:
        """The differing subjects of each rule among some subjects.

        One pipeline of prepared statements, as these are many and small.
        """
        conn.execute(PLAN_ONCE)
        driver = _driver_of(conn)
        driver.prepared_max = PREPARED
        cursors: list[tuple[Rule, psycopg.Cursor]] = []
        with pipeline(driver):
            for rule, subjects in due:
                text, values = self._statement(rule, moment, conn.dialect, QueryScope.FEW)
                cursor = driver.cursor(binary=True)
                cursor.execute(
                    text.encode(),
                    {
                        **values,
                        "now": moment.now,
                        "partitions": pg_arrays.smallints(
                            [log_partition_of(subject) for subject in subjects]
                        ),
                        "subjects": pg_arrays.ids(subjects),
                    },
                    prepare=True,
                )
                cursors.append((rule, cursor))
        return [(rule, row) for rule, cursor in cursors for row in cursor]

    def differing_in(
        self, conn: sa.Connection, rule: Rule, moment: Moment, partitions: Sequence[int]
    ) -> list[Row]:
        """The differing subjects of a rule in some partitions."""
        text, values = self._statement(rule, moment, conn.dialect, QueryScope.ALL)
        params = {"partitions": pg_arrays.smallints(partitions), "now": moment.now}
        return _driver_of(conn).execute(text.encode(), {**values, **params}, binary=True).fetchall()

    def _statement(
        self, rule: Rule, moment: Moment, dialect: sa.Dialect, scope: QueryScope
    ) -> tuple[str, dict[str, object]]:
        # The meaning of a condition changes with the day, not with the hour.
        key = (rule.key, moment.today, scope)
        if key not in self._statements:
            compiled = rule.differing(moment, scope).compile(dialect=dialect)
            self._statements[key] = (str(compiled), dict(compiled.params))
        return self._statements[key]


def _driver_of(conn: sa.Connection) -> psycopg.Connection:
    driver = conn.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _waits_for(rules: Sequence[Rule]) -> dict[str, set[Fact]]:
    deciding = {rule.decides: rule for rule in rules}
    waits_for: dict[str, set[Fact]] = {}
    for rule in rules:
        facts = waits_for[rule.key] = set()
        waiting = [rule]
        while waiting:
            below = {fact for fact, way in waiting.pop().rests_on if not way and fact in deciding}
            waiting += [deciding[fact] for fact in below - facts]
            facts |= below
    return waits_for


def _depths(rules: Sequence[Rule]) -> dict[str, int]:
    deciding = {rule.decides: rule for rule in rules}
    depths: dict[str, int] = {}

    def depth(rule: Rule) -> int:
        if rule.key not in depths:
            depths[rule.key] = 0
            below = {fact for fact, _ in rule.rests_on if fact in deciding}
            depths[rule.key] = max((depth(deciding[fact]) + 1 for fact in below), default=0)
        return depths[rule.key]

    for rule in rules:
        depth(rule)
    return depths
