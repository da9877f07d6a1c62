"""SQL fragments, kept apart from the values of a condition.

A fragment has the type `Sql`. `BoundParams` takes values and returns their place in a bound
parameter. SQLAlchemy's own expressions took ten times as long to build and to print.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NewType
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

Predicate = sa.ColumnElement[bool]

Contact = sa.FromClause
"""`views.whole_contacts`, or an alias of it."""

Sql = NewType("Sql", str)
"""SQL of this package, without values."""

_BOOLEAN = sa.Boolean()


class BoundParams:
    """The values of a condition: texts in one array, and each list of texts in one of its own."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lists: list[list[str]] = []

    def text(self, value: str) -> Sql:
        self.texts.append(value)
        return Sql(f"({{texts}})[{len(self.texts)}]")

    def list(self, values: Sequence[str]) -> Sql:
        self.lists.append([*values])
        return Sql(f"{{list {len(self.lists) - 1}}}")

    def json(self, value: object) -> Sql:
        return Sql(f"{self.text(json_text(value))}::jsonb")

    def number(self, value: int | float) -> Sql:
        return Sql(f"{self.text(repr(value))}::numeric")

    def times(self, value: int) -> Sql:
        return Sql(f"{self.text(str(value))}::bigint")

    def day(self, value: date) -> Sql:
        return Sql(f"{self.text(value.isoformat())}::date")

    def instant(self, value: datetime) -> Sql:
        return Sql(f"{self.text(value.isoformat())}::timestamptz")

    def id(self, value: UUID) -> Sql:
        return Sql(f"{self.text(str(value))}::uuid")


class Compiled(sa.ColumnElement[Any]):
    """A fragment about a row of `contact`, as an element of SQLAlchemy's statements."""

    inherit_cache = False

    def __init__(
        self,
        text: Sql,
        contact: Contact,
        params: BoundParams,
        type_: sa.types.TypeEngine[Any] = _BOOLEAN,
    ) -> None:
        self.text = text
        self.type = type_
        self.contact = contact
        self.texts = sa.bindparam(None, params.texts, ARRAY(sa.Text), unique=True)
        self.lists = [
            sa.bindparam(None, values, ARRAY(sa.Text), unique=True) for values in params.lists
        ]

    @property
    def _from_objects(self) -> list[sa.FromClause]:
        return [self.contact]


@compiles(Compiled)
def _printed(element: Compiled, compiler: SQLCompiler, **_: Any) -> str:
    subject = compiler.process(element.contact.c.subject)
    text = element.text.replace("{c}", subject.removesuffix(".subject"))
    text = text.replace("{texts}", compiler.process(element.texts))
    for n, values in enumerate(element.lists):
        text = text.replace(f"{{list {n}}}", compiler.process(values))
    return text


def json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()
