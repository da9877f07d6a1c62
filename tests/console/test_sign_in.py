"""Who may enter, what they may do, and what nobody else can make them do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from api.console import sessions
from api.console.sessions import Sessions
from infra import bootstrap
from infra.settings import Settings
from tests.console.reader import Reader
from tests.serving import Clients, served

Reading = Callable[..., Reader]
Session = Callable[[Clients, str], tuple[httpx.Client, str]]


def test_a_key_opens_the_page_that_was_asked_for_and_signing_out_closes_it(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, path="/console/accounts?sort=name")
    assert (reader.path, reader.query) == ("/console/accounts", {"sort": ["name"]})
    assert reader.names() == sorted(reader.names())
    reader.page.get_by_role("button", name="Sign out").click()
    expect(reader.page.get_by_label("API key")).to_be_visible()
    reader.page.goto("/console/accounts")
    assert reader.path == "/console/sign-in"


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/", "/console/\\@x"])
def test_signing_in_leads_nowhere_but_into_the_console(standing: Clients, wanted: str) -> None:
    form = {"key": standing.keys["read"], "next": wanted}
    answer = standing(None).post("/console/sign-in", data=form)
    assert answer.headers["location"] == "/console/users"


@pytest.mark.parametrize("key", ["", "annals_read_nonsense", "write"])
def test_a_key_that_may_not_read_is_told_so_and_gets_no_session(
    standing: Clients, key: str
) -> None:
    form = {"key": standing.keys.get(key, key)}
    answer = standing(None).post("/console/sign-in", data=form)
    assert answer.status_code == 401
    assert "may not read" in answer.text
    assert "set-cookie" not in answer.headers


def test_what_browsers_load_says_once_in_which_letters_it_is(standing: Clients) -> None:
    page = standing(None).get("/console/sign-in").text
    files = set(re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page))
    types = {standing(None).get(one).headers["content-type"] for one in files}
    assert types >= {"text/css; charset=utf-8", "text/javascript; charset=utf-8"}
    assert not [one for one in types if one.count("charset") > 1]


@pytest.fixture
def behind_proxy(database_url: str, tmp_path: Path) -> Iterator[Clients]:
    """A server that believes what this machine says of its clients."""
    trusted = Settings(data=tmp_path, trusted_proxies=(ip_network("127.0.0.1"),))
    with (
        bootstrap.opened(trusted, database_url, connections=4) as annals,
        served(annals) as clients,
    ):
        yield clients


def test_a_stranger_cannot_say_that_it_came_by_tls(standing: Clients) -> None:
    form, behind = {"key": standing.keys["read"]}, {"X-Forwarded-Proto": "https"}
    answer = standing(None).post("/console/sign-in", data=form, headers=behind)
    assert "secure" not in answer.headers["set-cookie"].lower()


def test_the_cookie_is_for_this_host_alone_hidden_from_scripts_and_behind_tls_from_others(
    behind_proxy: Clients,
) -> None:
    client = behind_proxy
    form = {"key": client.keys["read"]}
    plain = client(None).post("/console/sign-in", data=form).headers["set-cookie"].lower()
    assert "httponly" in plain
    assert "samesite=lax" in plain
    assert "path=/console" in plain
    assert "secure" not in plain
    assert client.keys["read"].lower() not in plain
    behind = {"X-Forwarded-Proto": "https"}
    tls = client(None).post("/console/sign-in", data=form, headers=behind)
    assert "secure" in tls.headers["set-cookie"].lower()


def test_a_session_is_worth_nothing_once_altered_too_old_or_its_key_revoked(
    standing: Clients, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Sessions(b"k" * 32)
    cookie = ours.begin("a key")
    opened = ours.open(cookie)
    assert opened is not None
    assert opened.key == "a key"
    assert Sessions(b"l" * 32).open(cookie) is None
    for n in range(0, len(cookie) - 1, 7):
        other = "A" if cookie[n] != "A" else "B"
        assert ours.open(cookie[:n] + other + cookie[n + 1 :]) is None
    assert ours.open("") is None
    assert ours.open("é") is None
    monkeypatch.setattr(sessions.time, "time", lambda: opened.ends_at + 1)
    assert ours.open(cookie) is None
    monkeypatch.undo()
    http, _ = session(standing, "read")
    assert http.get("/console/users").status_code == 200
    for look_up in ("recalled", "find"):
        monkeypatch.setattr(standing.annals.api_keys, look_up, lambda key: None)
    assert http.get("/console/users").headers["location"].startswith("/console/sign-in")


def test_what_changes_something_needs_the_token_of_the_page_and_this_host(
    client: Clients,
    session: Session,
) -> None:
    http, token = session(client, "admin")
    form = {"kind": "user", "name": "Everybody", "condition": '{"type": "all", "of": []}'}
    refusals: list[tuple[dict[str, str], dict[str, str]]] = [
        (form, {}),
        (form | {"csrf": "no"}, {}),
        (form, {"X-CSRF-Token": "no"}),
        (form | {"csrf": token}, {"Origin": "https://evil.example"}),
        (form | {"csrf": token}, {"Sec-Fetch-Site": "cross-site"}),
    ]
    for sent, headers in refusals:
        assert http.post("/console/segments", data=sent, headers=headers).status_code == 403
    json = {"Content-Type": "application/json"}
    assert http.post("/console/segments/preview", content=b"{}", headers=json).status_code == 403
    assert client.see("/api/segments")["items"] == []
    answer = http.post("/console/segments", data=form | {"csrf": token})
    assert answer.status_code == 303
    assert [one["name"] for one in client.see("/api/segments")["items"]] == ["Everybody"]


def test_nobody_is_signed_in_by_another_site(standing: Clients) -> None:
    form, other = {"key": standing.keys["read"]}, {"Origin": "https://evil.example"}
    answer = standing(None).post("/console/sign-in", data=form, headers=other)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/console/sign-in", "/console/users", "/console/segments/new", "/console/no-such-page"],
)
def test_every_page_has_a_policy_without_inline_script_or_style_and_is_kept_nowhere(
    standing: Clients, session: Session, path: str
) -> None:
    http, _ = session(standing, "admin")
    answer = http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", answer.text)
    for tag in re.findall(r"<script[^>]*>", answer.text):
        assert "src=" in tag or 'type="application/json"' in tag
    for address in re.findall(r'(?:src|href)="([^"]*)"', answer.text):
        assert address.startswith(("/console", "?", "#")), address


@pytest.mark.parametrize(("scope", "sees"), [("read", False), ("comply", True), ("admin", False)])
def test_who_may_not_delete_sees_no_button_and_who_may_not_edit_no_editor(
    world: Clients, reading: Reading, scope: str, sees: bool
) -> None:
    reader = reading(world, scope)
    expect(reader.page.get_by_role("button", name="Delete", exact=True)).to_have_count(int(sees))
    reader.go("/console/segments/new")
    edits = scope == "admin"
    expect(reader.page.get_by_role("button", name="Save as segment")).to_have_count(int(edits))


def test_what_is_not_shown_is_refused_all_the_same(
    standing: Clients,
    session: Session,
) -> None:
    http, token = session(standing, "read")
    form = {"csrf": token, "kind": "user", "name": "No", "condition": '{"type": "all", "of": []}'}
    answer = http.post("/console/segments", data=form)
    assert answer.status_code == 403
    assert "needs a key with scope admin" in answer.text
