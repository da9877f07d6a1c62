"""Destinations hear of an erasure, and of nothing else about whoever is erased."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import structlog

from domain.commands import Change, Join
from domain.definitions.destinations import Subscription, SubscriptionKind
from domain.events.definitions import MembersListed
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from infra.webhooks import items
from infra.webhooks.cursors import DeliveryCursors
from tests.infra import destinations
from tests.infra.destinations import PLANTED, did, make, tell, turn
from tests.infra.erasures import ask
from tests.projections.read_models import NOON, account, found, owner, project, user, write
from tests.projections.segments import define, settle
from tests.receiver import Receiver

U, A = SubjectKind.USER, SubjectKind.ACCOUNT


def planted(annals: Annals) -> uuid.UUID:
    write(
        annals,
        Join(user(PLANTED), account("acme"), {}, {"role": PLANTED}, NOON),
        Change(U, user(PLANTED), {"name": PLANTED}, NOON),
        did("login", "acme")(PLANTED),
    )
    project(annals)
    subject = found(annals, user(PLANTED))
    assert subject is not None
    return subject


def shown(messages: list[Any]) -> str:
    return "".join(message.body.decode() for message in messages)


def test_nothing_of_whoever_is_erased_is_sent_once_the_key_is_destroyed(
    annals: Annals, receiver: Receiver
) -> None:
    subject = planted(annals)
    asking = [Subscription(SubscriptionKind.EVENT)]
    all_news, only_events = make(annals, receiver.url), make(annals, f"{receiver.url}/x", asking)
    receiver.answer = lambda _: 500
    turn(annals, all_news)
    assert PLANTED in shown(receiver.came)
    receiver.came.clear()
    receiver.answer = lambda _: 204
    ask(annals, subject)
    # The read models have not come to it, and still hold the name.
    turn(annals, all_news)
    project(annals)
    tell(annals, all_news)
    tell(annals, only_events)
    assert PLANTED not in shown(receiver.came)
    for path in ("/hooks", "/hooks/x"):
        [gone] = [item for item in receiver.taken(path) if item["type"] == "contact.erased"]
        assert gone["user"] == {
            "id": str(subject),
            "external_id": None,
            "email": None,
            "domain": None,
            "identities": [],
            "erased": True,
        }
        assert (gone["account"], gone["data"]) == (None, {})
    assert not [item for item in receiver.taken("/hooks/x") if item["type"] != "contact.erased"]


def test_an_erased_account_is_but_an_id_in_what_its_users_did(
    annals: Annals, receiver: Receiver
) -> None:
    write(
        annals,
        Join(user("ada"), account(PLANTED), {"name": PLANTED}, {}, NOON),
        did("login", PLANTED)("ada"),
    )
    project(annals)
    gone = found(annals, account(PLANTED))
    id = make(annals, receiver.url)
    ask(annals, gone, kind=A)
    # The read models have not come to it, and still hold the name.
    tell(annals, id)
    assert PLANTED not in shown(receiver.came)
    [login] = [item for item in receiver.taken() if item["type"] == "user.event_tracked"]
    assert (login["user"]["external_id"], login["account"]["id"]) == ("ada", str(gone))
    assert (login["account"]["erased"], login["account"]["identities"]) == (True, [])


def test_whoever_is_erased_between_reading_and_sending_is_not_sent(
    annals: Annals, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = planted(annals)
    id = make(annals, receiver.url)
    extend = DeliveryCursors.extend
    erased: list[uuid.UUID] = []

    def erasing(self: DeliveryCursors, *rest: Any) -> None:
        extend(self, *rest)
        if not erased:
            erased.append(subject)
            ask(annals, subject)

    monkeypatch.setattr(DeliveryCursors, "extend", erasing)
    tell(annals, id)
    assert erased
    assert PLANTED not in shown(receiver.came)


def test_case_23_a_segment_of_a_destination_that_listed_an_erased_one_is_cleaned(
    annals: Annals, receiver: Receiver, database_url: str
) -> None:
    subject = planted(annals)
    segment = define(annals, None)
    annals.definitions.change_list(segment, [MembersListed([subject], destinations.BY)], NOON)
    settle(annals)
    id = make(annals, receiver.url, kind=U, segment=segment)
    ask(annals, subject)
    settle(annals)
    tell(annals, id)
    assert [item["type"] for item in receiver.taken()] == ["contact.erased"]
    with owner(database_url) as conn:
        query = "SELECT count(*) FROM views.segment_members WHERE subject = %s"
        assert conn.execute(query, (subject,)).fetchone() == (0,)


def test_a_failure_leaves_nothing_personal_and_no_secret_in_the_log(
    annals: Annals, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(annals)
    id = make(annals, f"{receiver.url}?token={PLANTED[-7:]}")
    receiver.answer, receiver.answer_body = (lambda _: 500), PLANTED.encode()
    with structlog.testing.capture_logs() as lines:
        turn(annals, id)
        monkeypatch.setattr(items.webhook_items, "items", lambda *_: 1 / 0)
        turn(annals, id)
    assert [line["event"] for line in lines] == [
        "destination.failed",
        "destination.failed",
        "delivering.failed",
    ]
    secret = annals.webhook_secrets.of(id)[0]
    shown_to_operators = (
        str(lines) + str(annals.delivery_cursors.states([id])) + repr(annals.delivery_cursors)
    )
    assert "Planted" not in shown_to_operators
    assert secret.hex() not in shown_to_operators
    assert annals.delivery_cursors.states([id])[id].failure == "here"
