"""`annals run`, `serve`, `work` and `demo-reset`."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice, takewhile
from pathlib import Path

import click
import httpx

from api.app import create_app
from api.cli.opening import (
    interruptible,
    opened,
    settings_of_environment,
    told_in_the_log,
    wait_for,
)
from api.server import Server
from infra import embedded, workers
from infra.bootstrap.annals import Annals
from infra.settings import Settings

KEYS_FILE = "keys.json"


@click.command()
@click.option("--demo/--no-demo", default=True, help="Load the demo data, if not there yet.")
def run(demo: bool) -> None:
    """Start everything, load the demo data, print address and keys, and serve."""
    with opened() as annals, interruptible() as interrupted, _serving(annals) as (url, keys):
        click.echo(f"Annals serves at {url}  (health: {url}/health/ready, API: {url}/schema)")
        if demo and not _load_demo(annals, url, keys, interrupted):
            return
        _print_keys(annals.settings, url, keys)
        wait_for(interrupted)
        click.echo("Stopping.")


@click.command()
def serve() -> None:
    """Serve HTTP, and project in this process unless ANNALS_WORKER=none."""
    with (
        told_in_the_log(),
        opened() as annals,
        interruptible() as interrupted,
        _serving(annals) as (url, keys),
    ):
        click.echo(f"Annals serves at {url}; API keys for {', '.join(keys)} in its data folder")
        wait_for(interrupted)


@click.command()
def work() -> None:
    """Project in a process of its own; start as many as there is work for."""
    with (
        told_in_the_log(),
        opened() as annals,
        interruptible() as interrupted,
        workers.working(annals, project=True),
    ):
        click.echo("Projecting; Ctrl-C to stop.")
        wait_for(interrupted)


@click.command("demo-reset")
@click.option("--yes", is_flag=True, help="Do not ask.")
def demo_reset(yes: bool) -> None:
    """Delete the data folder with its embedded database and keys. Cannot be undone."""
    settings = settings_of_environment()
    if settings.database_url is not None:
        raise click.ClickException(
            "ANNALS_DATABASE_URL names a server that is not ours to empty: drop its database"
        )
    if not yes:
        click.confirm(f"Delete all of {settings.data}?", abort=True)
    embedded.remove(settings.data)
    shutil.rmtree(settings.data, ignore_errors=True)
    click.echo(f"Deleted {settings.data}.")


@contextmanager
def _serving(annals: Annals) -> Iterator[tuple[str, dict[str, str]]]:
    """Serves HTTP in the background; yields the address once it answers, and the keys at hand,
    which are in their file before anybody is told that it is ready."""
    settings = annals.settings
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise click.ClickException(
            f"cannot serve on {settings.host}:{settings.port} ({error.strerror});"
            " set ANNALS_PORT to a free port"
        ) from None
    server = Server(create_app(annals), settings.trusted_proxies)
    thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    with workers.working(annals, project=settings.worker == "thread"):
        keys = annals.api_keys.at_hand(settings.data / KEYS_FILE)
        thread.start()
        try:
            url = f"http://{settings.host}:{listener.getsockname()[1]}"
            _wait_until_ready(url, thread)
            yield url, keys
        finally:
            annals.change_feed.close()
            server.end()
            thread.join(timeout=4)
            listener.close()


def _wait_until_ready(url: str, thread: threading.Thread) -> None:
    for _ in range(500):
        try:
            if httpx.get(f"{url}/health/ready", timeout=1).is_success:
                return
        except httpx.HTTPError:
            if not thread.is_alive():
                break
        threading.Event().wait(0.02)
    raise click.ClickException("the HTTP server did not start")


def _load_demo(
    annals: Annals, url: str, keys: dict[str, str], interrupted: threading.Event
) -> bool:
    """Sends the demo data through the intake, once; False where it was interrupted."""
    from api.demo import Message, rules, sources
    from api.demo.load import LoadReport, load

    settings = annals.settings
    done = settings.data / "demo-loaded"
    if done.exists():
        return True

    def send(messages: Iterable[Message], total: int | None, title: str) -> LoadReport:
        going_on = takewhile(lambda _: not interrupted.is_set(), messages)
        return load(going_on, url=url, write_key=keys["write"], total=total, title=title)

    chosen_sources = sources(settings.demo_data, _until(settings.data / "demo-begun"))
    messages = [source.messages() for source in chosen_sources]
    first: list[Message] = []
    if settings.worker == "thread":
        first += chain(
            *(islice(source_messages, rules.KNOWN_AFTER) for source_messages in messages)
        )
        send(first, total=len(first), title="To begin with")
        while not interrupted.wait(0.05) and annals.status().behind:
            pass
        if interrupted.is_set():
            return False
        headers = {"Authorization": f"Bearer {keys['admin']}"}
        with httpx.Client(base_url=url, headers=headers) as client:
            rules.define(client, [source.rules for source in chosen_sources])
    for source, rest in zip(chosen_sources, messages, strict=True):
        report = send(rest, total=source.total, title=source.title)
        click.echo(
            f"{source.title}: {report.sent:,} messages in {report.seconds:.1f} s,"
            f" {report.stored:,} stored, {report.duplicates:,} known before,"
            f" {report.refused:,} refused"
        )
        if interrupted.is_set():
            return False
    done.touch()
    return True


def _until(begun: Path) -> datetime:
    """When the demo data was first begun with, so that going on sends the same messages."""
    if not begun.exists():
        begun.write_text(datetime.now(UTC).isoformat())
    return datetime.fromisoformat(begun.read_text())


def _print_keys(settings: Settings, url: str, keys: dict[str, str]) -> None:
    click.echo(f"\nAPI keys, one for each scope (kept in {settings.data / KEYS_FILE}):")
    for scope, key in keys.items():
        click.echo(f"  {scope:<7} {key}")
    click.echo(f"\nLook:  {url}/console  (sign in with one of them; comply may erase)")
    click.echo(f"Read:  curl -H 'Authorization: Bearer {keys['read']}' {url}/api/users?limit=2")
    click.echo("Ctrl-C stops it, database included.")
