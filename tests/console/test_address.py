"""The address of a list says how it is sorted, and a new search begins with the best answers."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from api.console.address import Address
from api.console.columns import BUILT_IN
from domain.identity import SubjectKind

USER = SubjectKind.USER
LAST_SEEN = next(column for column in BUILT_IN[USER] if column.key == "last_seen")


def parsed(query: str) -> Address:
    return Address.parsed(USER, parse_qsl(query, keep_blank_values=True))


@pytest.mark.parametrize(
    ("query", "sort", "order"),
    [
        ("", "", "-last_seen"),
        ("sort=-last_seen", "", "-last_seen"),
        ("sort=name", "name", "name"),
        ("search=ada", "", ""),
        ("search=ada&sort=-last_seen", "-last_seen", "-last_seen"),
        ("search=ada&sort=name&searched=ada", "name", "name"),
        ("search=adam&sort=name&searched=ada", "", ""),
        ("search=ada&sort=name&searched=", "", ""),
        ("search=+%C2%A0&sort=name&searched=", "name", "name"),
    ],
)
def test_a_search_is_sorted_only_where_somebody_sorts_it(query: str, sort: str, order: str) -> None:
    address = parsed(query)
    assert (address.sort, address.order) == (sort, order)
    assert parsed(address.url().partition("?")[2]) == address


def test_a_click_on_a_column_sorts_a_search_and_the_form_says_which() -> None:
    clicked = parsed("search=ada").sorted_by(LAST_SEEN)
    assert clicked.sort == "-last_seen"
    assert clicked.sorted_by(LAST_SEEN).sort == "last_seen"
    assert ("searched", "ada") in clicked.kept()
    assert parsed("").sorted_by(LAST_SEEN).sort == "last_seen"
