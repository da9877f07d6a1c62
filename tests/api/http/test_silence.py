"""What was sent is told to its sender alone: never to the log, and to nobody else."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.serving import Clients, account, user

PLANTED = "Planted-Päivi"
ID = quote(f"external:{PLANTED}", safe="")
READS = [
    f"/api/{kind}/{ID}{tab}"
    for kind in ("users", "accounts")
    for tab in ("", "/timeline", "/properties", "/events", f"/{PLANTED}")
]
MESSAGES: list[Any] = [
    {"type": "identify", "userId": PLANTED, "traits": {"name": PLANTED, PLANTED: {"a": PLANTED}}},
    {"type": PLANTED, "userId": PLANTED, "messageId": PLANTED},
    {"type": "identify", "userId": PLANTED + "\0", "timestamp": PLANTED},
    {"type": "track", "userId": PLANTED, "event": "x", "properties": {"note": PLANTED}},
    {"type": "page", "userId": PLANTED, "properties": {"url": PLANTED}},
    PLANTED,
]


def everything(client: Clients) -> None:
    """Sends the planted value wherever something can be sent, rightly and wrongly."""
    write, read, comply = client("write"), client("read"), client("comply")
    write.post("/v1/batch", json={"batch": MESSAGES})
    write.post("/v1/batch", content=json.dumps({"batch": MESSAGES})[:-3].encode())
    write.post("/v1/batch", json={"batch": PLANTED})
    write.post("/v1/batch", content=PLANTED.encode(), headers={"Content-Encoding": "gzip"})
    client(None).post("/v1/batch", json={"batch": [], "writeKey": PLANTED})
    client(None).get("/api/users", headers={"Authorization": f"Bearer {PLANTED}".encode("latin-1")})
    for path in ("/api/users", "/api/accounts"):
        for name in ("search", "sort", "cursor", "limit", "wait_for", PLANTED):
            read.get(path, params={name: PLANTED})
            read.get(path, params={name: PLANTED + "\0"})
    for path in READS:
        read.get(path, params={"cursor": PLANTED, "wait_for": PLANTED})
        read.get(path)
    write.delete(f"/api/accounts/{ID}/users/{ID}")
    comply.post("/api/erasures", json={"kind": "user", "id": PLANTED, "confirm": PLANTED})
    comply.post("/api/erasures", json={"kind": PLANTED, "id": PLANTED, PLANTED: PLANTED})
    comply.post("/api/erasures", content=PLANTED.encode())
    read.get(f"/{PLANTED}")


def said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    out, err = capfd.readouterr()
    return out + err + caplog.text


def leaks(text: str) -> list[str]:
    forms = (PLANTED, "Planted", quote(PLANTED), ascii(PLANTED), PLANTED.encode().hex())
    return [form for form in forms if form in text]


def test_case_24_the_log_holds_nothing_of_what_was_sent(
    client: Clients, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    everything(client)
    assert leaks(said(capfd, caplog)) == []


@pytest.mark.parametrize("away", [False, True])
def test_case_25_the_log_holds_nothing_of_what_was_sent_when_all_fails(
    client: Clients,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    away: bool,
) -> None:
    client.send({"type": "identify", "userId": PLANTED, "traits": {"name": PLANTED}})
    client.see(user(PLANTED))

    def fail(*given: Any, **named: Any) -> Any:
        kind = psycopg.OperationalError if away else RuntimeError
        raise kind(f"{given} {named} {PLANTED}")

    annals = client.annals
    monkeypatch.setattr(annals.handler, "handle", fail)
    monkeypatch.setattr(annals.subject_lookup, "find", fail)
    monkeypatch.setattr(annals.erasure_requests, "erase", fail)
    monkeypatch.setattr(annals.queries, "connect", fail)
    everything(client)
    status = 503 if away else 500
    for path in (user(PLANTED), account(PLANTED), "/api/users?search=" + PLANTED, "/api/status"):
        answer = client("read").get(path)
        assert answer.status_code == status
        assert leaks(answer.text) == []
    answer = client("write").post("/v1/batch", json={"batch": MESSAGES})
    assert answer.status_code == status
    assert leaks(answer.text) == []
    text = said(capfd, caplog)
    assert leaks(text) == []
    assert ("request.database_unreachable" if away else "request.failed") in text
