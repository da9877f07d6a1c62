"""What was done, day by day: the figures behind the pictures on the tabs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.serving import Clients, Fresh, account, problem, user

TODAY = datetime.now(UTC).date()
NOON = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)


def track(id: str, event: str, days_ago: int, **more: Any) -> dict[str, Any]:
    at = (NOON - timedelta(days=days_ago)).isoformat()
    return {"type": "track", "userId": id, "event": event, "timestamp": at, **more}


def visit(id: str, days_ago: int, **more: Any) -> dict[str, Any]:
    at = (NOON - timedelta(days=days_ago)).isoformat()
    address = {"url": "https://shop.example/cart"}
    return {"type": "page", "userId": id, "timestamp": at, "properties": address, **more}


def seen(client: Clients, path: str, **query: Any) -> dict[str, list[int]]:
    found = client.see(path, **query)
    assert found["last_day"] == TODAY.isoformat()
    first = TODAY - timedelta(query.get("days", 30) - 1)
    assert found["first_day"] == first.isoformat()
    for one in found["items"]:
        assert one["count"] == sum(one["days"])
    return {one["name"]: one["days"] for one in found["items"]}


def test_each_name_has_a_count_for_each_of_the_days_with_today_last(
    standing: Clients, ada: str, fresh: Fresh
) -> None:
    standing.send(
        *[track(ada, "paid", 0)] * 3,
        *[track(ada, "paid", 29)] * 2,
        track(ada, "paid", 30),
        track(ada, "opened", 1),
        track(fresh("bob"), "paid", 0),
    )
    path = user(ada, "/events/days")
    shown = seen(standing, path, name=["opened", "paid", "never", "paid"])
    assert list(shown) == ["opened", "paid", "never"]
    assert shown["paid"] == [2] + [0] * 28 + [3]
    assert shown["opened"] == [0] * 28 + [1, 0]
    assert shown["never"] == [0] * 30
    assert seen(standing, path, name="paid", days=31)["paid"][:2] == [1, 2]
    assert seen(standing, path, name="paid", days=1)["paid"] == [3]


def test_an_account_has_its_own_and_of_its_members_what_names_no_account_as_its_tabs_do(
    standing: Clients,
    ada: str,
    acme: str,
    fresh: Fresh,
) -> None:
    bob, globex, cleo = map(fresh, ("bob", "globex", "cleo"))
    inside = {"context": {"groupId": acme}}
    standing.send(
        *({"type": "group", "userId": id, "groupId": acme} for id in (ada, bob)),
        *[visit(ada, 0)] * 2,
        visit(ada, 1, **inside),
        visit(bob, 2, context={"groupId": globex}),
        visit(cleo, 0),
        track(ada, "paid", 0),
        track(ada, "paid", 3, **inside),
    )
    name = "shop.example/cart"
    assert seen(standing, account(acme, "/pages/days"), name=name, days=3)[name] == [0, 1, 2]
    assert seen(standing, account(acme, "/events/days"), name="paid", days=4) == {
        "paid": [1, 0, 0, 0]
    }
    for tab, one in (("pages", name), ("events", "paid")):
        [item] = standing.see(account(acme, f"/{tab}"))["items"]
        days = seen(standing, account(acme, f"/{tab}/days"), name=one)
        assert item["count"] == sum(days[one])


def test_what_was_done_by_a_user_that_was_merged_counts_with_the_one_it_lives_on_in(
    standing: Clients,
    ada: str,
    fresh: Fresh,
) -> None:
    lovelace = fresh("lovelace")
    standing.send(track(ada, "paid", 0), track(lovelace, "paid", 1))
    standing.see("/api/users")
    standing.send({"type": "alias", "previousId": lovelace, "userId": ada})
    for id in (ada, lovelace):
        assert seen(standing, user(id, "/events/days"), name="paid", days=2)["paid"] == [1, 1]


@pytest.mark.parametrize("query", [{}, {"name": [f"n{n}" for n in range(101)]}])
def test_too_few_and_too_many_names_are_refused(
    standing: Clients, query: dict[str, Any], ada: str
) -> None:
    standing.send(track(ada, "paid", 0))
    answer = standing.get(user(ada, "/events/days"), **query)
    assert problem(answer, 400, "invalid-input")["place"] == "/name"


def test_what_is_not_there_is_said(standing: Clients, ada: str, fresh: Fresh) -> None:
    standing.send(track(ada, "paid", 0))
    problem(standing.get(user(ada, "/songs/days"), name="x"), 404, "not-found")
    problem(standing.get(user(fresh("nobody"), "/events/days"), name="x"), 404, "not-found")
    problem(standing.get(account(ada, "/events/days"), name="x"), 404, "not-found")
    for days in (0, 367):
        problem(standing.get(user(ada, "/events/days"), name="paid", days=days), 400)
