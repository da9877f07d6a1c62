"""The pages keep their word: commands run, examples are taken, names and links lead somewhere."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner

from api.app import create_app
from api.cli import main
from api.definitions.backtests import DEFAULT_SAMPLE
from api.http import problems
from domain import errors
from domain.backtest.outcomes import MAX_DAYS
from domain.conditions.evidence import MAX_SEEN, MAX_SEEN_CHARS, MAX_SEEN_ITEMS
from infra import backtest_jobs
from infra.bootstrap import Annals
from infra.settings import Settings
from projections.projector.read_models import ReadModels
from tests.serving import Clients, served

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
# Never seen from outside: the handler takes its decision again.
INTERNAL_CODES = {"version-conflict", "duplicate-message"}


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def json_documents(text: str) -> list[Any]:
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at != -1:
        document, end = decoder.raw_decode(text, at)
        found.append(document)
        at = text.find("{", end)
    return found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


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
            in_the_example(one, other) for one, other in zip(example, answer, strict=True)
        )
    return bool(example == answer)


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the story is told with curl")


def told(story: str, clients: Clients) -> list[Any]:
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
        once, again = told(story, clients), told(story, clients)
    assert len(once) == len(shown)
    for example, answer in zip(shown, once, strict=True):
        assert in_the_example(example, answer), answer
    assert [one["status"] for one in again[0]["results"]] == ["duplicate"] * 3
    assert again[1:] == once[1:]


@needs_curl
def test_the_erasure_of_the_compliance_page_forgets_the_user_of_the_readme(annals: Annals) -> None:
    [story], [erasure] = blocks("README.md", "bash"), blocks("docs/compliance.md", "bash")
    with served(annals) as clients:
        *_, answer = told(f"{story}\n{erasure}", clients)
        clients.taken(httpx.Response(200, json=answer))
        assert clients.get(f"/api/users/{answer['subject']}").status_code == 404
        [member] = clients.see("/api/accounts/external:acme/users")["items"]
        assert (member["erased"], member["name"], member["role"]) == (True, None, None)


def test_every_example_for_senders_is_stored_whole(annals: Annals) -> None:
    messages = [json.loads(block) for block in blocks("docs/sending.md", "json")]
    assert {one["type"] for one in messages} == {
        "identify",
        "group",
        "track",
        "page",
        "screen",
        "alias",
    }
    with served(annals) as clients:
        results = clients.send(*messages)["results"]
        assert [set(one) for one in results] == [{"status", "messageId"}] * len(messages), results
        assert {one["status"] for one in results} == {"stored"}
        seen = clients.see("/api/accounts/domain:acme.example")
        assert seen["counts"]["events"] == 2
        assert clients.see("/api/users/external:visitor-7")["external_id"] == "ada"
        channels = clients.see("/api/users/external:ada/channels")["items"]
        assert [one["name"] for one in channels] == ["email"]


def test_every_limit_that_the_senders_page_names_is_the_one_in_the_code() -> None:
    rows = re.findall(
        r"^\| .* \| `([\w.]+)\.(\w+)` \| ([\d,]+) \|$", text_of("docs/sending.md"), re.M
    )
    assert len(rows) > 5
    for module, constant, value in rows:
        assert getattr(importlib.import_module(module), constant) == int(value.replace(",", ""))


def test_every_code_of_a_refusal_is_explained_to_senders() -> None:
    documented = {
        (code, int(status[:3])) if status[:3].isdigit() else (code, None)
        for code, status in re.findall(
            r"^\| `([a-z-]+)` \| (.*?) \|", text_of("docs/sending.md"), re.M
        )
    }
    raised = {
        (one.code, problems.STATUS[one])
        for one in errors.Refusal.__subclasses__()
        if one.code not in INTERNAL_CODES
    }
    for source in (ROOT / "api").rglob("*.py"):
        found = re.findall(
            r'(?:ProblemException|_refuse)\(\s*(\d+),\s*"([a-z-]+)"', source.read_text()
        )
        raised |= {(code, int(status)) for status, code in found}
    unforeseen = {("refused", None), ("failed", 500), ("method-not-allowed", 405)}
    unforeseen |= {("too-large", 413)}
    statuses = {("stored", None), ("duplicate", None)}
    assert documented - statuses == raised | unforeseen


def test_every_route_below_api_has_its_place_in_the_pages_and_every_route_of_them_exists(
    annals: Annals,
) -> None:
    paths = create_app(annals).openapi_schema.to_schema()["paths"]
    served_routes = {
        f"{method.upper()} {path}" for path, methods in paths.items() for method in methods
    }
    named = {
        re.sub(r"/(external|domain|email):[^/]*", "/{id}", route)
        for page in PAGES
        for route in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?\s]*)[`?]", page.read_text())
    }
    assert named <= served_routes
    assert {route for route in served_routes if " /api/" in route} <= named


class Asked(dict[str, str]):
    """An environment with nothing set, that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def test_the_operators_table_has_every_setting_and_what_holds_if_it_is_unset() -> None:
    asked = Asked()
    defaults = Settings.from_environment(asked)
    table: Mapping[str, str] = dict(
        re.findall(
            r"^\| `(ANNALS_\w+)` \| `?(.*?)`? \|", text_of("docs/operating.md"), re.MULTILINE
        )
    )
    assert set(table) == asked.names
    for name, default in table.items():
        value = getattr(defaults, name.removeprefix("ANNALS_").lower())
        if name == "ANNALS_DATABASE_URL":
            assert value is None
        elif isinstance(value, Path) and not default.startswith("."):
            assert value == Path(default).absolute()
        elif isinstance(value, tuple):
            assert (" ".join(map(str, value)) or "none") == default
        else:
            assert str(value).removeprefix(f"{Path.cwd()}/") == default
    own = (ROOT / "tests" / "conftest.py").read_text()
    for page in PAGES:
        for name in set(re.findall(r"ANNALS_[A-Z_]+", page.read_text())) - asked.names:
            assert f'"{name}"' in own, f"{page.name} names {name}"


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                yield page, target


def test_every_link_of_the_pages_leads_somewhere() -> None:
    found = list(links())
    assert found
    for page, target in found:
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links {target}"


def test_every_name_of_the_code_in_the_pages_is_there() -> None:
    for page in PAGES:
        for file, name in re.findall(
            r"`((?:domain|projections|infra|api)/[\w/]+\.py):([\w.]+)`", page.read_text()
        ):
            found: Any = importlib.import_module(file.removesuffix(".py").replace("/", "."))
            for part in name.split("."):
                assert hasattr(found, part), f"{page.name} names {file}:{name}"
                found = getattr(found, part)
        for file in re.findall(
            r"`((?:domain|projections|infra|api|tests|docs)/[\w/.-]*)`", page.read_text()
        ):
            assert (ROOT / file).exists(), f"{page.name} names {file}"


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
    told = CliRunner().invoke(main, ["rebuild", "--yes"], env=environment)
    assert told.exit_code == 0, told.output
    recorded = annals.status().recorded
    assert f"{recorded:,} of {recorded:,} events are shown" in told.output
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
    emptied = ReadModels(annals.views).tables
    assert sorted(emptied) == sorted(tables - kept)


def test_the_back_test_of_its_page_runs_as_it_says(client: Clients) -> None:
    [request] = map(json.loads, blocks("docs/backtesting.md", "json"))
    client.send({"type": "track", "userId": "ada", "event": "login"})
    client.see("/api/users")
    answer = client("read").post("/api/backtest", json=request)
    assert answer.status_code == 202, answer.text
    text = text_of("docs/backtesting.md")
    for number in (MAX_DAYS, backtest_jobs.MAX_KEPT):
        assert f" {number}" in text
    assert f"{DEFAULT_SAMPLE:,}" in text


def test_what_evidence_keeps_is_what_the_page_on_deciding_says() -> None:
    text = " ".join(text_of("docs/deciding.md").split())
    assert f"Texts are cut at {MAX_SEEN_CHARS} characters, lists at {MAX_SEEN_ITEMS} items" in text
    assert f"the first {MAX_SEEN} are kept" in text


def test_every_case_against_the_erasure_has_a_test_by_its_number() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    numbers = {int(number) for number in re.findall(r"def test_case_(\d+)_", tests)}
    assert numbers == set(range(1, 35))
