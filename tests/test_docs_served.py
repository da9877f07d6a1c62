"""The pages keep their word, held against a database and a server: commands run, requests are
answered as they say, tables and routes are there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner

from api.cli import main
from infra.bootstrap.annals import Annals
from projections.projector.read_models import ReadModels
from tests import conversations
from tests.pages import PAGES, blocks, name_of, quoted, text_of
from tests.pictures import tables
from tests.serving import Clients, served

SCHEMAS = ("log", "keys", "views")
TABLE = re.compile(rf"(?:{'|'.join(SCHEMAS)})\.[a-z_]+(?:\.[a-z_]+)?")
NO_TABLES = {"keys.rotation_cannot_be_followed", "log.position_past_head", "keys.json"}
"""Lines of the operator's log, and a file, that read like tables."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the story is told with curl")


def json_documents(text: str) -> list[Any]:
    decoder, documents, at = json.JSONDecoder(), [], text.find("{")
    while at != -1:
        document, end = decoder.raw_decode(text, at)
        documents.append(document)
        at = text.find("{", end)
    return documents


def in_the_example(example: Any, answer: Any) -> bool:
    """Whether an answer has every name of a shortened example, and its values but for ids, times
    and positions."""
    if isinstance(example, dict):
        return isinstance(answer, dict) and all(
            name in answer
            and (
                name in ("id", "position")
                or name.endswith(("_at", "_seen"))
                or in_the_example(value, answer[name])
            )
            for name, value in example.items()
        )
    if isinstance(example, list):
        return len(example) == len(answer) and all(
            in_the_example(shown, given) for shown, given in zip(example, answer, strict=True)
        )
    return bool(example == answer)


def run_as_pasted(story: str, clients: Clients) -> list[Any]:
    """Runs commands as a reader pastes them; returns the JSON that they print."""
    clients.send({"type": "identify", "userId": "somebody"})
    clients.see("/api/users")  # the projector is at work: the story's one wait will do
    environment = os.environ | {
        "ANNALS_PORT": clients.url.rpartition(":")[2],
        "ANNALS_DATA": str(clients.annals.settings.data),
    }
    command = ["bash", "-euo", "pipefail", "-c", story]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return json_documents(run.stdout)


@needs_curl
def test_the_first_event_of_the_readme_is_stored_and_seen_as_it_says(annals: Annals) -> None:
    [story] = blocks("README.md", "bash")
    shown = [json.loads(block) for block in blocks("README.md", "json")]
    with served(annals) as clients:
        first, again = run_as_pasted(story, clients), run_as_pasted(story, clients)
        assert len(first) == len(shown)
        for example, answer in zip(shown, first, strict=True):
            assert in_the_example(example, answer), answer
        assert [result["status"] for result in again[0]["results"]] == ["duplicate"] * 3
        assert again[1:] == first[1:]
        # What the pages for dashboards show is the same workspace.
        for page in ("docs/reading/lists.md", "docs/reading/contact.md"):
            for url, example in examples_of_reading(page):
                answer = clients.see(url.path, **dict(url.params))
                assert in_the_example(example, answer), answer


def examples_of_reading(page: str) -> list[tuple[httpx.URL, Any]]:
    """Routes that a page asks, each with the answer that follows it."""
    examples = re.findall(
        r"^`GET ([^`]+)`[^\n]*:\n\n```json\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE
    )
    assert examples, page
    return [(httpx.URL(path), json.loads(block)) for path, block in examples]


@needs_curl
def test_the_erasure_of_the_compliance_page_forgets_the_user_of_the_readme(annals: Annals) -> None:
    [story], [erasure] = blocks("README.md", "bash"), blocks("docs/compliance.md", "bash")
    with served(annals) as clients:
        *_, answer = run_as_pasted(f"{story}\n{erasure}", clients)
        clients.taken(httpx.Response(200, json=answer))
        assert clients.get(f"/api/users/{answer['subject']}").status_code == 404
        [member] = clients.see("/api/accounts/external:acme/users")["items"]
        assert (member["erased"], member["name"], member["role"]) == (True, None, None)


@pytest.mark.parametrize(
    ("page", "number"), [("docs/erasure-requests.md", 14), ("docs/destination-requests.md", 13)]
)
def test_every_request_of_a_page_is_answered_as_it_shows(
    client: Clients, page: str, number: int
) -> None:
    assert conversations.hold(page, client) == number


def test_every_example_for_senders_is_stored_whole(annals: Annals) -> None:
    messages = [json.loads(block) for block in blocks("docs/sending.md", "json")]
    assert {message["type"] for message in messages} == {
        "identify",
        "group",
        "track",
        "page",
        "screen",
        "alias",
    }
    with served(annals) as clients:
        results = clients.send(*messages)["results"]
        assert [set(result) for result in results] == [{"status", "messageId"}] * len(messages)
        assert {result["status"] for result in results} == {"stored"}
        seen = clients.see("/api/accounts/domain:acme.example")
        assert seen["counts"]["events"] == 2
        assert clients.see("/api/users/external:visitor-7")["external_id"] == "ada"
        channels = clients.see("/api/users/external:ada/channels")["items"]
        assert [channel["name"] for channel in channels] == ["email"]


def test_every_route_below_api_has_its_place_in_the_pages_and_every_route_of_them_exists(
    client: Clients,
) -> None:
    paths = client(None).get("/schema/openapi.json").json()["paths"]
    served_routes = {
        f"{method.upper()} {path}" for path, methods in paths.items() for method in methods
    }
    named = {
        re.sub(r"/(external|domain|email):[^/]*", "/{id}", route)
        for page in PAGES
        for words in quoted(page.read_text())
        for route in re.findall(r"^((?:GET|POST|PUT|PATCH|DELETE) /[^?\s]*)", words)
    }
    assert named <= served_routes, named - served_routes
    missing = {route for route in served_routes if " /api/" in route} - named
    assert not missing


def columns(database_url: str) -> Mapping[str, set[str]]:
    """Each table, view and function of ours, with the names of its columns."""
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT table_schema || '.' || table_name, array_agg(column_name::text)"
            " FROM information_schema.columns WHERE table_schema = ANY(%(schemas)s) GROUP BY 1"
            " UNION ALL SELECT routine_schema || '.' || routine_name, '{}'"
            " FROM information_schema.routines WHERE routine_schema = ANY(%(schemas)s)",
            {"schemas": list(SCHEMAS)},
        )
        return {name: set(names) for name, names in rows}


def test_every_table_and_column_that_is_named_is_in_the_database(database_url: str) -> None:
    known, named = columns(database_url), set[str]()
    for page in PAGES:
        for words in quoted(page.read_text()):
            if TABLE.fullmatch(words) and words not in NO_TABLES:
                schema, table, *column = words.split(".")
                assert f"{schema}.{table}" in known, f"{name_of(page)} names {words}"
                assert set(column) <= known[f"{schema}.{table}"], f"{name_of(page)} names {words}"
                named.add(words)
    assert len(named) > 8


def test_the_picture_of_the_tables_has_each_once(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables"
            " WHERE table_schema = ANY(%s)",
            (list(SCHEMAS),),
        ).fetchall()
    assert sorted(tables.names()) == sorted(name for (name,) in rows)


def test_the_stored_format_has_every_column_of_an_event_in_its_order(database_url: str) -> None:
    types = "smallint|bigint|uuid|text|timestamptz|bytea"
    rows = re.findall(rf"^\| `(\w+)` \| (?:{types})", text_of("docs/log-format.md"), re.MULTILINE)
    with psycopg.connect(database_url) as conn:
        names = conn.execute(
            "SELECT column_name::text FROM information_schema.columns"
            " WHERE (table_schema, table_name) = ('log', 'events') ORDER BY ordinal_position"
        ).fetchall()
    assert rows == [name for (name,) in names]


def test_making_the_read_models_again_shows_what_was_shown_before(
    annals: Annals, database_url: str
) -> None:
    messages = [json.loads(block) for block in blocks("docs/sending.md", "json")]
    paths = ("/api/users", "/api/accounts/external:acme", "/api/users/external:ada/events")
    with served(annals) as clients:
        clients.send(*messages, {"type": "identify", "userId": "gone", "traits": {"name": "Gone"}})
        clients.erase("user", "external:gone")
        before = [clients.see(path) for path in paths]
    with psycopg.connect(database_url) as conn:
        conn.execute("UPDATE views.contacts SET properties = '{}'")
        conn.execute("DELETE FROM views.activity_days")
    environment = {
        "ANNALS_DATABASE_URL": database_url,
        "ANNALS_DATA": str(annals.settings.data),
    }
    rebuilt = CliRunner().invoke(main, ["rebuild", "--yes"], env=environment)
    assert rebuilt.exit_code == 0, rebuilt.output
    recorded = annals.status().recorded
    assert f"{recorded:,} of {recorded:,} events are shown" in rebuilt.output
    with served(annals) as clients:
        assert [clients.see(path) for path in paths] == before


def test_all_that_is_made_from_the_log_is_made_again(annals: Annals, database_url: str) -> None:
    """Names keep their numbers, and registered counters what they are to count; pasts stay, and
    what other readers have parked."""
    kept = {
        "checkpoints", "workers", "fences", "names", "counters", "saved_views", "pasts", "parked",
    }  # fmt: skip
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'views'")
        tables = {table for (table,) in rows}
    assert sorted(ReadModels(annals.views).tables) == sorted(tables - kept)


def test_the_back_test_of_its_page_runs_as_it_says(client: Clients) -> None:
    [request] = map(json.loads, blocks("docs/backtesting.md", "json"))
    client.send({"type": "track", "userId": "ada", "event": "login"})
    client.see("/api/users")
    answer = client("read").post("/api/backtest", json=request)
    assert answer.status_code == 202, answer.text
