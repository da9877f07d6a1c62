"""The address of a list: it holds all that the list shows, so that a link can be shared.

| parameter | means |
|---|---|
| `segment`, `search`, `sort`, `filter` | as in the API |
| `searched` | the search that the list was sorted for: another one begins with the best answers |
| `stage`, `health` | quick filters; an empty stage is no stage |
| `is.<property>`, `min.<property>`, `max.<property>` | quick filters on properties |
| `column` | a column, once for each, in order |
| `as_of` | a past instant, as in the API |
| `cursor` | of this page and of those before it; `page` is its number |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from api.console.columns import PROPERTY, Column
from api.console.quick_filters import value_is_between, value_is_one_of
from domain.identity import SubjectKind

Json = Any

_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")

DEFAULT_SORT = "-last_seen"
IS, MIN, MAX = "is.", "min.", "max."
MAX_CURSORS = 20
"""Pages that the link can go back; the browser's own button goes back further."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A list as it is asked for.

    Attributes:
        sort: empty: the best answers to the search first; without one, `DEFAULT_SORT`.
        picked: values that a property may have.
        least, most: bounds of a number or a date.
        cursors: of the pages from the second to this one.
    """

    kind: SubjectKind
    as_of: str | None = None
    segment: str | None = None
    search: str = ""
    sort: str = ""
    filter: str | None = None
    stages: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    picked: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    least: dict[str, str] = msgspec.field(default_factory=dict)
    most: dict[str, str] = msgspec.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    cursors: tuple[str, ...] = ()
    page: int = 1

    @classmethod
    def parsed(cls, kind: SubjectKind, pairs: Sequence[tuple[str, str]]) -> Address:
        """Parses the parameters of an address, or of a form; unknown ones are ignored."""
        many: dict[str, list[str]] = {}
        for name, value in pairs:
            many.setdefault(name, []).append(value)

        def last(name: str) -> str:
            return many.get(name, [""])[-1]

        def bounds(prefix: str) -> dict[str, str]:
            return {
                name.removeprefix(prefix): values[-1]
                for name, values in many.items()
                if name.startswith(prefix) and values[-1]
            }

        search = last("search").strip()
        is_sorted = "searched" not in many or last("searched") == search
        page = last("page")
        cursors = tuple(value for value in many.get("cursor", ()) if value)[-MAX_CURSORS:]
        return cls(
            kind=kind,
            as_of=past_of({"as_of": last("as_of")}),
            segment=last("segment") or None,
            search=search,
            sort=last("sort") if is_sorted and (search or last("sort") != DEFAULT_SORT) else "",
            filter=last("filter") or None,
            stages=tuple(dict.fromkeys(many.get("stage", ()))),
            health=tuple(dict.fromkeys(many.get("health", ()))),
            picked={
                name.removeprefix(IS): tuple(dict.fromkeys(values))
                for name, values in many.items()
                if name.startswith(IS)
            },
            least=bounds(MIN),
            most=bounds(MAX),
            columns=tuple(dict.fromkeys(value for value in many.get("column", ()) if value)),
            cursors=cursors,
            page=max(int(page), 2) if cursors and page.isdecimal() and len(page) < 10 else 1,
        )

    def pairs(self, *, columns: bool = True, place: bool = True) -> list[tuple[str, str]]:
        """The parameters; the same list is always written the same way.

        Args:
            place: with the page.
        """
        pairs: list[tuple[str, str]] = []
        for name, value in (
            ("as_of", self.as_of),
            ("segment", self.segment),
            ("search", self.search),
            ("sort", self.sort),
        ):
            if value:
                pairs.append((name, value))
        pairs += [("stage", stage) for stage in self.stages]
        pairs += [("health", health) for health in self.health]
        pairs += [(IS + name, value) for name, values in self.picked.items() for value in values]
        pairs += [(MIN + name, value) for name, value in self.least.items()]
        pairs += [(MAX + name, value) for name, value in self.most.items()]
        if self.filter:
            pairs.append(("filter", self.filter))
        if columns:
            pairs += [("column", column) for column in self.columns]
        if place and self.cursors:
            pairs += [("cursor", cursor) for cursor in self.cursors]
            pairs.append(("page", str(self.page)))
        return pairs

    def url(self, base: str | None = None) -> str:
        query = urlencode(self.pairs())
        path = f"/console/{self.kind}s" if base is None else base
        return f"{path}?{query}" if query else path

    def but(self, **changes: Any) -> Address:
        """The same list but for something; it begins at its first page."""
        return msgspec.structs.replace(self, **{"cursors": (), "page": 1, **changes})

    def picks(self) -> list[tuple[str, str]]:
        """The quick filters, as parameters."""
        return [
            (name, value)
            for name, value in self.pairs(columns=False, place=False)
            if name in ("stage", "health") or name.startswith((IS, MIN, MAX))
        ]

    def kept(self) -> list[tuple[str, str]]:
        """Parameters that a form of search and quick filters passes on."""
        names = ("as_of", "segment", "sort", "filter", "column")
        kept = [(name, value) for name, value in self.pairs(place=False) if name in names]
        return [*kept, ("searched", self.search)] if self.sort else kept

    def chips(self) -> list[tuple[str, Address]]:
        """Each quick filter and the search in words, with the list without it."""
        chips: list[tuple[str, Address]] = []
        if self.search:
            chips.append((f"“{self.search}”", self.but(search="")))
        if self.stages:
            names = " or ".join(stage or "no stage" for stage in self.stages)
            chips.append((f"stage {names}", self.but(stages=())))
        if self.health:
            chips.append((f"health {' or '.join(self.health)}", self.but(health=())))
        for name, values in self.picked.items():
            picked = {other: of for other, of in self.picked.items() if other != name}
            chips.append((f"{name} {' or '.join(values)}", self.but(picked=picked)))
        for name in dict.fromkeys((*self.least, *self.most)):
            low, high = self.least.get(name), self.most.get(name)
            text = f"{name} {low} to {high}" if low and high else f"{name} from {low}"
            least = {other: of for other, of in self.least.items() if other != name}
            most = {other: of for other, of in self.most.items() if other != name}
            text = text if low else f"{name} to {high}"
            chips.append((text, self.but(least=least, most=most)))
        return chips

    def cleared(self) -> Address:
        return Address(
            kind=self.kind,
            as_of=self.as_of,
            segment=self.segment,
            sort=self.sort,
            columns=self.columns,
        )

    @property
    def order(self) -> str:
        """The column by which the list is sorted; empty: the best answers come first."""
        return self.sort or ("" if self.search else DEFAULT_SORT)

    def with_stage(self, stage: str) -> Address:
        """The list with a stage among its filters, or without it where it is one."""
        return self.but(stages=_toggled(self.stages, stage))

    def with_health(self, health: str) -> Address:
        return self.but(health=_toggled(self.health, health))

    def sorted_by_name(self) -> Address:
        return self.but(sort="-name" if self.order == "name" else "name")

    def query_for_builder(self, types: Mapping[str, str]) -> str:
        """The parameters of the page on which the same condition is made a segment."""
        condition = self.condition(types)
        if self.segment:
            inside = {"type": "segment", "segment": self.segment}
            condition = inside if condition is None else {"type": "all", "of": [inside, condition]}
        pairs = [("kind", str(self.kind))]
        if condition is not None:
            pairs.append(("condition", msgspec.json.encode(condition).decode()))
        return urlencode(pairs)

    def sorted_by(self, column: Column) -> Address:
        """By a column: numbers and times from the greatest first, and at a second time turned
        round."""
        first = column.sort if column.type not in ("number", "money", "date") else f"-{column.sort}"
        turned = column.sort if first.startswith("-") else f"-{column.sort}"
        return self.but(sort=turned if self.order == first else first)

    def following(self, cursor: str) -> Address:
        kept = (*self.cursors, cursor)[-MAX_CURSORS:]
        return msgspec.structs.replace(self, cursors=kept, page=self.page + 1)

    def previous(self) -> Address | None:
        if len(self.cursors) < 2:
            return self.but() if self.page == 2 else None
        return msgspec.structs.replace(self, cursors=self.cursors[:-1], page=self.page - 1)

    @property
    def filters(self) -> int:
        """How many filters are set."""
        return sum(
            (
                bool(self.stages),
                bool(self.health),
                len(self.picked),
                len(self.least.keys() | self.most.keys()),
                self.filter is not None,
            )
        )

    def condition(self, types: Mapping[str, str]) -> Json:
        """Quick filters and filter as one condition; None: everybody.

        Args:
            types: of properties.
        """
        parts: list[Json] = []
        if self.stages:
            parts.append({"type": "stage", "stages": [stage or None for stage in self.stages]})
        if self.health:
            parts.append({"type": "health", "health": list(self.health)})
        for name, values in self.picked.items():
            parts.append(value_is_one_of(name, types.get(name), values))
        for name in dict.fromkeys((*self.least, *self.most)):
            bounds = self.least.get(name), self.most.get(name)
            parts += value_is_between(name, types.get(name), *bounds)
        if self.filter:
            parts.append(_decoded(self.filter))
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else {"type": "all", "of": parts}

    def question(self, types: Mapping[str, str]) -> dict[str, Json]:
        """The body of the API's question for the whole list."""
        question: dict[str, Json] = {}
        if self.as_of:
            question["as_of"] = self.as_of
        if self.segment:
            question["segment"] = self.segment
        if self.search:
            question["search"] = self.search
        condition = self.condition(types)
        if condition is not None:
            question["filter"] = condition
        return question

    def properties(self) -> list[str]:
        """Returns the properties shown as columns."""
        return [key.removeprefix(PROPERTY) for key in self.columns if key.startswith(PROPERTY)]


def past_of(query: Mapping[str, str]) -> str | None:
    """The past instant in an address. A browser without scripts sends no zone: UTC."""
    sent = query.get("as_of", "")
    return f"{sent}Z" if _WITHOUT_ZONE.fullmatch(sent) else sent or None


def then(url: str, as_of: str | None) -> str:
    """An address as of the same instant as the page that leads to it."""
    if not as_of:
        return url
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode({"as_of": as_of}))))
    return parts._replace(query=query).geturl()


def _toggled(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    left = tuple(other for other in values if other != value)
    return left if len(left) < len(values) else (*values, value)


def _decoded(text: str) -> Json:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text  # the API says what is wrong with it
