"""What a destination's server may do to us: redirect, say nothing, be somebody else, be inside."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from domain.definitions.destinations import Subscription, SubscriptionKind
from infra.bootstrap.annals import Annals
from infra.webhooks import http_client
from infra.webhooks.delivery import MAX_BACKOFF_SECONDS
from infra.webhooks.http_client import HttpClient
from tests.infra.destinations import deliverer, logins, make, tell, turn
from tests.projections.read_models import project
from tests.receiver import Receiver, certified, receiving


def test_a_redirect_is_not_followed_and_an_endless_answer_not_read(
    annals: Annals, receiver: Receiver
) -> None:
    logins(annals, "ada")
    project(annals)
    id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
    receiver.headers = {"Location": f"{receiver.url}/elsewhere"}
    receiver.answer = lambda _: 307
    turn(annals, id)
    assert annals.delivery_cursors.states([id])[id].failure == "307"
    assert [message.path for message in receiver.came] == ["/hooks"]
    receiver.answer, receiver.answer_body = (lambda _: 200), b"x" * (10 << 20)
    tell(annals, id)
    assert len(receiver.taken()) == 1


def test_one_that_says_when_to_come_again_is_left_alone_until_then(
    annals: Annals, receiver: Receiver
) -> None:
    logins(annals, "ada")
    project(annals)
    receiver.answer = lambda _: 503
    in_ten_minutes = datetime.now(UTC) + timedelta(minutes=10)
    for header, seconds in {
        "120": 120,
        format_datetime(in_ten_minutes, usegmt=True): 600,
        "9" * 30: MAX_BACKOFF_SECONDS,
        "Fri, 31 Dec 9999 23:59:59 -2300": MAX_BACKOFF_SECONDS,
        "Wed, 21 Oct 2015 07:28:00 GMT": 0,
        "-5": 0,
        "soon": 0,
        "": 0,
    }.items():
        id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
        receiver.headers = {"Retry-After": header}
        turn(annals, id)
        now = datetime.now(UTC)
        retry_at = annals.delivery_cursors.states([id])[id].retry_at or now
        assert (retry_at - now).total_seconds() == pytest.approx(seconds, abs=60), header


def test_one_that_does_not_answer_is_given_up(
    annals: Annals, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "SECONDS", 0.2)
    logins(annals, "ada")
    project(annals)
    id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
    gate = threading.Event()
    receiver.answer = lambda _: 204 if gate.wait(10) else 500
    turn(annals, id)
    gate.set()
    assert annals.delivery_cursors.states([id])[id].failure == "timeout"


def test_tls_is_asked_for_a_certificate_that_is_vouched_for(annals: Annals, tmp_path: Path) -> None:
    logins(annals, "ada")
    project(annals)
    file = certified(tmp_path)
    with receiving(file) as receiver:
        id = make(annals, receiver.url, [Subscription(SubscriptionKind.EVENT)])
        turn(annals, id)
        assert annals.delivery_cursors.states([id])[id].failure == "certificate"
        trusting = HttpClient(allows_private=True, certificates=file)
        tell(annals, id, deliverer(annals, http_client=trusting))
        assert len(receiver.taken()) == 1


INSIDE = [(2, 1, 6, "", ("10.1.2.3", 443)), (2, 1, 6, "", ("127.0.0.1", 443))]


def test_private_addresses_are_refused_whatever_name_leads_to_them(
    annals: Annals, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins(annals, "ada")
    project(annals)
    port = receiver.url.split(":")[2].split("/")[0]
    for host in ("127.0.0.1", "localhost", "inside.example"):
        with monkeypatch.context() as patched:
            if host == "inside.example":
                patched.setattr(http_client.socket, "getaddrinfo", lambda *_, **__: INSIDE)
            id = make(annals, f"https://{host}:{port}/", [Subscription(SubscriptionKind.EVENT)])
            turn(annals, id, deliverer(annals, allows_private=False))
        assert annals.delivery_cursors.states([id])[id].failure == "refused_address"
    assert receiver.came == []
