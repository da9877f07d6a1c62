"""What a destination may be: an address that is posted to, and news that there are."""

from __future__ import annotations

import uuid

import pytest

from domain.definitions.destinations import (
    MAX_URL_CHARS,
    Destination,
    Subscription,
    SubscriptionKind,
)
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from domain.properties import PropertyType
from domain.workspace import consistency

HOOK = "https://crm.example/hooks"


def refused(one: Destination) -> str:
    with pytest.raises(InvalidInput) as caught:
        consistency.check(one)
    return caught.value.pointer


@pytest.mark.parametrize(
    "url",
    [
        HOOK,
        "https://crm.example:8443/a?b=c",
        "https://[2001:db8::1]/",
        "http://127.0.0.1:9000/x",
        "http://localhost/x",
        "http://[::1]:9/",
    ],
)
def test_an_address_that_can_be_posted_to_is_taken(url: str) -> None:
    consistency.check(Destination("a", url, [Subscription(SubscriptionKind.EVENT)]))


@pytest.mark.parametrize(
    "url",
    [
        "", "crm.example", "ftp://crm.example/", "http://crm.example/", "//crm.example/",
        "https://", "https:///x", "https://crm.example:0/", "https://crm.example:x/",
        "https://crm.example:99999/", "https://ada:secret@crm.example/",
        "https://crm.example/#x", "https://crm.example/a b", "https://crm.example/\n",
        "https://crm.exämple/", "https://[::1", "http://localhost.example/",
        "https://a/" + "x" * MAX_URL_CHARS,
    ],
)  # fmt: skip
def test_what_is_no_such_address_is_refused_at_its_place(url: str) -> None:
    assert refused(Destination("a", url, [Subscription(SubscriptionKind.EVENT)])) == "/url"


def test_what_disagrees_with_itself_is_refused_at_its_place() -> None:
    event = Subscription(SubscriptionKind.EVENT)
    for one, place in (
        (Destination("", HOOK, [event]), "/name"),
        (Destination("a", HOOK, []), "/news"),
        (Destination("a", HOOK, [event, Subscription(SubscriptionKind.PAGE), event]), "/news/2"),
        (Destination("a", HOOK, [Subscription(SubscriptionKind.EVENT, [])]), "/news/0/names"),
        (
            Destination("a", HOOK, [Subscription(SubscriptionKind.EVENT, ["x", "x"])]),
            "/news/0/names",
        ),
        (
            Destination("a", HOOK, [event, Subscription(SubscriptionKind.STAGE, ["x"])]),
            "/news/1/names",
        ),
        (Destination("a", HOOK, [event], segment=uuid.UUID(int=1)), "/kind"),
    ):
        assert refused(one) == place


class Known:
    """A vocabulary of few words."""

    def activities(self, activity: str) -> set[str]:
        return {"event": {"login"}, "screen": {"Home"}}[activity]

    def properties(self, kind: SubjectKind) -> dict[str, PropertyType]:
        return {"plan" if kind is SubjectKind.USER else "size": PropertyType.STRING}


def test_names_that_there_are_not_are_refused_at_their_place() -> None:
    def names(kind: SubjectKind | None, *news: Subscription) -> str | None:
        try:
            consistency.check_names(Destination("a", HOOK, list(news), kind), Known())
        except InvalidInput as error:
            return error.pointer
        return None

    event = Subscription(SubscriptionKind.EVENT, ["login"])
    assert names(None, event, Subscription(SubscriptionKind.PROPERTY, ["plan", "size"])) is None
    assert (
        names(
            None,
            Subscription(SubscriptionKind.PAGE, ["/any"]),
            Subscription(SubscriptionKind.CAMPAIGN, ["any"]),
        )
        is None
    )
    assert (
        names(None, event, Subscription(SubscriptionKind.SCREEN, ["Home", "Hom"]))
        == "/news/1/names/1"
    )
    assert names(None, Subscription(SubscriptionKind.EVENT, ["logn"])) == "/news/0/names/0"
    assert (
        names(SubjectKind.USER, Subscription(SubscriptionKind.PROPERTY, ["size"]))
        == "/news/0/names/0"
    )
