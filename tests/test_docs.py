"""The pages keep their word, as far as the code alone can tell: names, links, commands, figures.
`tests/test_docs_served.py` holds the rest against a database and a server."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from api.cli import main
from api.contacts import activity_by_day, live
from api.contacts.history import MAX_NAMES
from api.definitions.backtests import DEFAULT_SAMPLE
from api.http import bodies, connections, problems, rates
from api.server import IDLE_SECONDS
from domain import errors
from domain.backtest.outcomes import MAX_DAYS
from domain.conditions.evidence import MAX_SEEN, MAX_SEEN_CHARS, MAX_SEEN_ITEMS
from domain.conditions.language import MAX_DEPTH, MAX_NODES
from domain.definitions.retention import MAX_MONTHS
from domain.definitions.types import DefinitionKind
from domain.erasure.order import MAX_LISTED_FOR_ERASURE, MAX_REASON_CHARS
from domain.erasure.scan import MAX_VALUES, MIN_CHARS
from domain.erasure.steps import ErasureStep
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectKind
from domain.workspace.consistency import MAX_LINKS
from infra import backtest_jobs
from infra.erasure.steps import SUBJECTS_AT_A_TIME
from infra.log import read_position
from infra.pasts.registry import BY_KEY, KEPT
from infra.postgres.admission import BOUNDS, Demand
from infra.settings import Settings
from infra.webhooks.items import MAX_ITEMS
from projections.counters import requests
from projections.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT
from projections.models import filters
from projections.projector.leases import LEASE_SECONDS
from tests.code_names import ATTRIBUTE, BARE_PAGE, DOTTED, FILE, has_attribute, is_there, texts
from tests.pages import (
    PACKAGES,
    PAGES,
    ROOT,
    anchors,
    blocks,
    commands,
    links,
    name_of,
    quoted,
    section,
    text_of,
)
from tests.pictures import erasure, tables

# Never seen from outside: the handler takes its decision again.
INTERNAL_CODES = {"version-conflict", "duplicate-message"}
FILE_AND_NAME = re.compile(r"((?:domain|projections|infra|api|tests)/[\w/]+\.py):([\w.]+)")
LOG_EVENT = re.compile(
    r"(?:answer|counter|database|defaults|destination|embedded|erasures|keys|log|past|process"
    r"|projector|reader|request|upkeep|worker)\.[a-z]+_[a-z_]+|projector\.\w+|worker\.\w+"
)

__all__ = ["blocks"]


# What leads elsewhere


def test_every_link_of_the_pages_leads_somewhere() -> None:
    linking = list(links())
    assert linking
    for page, target in linking:
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)} links {target}"
        assert not anchor or anchor in anchors(linked), f"{name_of(page)} links {target}"


def test_every_page_is_reached_from_the_readme() -> None:
    linked: dict[Path, set[Path]] = {}
    for page, target in links():
        if path := target.partition("#")[0]:
            linked.setdefault(page, set()).add((page.parent / path).resolve())
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            folder = sorted(page.glob("*.md")) if page.is_dir() else []
            waiting += [*linked.get(page, ()), *folder]
    assert not [name_of(page) for page in PAGES if page not in reached]


def test_every_picture_says_what_it_shows() -> None:
    for page in PAGES:
        for text, target in re.findall(r"!\[(.*?)\]\(([^)\s]+)\)", page.read_text(), re.DOTALL):
            assert len(text) > 10, f"{name_of(page)} shows {target}"


# What is named of the code


def test_every_name_of_the_code_in_the_pages_is_there() -> None:
    named: dict[str, bool] = {}
    for page in PAGES:
        for words in quoted(page.read_text()):
            place = f"{name_of(page)} names {words}"
            if match := FILE_AND_NAME.fullmatch(words):
                module = match[1].removesuffix(".py").replace("/", ".")
                named[place] = is_there(f"{module}.{match[2]}")
            elif FILE.fullmatch(words):
                named[place] = (ROOT / words).exists()
            elif DOTTED.fullmatch(words):
                named[place] = is_there(words)
    assert len(named) > 100
    assert not [place for place, is_known in named.items() if not is_known]


def test_every_name_that_the_code_gives_in_its_own_words_is_there() -> None:
    dangling: list[str] = []
    for source, text in texts().items():
        for words in re.findall(r"`([^`\n]+)`", text):
            attribute = ATTRIBUTE.fullmatch(words)
            if (
                (DOTTED.fullmatch(words) and not is_there(words))
                or (FILE.fullmatch(words) and not (ROOT / words).exists())
                or (attribute and not has_attribute(*attribute.groups()))
            ):
                dangling.append(f"{name_of(source)} names {words}")
        dangling += [
            f"{name_of(source)} names {words}"
            for words in BARE_PAGE.findall(text)
            if not (ROOT / words).exists()
        ]
    assert not dangling


def test_the_glossary_has_each_word_once_with_a_file_that_defines_it() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| `([^`|]+)` \|$", text_of("docs/glossary.md"), re.M
    )
    terms = [term for term, _, _ in rows]
    assert len(terms) > 80
    assert len(terms) == len(set(terms)), sorted(term for term in terms if terms.count(term) > 1)
    for term, _, file in rows:
        assert (ROOT / file).is_file(), f"{term} is said to be defined in {file}"


# What is typed


def test_every_make_target_that_is_named_is_there_and_the_contributors_know_all() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named: dict[str, str] = {}
    for page in PAGES:
        for command in commands(page.read_text()):
            for target in re.findall(r"(?:^|\| |; )make ([a-z-]+)", command):
                named[target] = name_of(page)
    assert not {target: page for target, page in named.items() if target not in targets}
    assert targets - {"help"} <= named.keys()


def command_line() -> dict[str, set[str]]:
    """Each command, those below a group too, with its options."""
    known: dict[str, set[str]] = {}

    def add(name: str, command: click.Command) -> None:
        options = [
            option for param in command.params for option in (*param.opts, *param.secondary_opts)
        ]
        known[name] = {option for option in options if option.startswith("--")} | {"--help"}
        if isinstance(command, click.Group):
            context = click.Context(command)
            for below in command.list_commands(context):
                part = command.get_command(context, below)
                assert part is not None
                add(f"{name} {below}".strip(), part)

    add("", main)
    return known


def test_every_command_that_is_named_is_there_with_its_options() -> None:
    known, named = command_line(), set[str]()
    for page in PAGES:
        for line in commands(page.read_text()):
            match = re.search(r"(?:^|\.venv/bin/)annals ([a-z][\w -]*.*)", line)
            if match is None:
                continue
            words = re.split(r" [>#|] ", match[1])[0].split()
            name = next(
                (" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), words[0]
            )
            assert name in known, f"{name_of(page)} names annals {name}"
            named.add(name)
            for option in re.findall(r"--[a-z-]+", match[1]):
                assert option in known[name], f"{name_of(page)} names annals {name} {option}"
    groups = {name.rpartition(" ")[0] for name in known}
    assert set(known) - groups <= named


class Environment(dict[str, str]):
    """Has nothing set, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def test_the_operators_table_has_every_setting_and_what_holds_if_it_is_unset() -> None:
    environment = Environment()
    defaults = Settings.from_environment(environment)
    table: Mapping[str, str] = dict(
        re.findall(
            r"^\| `(ANNALS_\w+)` \| `?(.*?)`? \|", text_of("docs/operating.md"), re.MULTILINE
        )
    )
    assert set(table) == environment.names
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
        for name in set(re.findall(r"ANNALS_[A-Z_]+", page.read_text())) - environment.names:
            assert f'"{name}"' in own, f"{name_of(page)} names {name}"


# What is stored and answered


def test_the_stored_format_names_every_topic() -> None:
    named: set[str] = set()
    families: set[str] = set()
    for row in re.findall(r"^\| (`.*) \|$", section("docs/log-format.md", "Topics"), re.MULTILINE):
        kinds, _, verbs = row.split(" | ")
        families |= set(quoted(kinds))
        named |= {f"{kind}.{verb}" for kind in quoted(kinds) for verb in quoted(verbs)}
    assert families == {kind.value for kinds in (SubjectKind, DefinitionKind) for kind in kinds}
    # The code can name the list of any definition; only a static segment has one.
    lists = {f"{kind}.members_{verb}" for kind in DefinitionKind for verb in ("listed", "unlisted")}
    assert set(PAYLOAD_OF_TOPIC) - (lists - named) == named


def test_every_topic_that_is_named_is_one() -> None:
    families = "|".join(kind for kinds in (SubjectKind, DefinitionKind) for kind in kinds)
    topic = re.compile(rf"(?:{families})\.[a-z]+_[a-z_]+")
    verbs = {name.partition(".")[2] for name in PAYLOAD_OF_TOPIC}
    for page in PAGES:
        for words in quoted(page.read_text()):
            if topic.fullmatch(words):
                assert words.partition(".")[2] in verbs, f"{name_of(page)} names {words}"


def raised_codes() -> set[tuple[str, int | None]]:
    raised: set[tuple[str, int | None]] = {
        (refusal.code, problems.STATUS[refusal])
        for refusal in errors.Refusal.__subclasses__()
        if refusal.code not in INTERNAL_CODES
    }
    for source in (ROOT / "api").rglob("*.py"):
        given = re.findall(
            r'(?:ProblemException|_refuse)\(\s*(\d+),\s*"([a-z-]+)"', source.read_text()
        )
        raised |= {(code, int(status)) for status, code in given}
    unforeseen = {("refused", None), ("failed", 500), ("method-not-allowed", 405)}
    return raised | unforeseen | {("too-large", 413)}


def test_every_code_of_a_refusal_is_explained_to_senders() -> None:
    documented = {
        (code, int(status[:3])) if status[:3].isdigit() else (code, None)
        for code, status in re.findall(
            r"^\| `([a-z-]+)` \| (.*?) \|", text_of("docs/sending.md"), re.M
        )
    }
    statuses = {("stored", None), ("duplicate", None)}
    assert documented - statuses == raised_codes()


def test_every_code_that_stands_beside_a_status_is_that_of_this_status() -> None:
    known = raised_codes()
    for page in PAGES:
        text = " ".join(page.read_text().split())
        for status, code in re.findall(r"\b([45]\d\d) (?:with the code )?`([a-z-]+)`", text):
            assert (code, int(status)) in known, f"{name_of(page)} says {status} {code}"


def test_every_line_of_the_log_that_is_named_is_one_that_the_code_writes() -> None:
    code = "".join(
        source.read_text() for package in PACKAGES for source in (ROOT / package).rglob("*.py")
    )
    named = {
        words
        for page in PAGES
        if "decisions" not in page.parts
        for words in quoted(page.read_text())
        if LOG_EVENT.fullmatch(words) and not re.fullmatch(r"(?:log|keys)\.[a-z_]+", words)
    }
    assert len(named) > 8
    assert not {words for words in named if f'"{words}"' not in code}


# What is counted


def test_every_limit_that_the_senders_page_names_is_the_one_in_the_code() -> None:
    rows = re.findall(
        r"^\| .* \| `([\w.]+)\.(\w+)` \| ([\d,]+) \|$", text_of("docs/sending.md"), re.M
    )
    assert len(rows) > 5
    for module, constant, value in rows:
        assert getattr(importlib.import_module(module), constant) == int(value.replace(",", ""))


def test_what_evidence_keeps_is_what_the_page_on_deciding_says() -> None:
    text = " ".join(text_of("docs/deciding.md").split())
    assert f"Texts are cut at {MAX_SEEN_CHARS} characters, lists at {MAX_SEEN_ITEMS} items" in text
    assert f"the first {MAX_SEEN} are kept" in text


QUESTION, PREVIEW = BOUNDS[Demand.QUESTION], BOUNDS[Demand.PREVIEW]
BACKTESTS = backtest_jobs.AT_ONCE + backtest_jobs.MAX_WAITING
EXPORT, REVIEW, LIVE = BOUNDS[Demand.EXPORT], BOUNDS[Demand.REVIEW], BOUNDS[Demand.LIVE]

FIGURES = [
    ("docs/backtesting.md", f"1 to {MAX_DAYS}"),
    ("docs/backtesting.md", f"{DEFAULT_SAMPLE:,} if left out"),
    ("docs/backtesting.md", f"{backtest_jobs.MAX_KEPT} of them"),
    ("docs/compliance.md", f"a code of at most {MAX_REASON_CHARS} letters"),
    ("docs/compliance.md", f"a list of up to {MAX_LISTED_FOR_ERASURE:,}"),
    ("docs/compliance.md", f"at once for up to {SUBJECTS_AT_A_TIME:,}"),
    ("docs/compliance.md", f"{MIN_CHARS} characters at least"),
    ("docs/compliance.md", f"at most {MAX_VALUES} values"),
    ("docs/conditions.md", f"at most {MAX_NODES} parts, nested at most {MAX_DEPTH} deep"),
    ("docs/conditions.md", f"for {requests.MAX_ASKED_BY_KEY} counters"),
    ("docs/conditions.md", f"for {requests.MAX_ASKED}, and there are {requests.MAX_COUNTERS}"),
    ("docs/definitions.md", f"1 to {MAX_MONTHS:,}"),
    ("docs/definitions.md", f"in order; {MAX_LINKS} at most"),
    ("docs/destinations.md", f"1 to {MAX_ITEMS} items"),
    ("docs/glossary.md", f"for {LEASE_SECONDS} seconds at a time"),
    ("docs/operating/network.md", f"| {connections.MAX_CONNECTIONS_A_CLIENT};"),
    ("docs/operating/network.md", f"| {connections.MAX_CONNECTIONS:,} |"),
    ("docs/operating/network.md", f"| {connections.HEAD_SECONDS:.0f} s |"),
    ("docs/operating/network.md", f"| {connections.MAX_PIPELINED} |"),
    ("docs/operating/network.md", f"{bodies.KNOWN_ROOM >> 20} MB with a known API key"),
    ("docs/operating/network.md", f"| {rates.WRONG_KEYS}, then {rates.WRONG_KEYS_PER_SECOND:.0f}"),
    ("docs/operating/network.md", f"after {IDLE_SECONDS} seconds"),
    ("docs/operating/network.md", f"timelines | {QUESTION.in_all} | {QUESTION.by_key} |"),
    ("docs/operating/network.md", f"type | {PREVIEW.in_all} | {PREVIEW.by_key} |"),
    ("docs/operating/network.md", f"exports | {EXPORT.in_all} | {EXPORT.by_key} |"),
    ("docs/operating/network.md", f"archives | {REVIEW.in_all} | {REVIEW.by_key} |"),
    ("docs/operating/network.md", f"changes | {LIVE.in_all:,} | {LIVE.by_key} |"),
    ("docs/operating/network.md", f"wait | {BACKTESTS} | {backtest_jobs.BY_KEY} |"),
    ("docs/operating/network.md", f"in all processes | {KEPT} | {BY_KEY} |"),
    ("docs/reading.md", f"`limit` is 1 to {MAX_LIMIT}, {DEFAULT_LIMIT} if left out"),
    ("docs/reading.md", f"{read_position.MAX_WAIT_SECONDS:.0f} seconds at most"),
    ("docs/reading.md", f"{activity_by_day.MAX_DAYS} at most"),
    ("docs/reading/history.md", f"up to {MAX_NAMES} of them"),
    ("docs/reading/history.md", f"every {live.HEARTBEAT_SECONDS:.0f} seconds"),
    ("docs/reading/history.md", f"{LIVE.in_all:,} streams at most, {LIVE.by_key} of one"),
    ("docs/reading/history.md", {3: "Three are kept"}[KEPT]),
    ("docs/reading/lists.md", f"the {filters.VALUES} most frequent"),
    ("docs/reading/lists.md", f"more than {filters.SAMPLE:,} contacts"),
]


@pytest.mark.parametrize(("page", "words"), FIGURES)
def test_a_figure_of_a_page_is_the_one_in_the_code(page: str, words: str) -> None:
    assert words in " ".join(text_of(page).split())


def test_the_steps_of_an_erasure_stand_in_the_table_in_their_order() -> None:
    named = re.findall(r"^\| `(\w+)` \|", section("docs/compliance.md", "Erasure"), re.MULTILINE)
    steps = [step.value for step in ErasureStep]
    assert [name for name in named if name in steps] == steps


def test_the_picture_of_the_tables_is_the_one_that_is_drawn_with_modules_that_name_them() -> None:
    assert text_of("docs/tables.svg") == tables.drawn()
    for schema, groups in tables.SCHEMAS.items():
        for group in groups:
            code = text_of(group.owner)
            for table in group.tables:
                assert re.search(rf"\b{schema}\.{table}\b|\"{table}\"", code) or (
                    f"{schema}.{table}" == "views.whole_contacts"
                ), f"{group.owner} is said to own {schema}.{table}"


def test_the_picture_of_the_erasure_is_the_one_that_is_drawn_with_all_steps_in_order() -> None:
    assert text_of("docs/erasure.svg") == erasure.drawn()
    assert [stop.step for stop in erasure.STOPS] == list(ErasureStep)


def test_every_case_against_the_erasure_has_a_test_by_its_number() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    numbers = {int(number) for number in re.findall(r"def test_case_(\d+)_", tests)}
    assert numbers == set(range(1, 35))
