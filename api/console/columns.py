"""The columns of a list: those that every list has, and one for each property."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from domain.identity import SubjectKind

PROPERTY = "property:"


class Column(msgspec.Struct, frozen=True):
    """
    Attributes:
        key: as it stands in the address.
        sort: the sort key of the list for this column.
        type: `text`, `number`, `money`, `date`, `stage`, `health`, `boolean` or `list`.
    """

    key: str
    title: str
    sort: str
    type: str

    @property
    def is_number(self) -> bool:
        return self.type in ("number", "money")

    @property
    def property(self) -> str | None:
        return self.key.removeprefix(PROPERTY) if self.key.startswith(PROPERTY) else None


_COMMON = (
    Column("stage", "Stage", "stage", "stage"),
    Column("health", "Health", "health", "health"),
    Column("mrr", "MRR", "mrr", "money"),
    Column("last_seen", "Last seen", "last_seen", "date"),
    Column("first_seen", "First seen", "first_seen", "date"),
    Column("registered_at", "On record since", "registered_at", "date"),
    Column("external_id", "External ID", "external_id", "text"),
)
BUILT_IN = {
    SubjectKind.USER: (Column("email", "E-mail", "email", "text"), *_COMMON),
    SubjectKind.ACCOUNT: (Column("domain", "Domain", "domain", "text"), *_COMMON),
}
DEFAULT_COLUMNS = {
    SubjectKind.USER: ("email", "stage", "health", "mrr", "last_seen"),
    SubjectKind.ACCOUNT: ("domain", "stage", "health", "mrr", "last_seen"),
}


def columns_of(kind: SubjectKind, types: Mapping[str, str]) -> dict[str, Column]:
    """
    Args:
        types: of properties, by name.

    Returns:
        all columns, by key.
    """
    columns = {column.key: column for column in BUILT_IN[kind]}
    for name, type in types.items():
        key = PROPERTY + name
        columns[key] = Column(key, name, key, "text" if type == "string" else type)
    return columns
