"""Messages that arrive late or out of order, over HTTP: what holds, what is shown, whose it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.serving import Clients, account, problem, user

JANUARY, MARCH, MAY = "2024-01-10T09:00:00Z", "2024-03-10T09:00:00Z", "2024-05-10T09:00:00Z"


def identify(id: str, at: str | None = None, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "timestamp": at, "traits": traits}


def join(id: str, account_id: str, at: str, **relationship: Any) -> dict[str, Any]:
    context = {"relationship": relationship}
    return {
        "type": "group", "userId": id, "groupId": account_id, "timestamp": at, "context": context,
    }  # fmt: skip


def plans(client: Clients, id: str) -> list[tuple[str, Any, Any]]:
    """The changes of the plan, newest first: day, before, after."""
    items = client.see(user(id, "/timeline"), type="property", name="plan")["items"]
    return [
        (item["at"][:10], change["before"], change["after"])
        for item in items
        for change in item["changes"]
        if change["name"] == "plan"
    ]


def test_history_that_is_imported_after_going_live_leaves_the_present(
    standing: Clients, ada: str
) -> None:
    standing.send(identify(ada, MAY, plan="pro", city="Ghent"))
    standing.send(identify(ada, JANUARY, plan="free", seats=3), identify(ada, MARCH, city=None))
    assert standing.see(user(ada))["properties"] == {"plan": "pro", "city": "Ghent", "seats": 3}
    assert plans(standing, ada) == [("2024-05-10", None, "pro"), ("2024-01-10", None, "free")]


def test_a_value_that_is_sent_again_is_known_for_the_later_time_and_shown_once(
    standing: Clients, ada: str
) -> None:
    standing.send(identify(ada, JANUARY, plan="pro"), identify(ada, MAY, plan="pro"))
    standing.send(identify(ada, MARCH, plan="free"))
    assert standing.see(user(ada))["properties"] == {"plan": "pro"}
    assert plans(standing, ada) == [("2024-03-10", None, "free"), ("2024-01-10", None, "pro")]
    whole = standing.see(user(ada, "/timeline"), total="true")
    assert whole["total"] == len(whole["items"]) == 3


def test_a_deletion_that_is_sent_for_a_later_time_outlives_the_value(
    standing: Clients, ada: str
) -> None:
    standing.send(identify(ada, MAY, plan=None))
    standing.send(identify(ada, JANUARY, plan="free"))
    assert standing.see(user(ada))["properties"] == {}


def test_a_membership_begins_when_it_first_began_with_the_role_that_was_said_last(
    standing: Clients, ada: str, acme: str
) -> None:
    standing.send(join(ada, acme, MAY, role="owner"))
    standing.send(join(ada, acme, JANUARY, role="guest"))
    [member] = standing.see(account(acme, "/users"))["items"]
    assert (member["joined_at"], member["role"]) == (JANUARY, "owner")


def test_somebody_is_on_record_since_the_earliest_time_that_is_known(
    standing: Clients, fresh: Callable[[str], str]
) -> None:
    by_trait, by_import, by_activity = fresh("trait"), fresh("import"), fresh("activity")
    standing.send(
        identify(by_trait, MAY, created_at="2023-02-01T00:00:00Z"),
        identify(by_trait, MAY, createdAt=1_675_000_000),
        identify(by_import, MAY),
        identify(by_activity, MAY),
    )
    standing.send(
        identify(by_import, JANUARY, plan="free"),
        {"type": "track", "userId": by_activity, "event": "signed up", "timestamp": MARCH},
    )
    since = [standing.see(user(id))["registered_at"] for id in (by_trait, by_import, by_activity)]
    assert since == ["2023-01-29T13:46:40Z", JANUARY, MARCH]


def test_the_email_that_is_shown_is_the_present_one(standing: Clients, ada: str) -> None:
    first, second = f"{ada}@a.example", f"{ada}@b.example"
    for sent in (first, second, first, None):
        standing.send(identify(ada, email=sent))
        assert standing.see(user(ada))["email"] == sent
    problem(standing.get(f"/api/users/email:{first}"), 404)


def test_an_address_that_its_owner_gave_up_is_free_for_the_next(
    standing: Clients, fresh: Callable[[str], str]
) -> None:
    ann, bob, cyd, mailbox = fresh("ann"), fresh("bob"), fresh("cyd"), f"{fresh('info')}@a.example"
    standing.send(identify(ann, email=mailbox, name="Ann"))
    standing.send(
        identify(ann, email=f"{ann}@a.example"),
        identify(bob, email=mailbox, name="Bob"),
        identify(bob, email=None),
        identify(cyd, email=mailbox, name="Cyd"),
    )
    shown = [standing.see(user(id)) for id in (ann, bob, cyd)]
    assert [(one["name"], one["email"]) for one in shown] == [
        ("Ann", f"{ann}@a.example"),
        ("Bob", None),
        ("Cyd", mailbox),
    ]
    assert len({one["id"] for one in shown}) == 3
    assert standing.see(f"/api/users/email:{mailbox}")["id"] == shown[2]["id"]


def test_whoever_was_a_visitor_goes_by_the_id_that_the_business_gave(
    standing: Clients, ada: str, acme: str, fresh: Callable[[str], str]
) -> None:
    visitor = fresh("visitor")
    standing.send(identify(visitor), join(visitor, acme, MAY))
    standing.send({"type": "alias", "userId": ada, "previousId": visitor})
    standing.send(identify(ada, name="Ada"))
    [member] = standing.see(account(acme, "/users"))["items"]
    assert (member["external_id"], member["name"]) == (ada, "Ada")
    assert standing.see(user(visitor))["external_id"] == ada


def test_a_merged_user_stands_in_the_timeline_of_an_account_under_its_name(
    standing: Clients, ada: str, acme: str, fresh: Callable[[str], str]
) -> None:
    old = fresh("old")
    standing.send(identify(ada, name="Ada"), identify(old, name="Old"), join(old, acme, MAY))
    standing.send({"type": "alias", "userId": ada, "previousId": old})
    id = standing.see(user(ada))["id"]
    items = standing.see(account(acme, "/timeline"), type="membership")["items"]
    people = {(one["user"]["id"], one["user"]["external_id"], one["user"]["name"]) for one in items}
    assert people == {(id, ada, "Ada")}
