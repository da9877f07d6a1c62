"""A real PostgreSQL for every run, a migrated database for every test that asks for one."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from uuid import uuid4

import psycopg_pool.base
import pytest
import structlog
from hypothesis import HealthCheck, settings

from infra import bootstrap, embedded
from infra.bootstrap.annals import Annals
from infra.settings import Settings
from tests import databases
from tests.databases import Database, make_template
from tests.receiver import Receiver, receiving
from tests.serving import Clients, Fresh, served
from tests.sockets import BUFFER, nested_pipelines, note_nested_pipelines, small_buffers

ROOM = "ANNALS_TEST_ROOM"
ROOM_BYTES = 6 * 2**30

settings.register_profile(
    "annals",
    deadline=None,
    max_examples=int(os.environ.get("ANNALS_TEST_EXAMPLES", "15")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("annals")

# Hypothesis forbids strategies to draw from Python's own generator, and a thread of a service that
# runs in the same process looks like one that does.
psycopg_pool.base.random = Random().random


def pytest_xdist_auto_num_workers() -> int:
    """Workers wait for servers, browsers and each other's locks for half of their time."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_configure() -> None:
    """Chooses where the server and the tests have their files, once for all workers: in memory,
    where that has room. To make databases and to wait for a disk is most of the work otherwise.
    And collects garbage as a process that serves does."""
    bootstrap.collect_garbage_seldom()
    memory = Path("/dev/shm")
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES
    os.environ.setdefault(ROOM, str(memory) if has_room else tempfile.gettempdir())
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", os.environ[ROOM])
    note_nested_pipelines()
    if os.environ.get(BUFFER):
        small_buffers(int(os.environ[BUFFER])).__enter__()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests whose fixtures reach the server. `make test-fast` runs the others."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.database)


class _Processes:
    """Notes the programs that this process starts, while there is a list to note them in."""

    def __init__(self) -> None:
        self.started: list[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and self.started is not None:
            self.started.append(str(args[0]))


_processes = _Processes()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _processes.started = None if item.get_closest_marker("database") else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """Keeps `make test-fast` honest: a test that starts a process has to be marked."""
    started, _processes.started = _processes.started, None
    yield
    assert not started, f"mark the test `database`, for it starts a process: {started[0]}"


def _folder() -> Path:
    """One for the whole run: its workers share a server, and the last to leave stops it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    return Path(os.environ[ROOM]) / f"annals-test-{run[:12]}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        for folder in Path(os.environ[ROOM]).glob("annals-test-*"):
            if folder == _folder() or _run_of(session) in folder.name:
                embedded.remove(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _run_of(session: pytest.Session) -> str:
    scheduler = session.config.pluginmanager.getplugin("dsession")
    manager = getattr(scheduler, "nodemanager", None)
    return str(manager.testrunuid)[:12] if manager is not None else "no other run"


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command that a test runs sets the log up for a process of its own."""
    handlers, raises = list(logging.root.handlers), logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], logging.raiseExceptions = handlers, raises
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


@pytest.fixture(autouse=True)
def _no_nested_pipelines() -> Iterator[None]:
    """Where a pipeline is entered within another, psycopg may hang."""
    yield
    nested = nested_pipelines()
    assert not nested, nested[0]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Connection string of a running PostgreSQL, with a migrated template database on it."""
    with embedded.running(_folder()) as url:
        yield make_template(url)
        databases.close_idle()


@pytest.fixture
def database(server: str) -> Iterator[Database]:
    """A database as it was migrated, which other tests may have used before."""
    with databases.lent(server) as database:
        yield database


@pytest.fixture
def database_url(database: Database) -> str:
    return database.url


@pytest.fixture
def open_annals(database: Database, tmp_path: Path) -> Iterator[Callable[[], Annals]]:
    """Opens Annals on the test's database, as often as there should be processes."""
    settings = Settings(data=tmp_path)
    processes = count()
    with ExitStack() as stack:

        def opened() -> Annals:
            if next(processes) == 0:
                process = bootstrap.opened_over(database.pools, settings, database.url)
            else:
                process = bootstrap.opened(settings, database.url, connections=4)
            return stack.enter_context(process)

        yield opened


@pytest.fixture
def annals(open_annals: Callable[[], Annals]) -> Annals:
    return open_annals()


@pytest.fixture
def client(annals: Annals) -> Iterator[Clients]:
    """Clients, one for each scope, of a real server over the test's database."""
    with served(annals) as clients:
        yield clients


@pytest.fixture(scope="module")
def standing(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """The same for all tests of a module that change nothing which another of them sees: each
    writes of users, accounts and names of its own."""
    settings = Settings(data=tmp_path_factory.mktemp("standing"))
    with (
        databases.lent(server) as database,
        bootstrap.opened_over(database.pools, settings, database.url) as annals,
        served(annals) as clients,
    ):
        yield clients


@pytest.fixture
def fresh() -> Fresh:
    """Makes names that no other test has: `fresh("ada")` is "ada-1f3c77d0", each time in a test."""
    word = uuid4().hex[:8]
    return lambda name: f"{name}-{word}"


@pytest.fixture
def ada(fresh: Fresh) -> str:
    """The external id of a user of the test's own."""
    return fresh("ada")


@pytest.fixture
def acme(fresh: Fresh) -> str:
    """The external id of an account of the test's own."""
    return fresh("acme")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """The server that destinations send to."""
    with receiving() as server:
        yield server
