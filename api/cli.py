"""The command line: `annals run`, `serve`, `work`, and what operators do now and then."""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import BinaryIO, TextIO

import click
import httpx
import msgspec
import structlog
import uvicorn
from rich.console import Console

from api import backtest_shown
from api.app import create_app
from api.backtest import prepared
from api.demo.progress import shown
from domain.access import ApiScope
from domain.backtest.outcomes import MAX_DAYS
from domain.certificate import NotGenuine
from domain.errors import Conflict, InvalidInput
from domain.identity import LOG_PARTITIONS
from domain.retention import OPERATOR, Counts
from domain.scan import checked_values
from infra import certificates, embedded, wiring
from infra.backtests import Cancelled
from infra.backup import BackupFailed, back_up
from infra.backup import restore as restored_from
from infra.ledger import FILE as LEDGER_FILE
from infra.settings import InvalidSetting, Settings
from infra.wiring import Annals

KEYS_FILE = "keys.json"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Annals keeps users and accounts as an append-only record and shows each of them whole.

    Settings are environment variables: ANNALS_DATA (.data), ANNALS_PORT (8000), ANNALS_HOST,
    ANNALS_DATABASE_URL (embedded PostgreSQL if unset), ANNALS_KEK (file),
    ANNALS_VAULT_TOKEN_FILE, ANNALS_VAULT_CERTIFICATES, ANNALS_WORKER (thread or none),
    ANNALS_TIME_ZONE (UTC), ANNALS_MRR_PROPERTY (mrr), ANNALS_RENEWAL_PROPERTY (renewal_date),
    ANNALS_CLEANUP_HOUR (3),
    ANNALS_DEMO_DATA; docs/operating.md explains them. Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING)


@main.command()
@click.option("--demo/--no-demo", default=True, help="Load the demo data, if not there yet.")
def run(demo: bool) -> None:
    """Start everything, load the demo data, print address and keys, and serve."""
    with _annals() as annals, _interruptible() as interrupted, _serving(annals) as url:
        click.echo(f"Annals serves at {url}  (health: {url}/health/ready, API: {url}/schema)")
        keys = annals.api_keys.at_hand(annals.settings.data / KEYS_FILE)
        if demo and not _load_demo(annals.settings, url, keys["write"], interrupted):
            return
        _print_keys(annals.settings, url, keys)
        interrupted.wait()
        click.echo("Stopping.")


@main.command()
def serve() -> None:
    """Serve HTTP, and project in this process unless ANNALS_WORKER=none."""
    with _annals() as annals, _interruptible() as interrupted, _serving(annals) as url:
        keys = annals.api_keys.at_hand(annals.settings.data / KEYS_FILE)
        click.echo(f"Annals serves at {url}; API keys for {', '.join(keys)} in its data folder")
        interrupted.wait()


@main.command()
def work() -> None:
    """Project in a process of its own; start as many as there is work for."""
    with (
        _annals() as annals,
        _interruptible() as interrupted,
        wiring.working(annals, project=True),
    ):
        click.echo("Projecting; Ctrl-C to stop.")
        interrupted.wait()


@main.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(yes: bool) -> None:
    """Empty the read models and make them again from the whole log.

    The log and the keys are not touched. Servers and workers may go on; until it is done, lists
    and views show only what is there already.
    """
    if not yes:
        click.confirm("Empty the read models and make them again?", abort=True)
    with _annals() as annals, _interruptible() as interrupted:
        projector = annals.projector()
        projector.start_over()
        total = annals.status().recorded
        with shown("Rebuilding", total, Console(stderr=True)) as advance:
            while not interrupted.is_set():
                done = projector.step()
                advance(done)
                if not done and annals.status().behind == 0:
                    break
        projector.release()
        status = annals.status()
        click.echo(f"{status.recorded - status.behind:,} of {status.recorded:,} events are shown")
        if interrupted.is_set():
            raise click.ClickException("interrupted; a server or worker goes on from here")


@main.command("rotate-kek")
@click.option("--prepare", is_flag=True, help="Only have the new key ready, to be handed round.")
def rotate_kek(prepare: bool) -> None:
    """Move all keys under a new key-encryption key, while servers and workers go on.

    Killed or interrupted, it is gone on with by the next call; two at once share the work. The old
    key-encryption key opens until all is done, and nothing in this database from then on.
    """
    with _annals() as annals, _interruptible() as interrupted:
        wrapping = annals.wrapping
        if prepare:
            click.echo(f"Key-encryption key {wrapping.prepare()} is ready for a rotation.")
            return
        before = set(wrapping.in_use())
        id = wrapping.begin_rotation()
        with shown("Wrapping keys", wrapping.outstanding(), Console(stderr=True)) as advance:
            while not wrapping.end_rotation():
                for done in wrapping.rewrap():
                    advance(done)
                    if interrupted.is_set():
                        raise click.ClickException("interrupted; call it again to go on")
        click.echo(f"All keys are under key-encryption key {id}.")
        for old in sorted(before - {id}):
            click.echo(
                f"Key-encryption key {old} has retired: destroy it once no backup of the keys from"
                " before now is kept."
            )


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def retention(dry_run: bool) -> None:
    """End the tracked activity that is older than the settings keep it, and list what was ended.

    Servers do so by themselves. Killed or interrupted, it is gone on with by one of them, or by
    the next call.
    """
    with _annals() as annals, _interruptible() as interrupted:
        aged, chosen = annals.aged_activity, annals.workspace_now().retention
        ends = None if chosen is None else aged.due(datetime.now(UTC), chosen)
        if chosen is None:
            click.echo("Tracked activity is kept for ever: the settings have no retention.")
        elif ends is None:
            click.echo(f"Nothing is left that is older than {chosen.months} months.")
        else:
            events, unsealed = aged.count(ends)
            counts = {Counts.KEEP: "stay", Counts.DROP: "go too"}[chosen.counts]
            click.echo(
                f"{events:,} events from before {ends:%Y-%m-%d} (UTC) are over; their counts"
                f" {counts}. {unsealed:,} of them have no key of their month."
            )
        if not dry_run:
            if chosen is not None and ends is not None:
                try:
                    aged.begin(ends, chosen.counts, by=OPERATOR)
                except Conflict as error:
                    raise click.ClickException(error.detail) from None
            _go_on_with_retention(annals, interrupted)
        for run in aged.runs():
            click.echo(
                f"before {run.ends:%Y-%m-%d}: {run.events:,} events, counts: {run.counts}, begun"
                f" {run.requested_at:%Y-%m-%d %H:%M}Z by {run.requested_by},"
                f" {'under way' if run.completed_at is None else 'done'}"
            )


def _go_on_with_retention(annals: Annals, interrupted: threading.Event) -> None:
    """Raises: click.ClickException: it was interrupted, or waits for something."""
    with shown("Summing partitions", LOG_PARTITIONS, Console(stderr=True)) as advance:
        waits_for = annals.aged_activity.go_on(advance, interrupted)
    if interrupted.is_set():
        raise click.ClickException("interrupted; a server or the next call goes on from here")
    if waits_for is not None:
        raise click.ClickException(f"it waits for {waits_for}; a server goes on by itself")


@main.group("api-keys")
def api_keys() -> None:
    """List, make and revoke API keys."""


@api_keys.command("list")
def list_api_keys() -> None:
    """List the API keys: id, scope, since when, until when. The keys themselves are not kept."""
    with _annals() as annals:
        for key in annals.api_keys.list():
            until = "" if key.revoked_at is None else f"  revoked {key.revoked_at:%Y-%m-%d %H:%M}Z"
            since = f"since {key.created_at:%Y-%m-%d %H:%M}Z{until}"
            click.echo(f"{key.id}  {key.scope:<7}  {since}" + (f"  {key.name}" if key.name else ""))


@api_keys.command("make")
@click.argument("scope", type=click.Choice([scope.value for scope in ApiScope]))
@click.option("--name", help="What it is for.")
def make_api_key(scope: str, name: str | None) -> None:
    """Make an API key for a scope and show it, this once."""
    with _annals() as annals:
        click.echo(annals.api_keys.make(ApiScope(scope), name=name)[1])


@api_keys.command("revoke")
@click.argument("id", type=click.UUID)
def revoke_api_key(id: uuid.UUID) -> None:
    """Revoke the API key with this id: within a second it opens nothing, in any process."""
    with _annals() as annals:
        if not annals.api_keys.revoke(id, even_the_last=True):
            raise click.ClickException("there is no such API key, or it is revoked already")
        click.echo(f"API key {id} is revoked.")


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def backup(folder: Path) -> None:
    """Back up the log and the keys into two folders below FOLDER, for two places.

    The ledger of erasures goes with both, the read models with none. The key-encryption key is in
    neither: keep it in a third place.
    """
    with _annals() as annals, wiring.database_url(annals.settings) as url:
        try:
            log, keys = back_up(url, annals.settings.data / LEDGER_FILE, folder, datetime.now(UTC))
        except (BackupFailed, OSError) as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"The log is in {log}, the keys are in {keys}: move them apart.")


@main.command()
@click.option("--log", type=click.Path(path_type=Path), required=True, help="log.dump")
@click.option("--keys", type=click.Path(path_type=Path), required=True, help="keys.dump")
@click.option(
    "--ledger", type=click.Path(path_type=Path), required=True, help="The newest erasures.ledger."
)
def restore(log: Path, keys: Path, ledger: Path) -> None:
    """Restore a backup into an empty database, and replay the ledger of erasures over it.

    The ledger has to be the newest there is: that of the data folder that was lost, or that of the
    newest backup. The key-encryption key has to be in its place already.
    """
    settings = _settings()
    settings.data.mkdir(parents=True, exist_ok=True)
    place = settings.data / LEDGER_FILE
    if not ledger.is_file():
        raise click.ClickException(f"there is no ledger of erasures at {ledger}")
    if place.exists() and place.read_bytes() != ledger.read_bytes():
        raise click.ClickException(
            f"{place} is another ledger of erasures: name the newer of the two, and take the older"
            " one away"
        )
    try:
        with wiring.database_url(settings) as url:
            restored_from(url, log, keys)
            if not place.exists():
                shutil.copyfile(ledger, place)
            with wiring.opened(settings, url) as annals:
                recorded = annals.status().recorded
    except (BackupFailed, *wiring.CANNOT_START) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Restored: {recorded:,} events; the ledger of erasures was replayed. Start Annals.")


@main.command("erasure-scan")
@click.argument("values", type=click.File("r"), default="-")
def erasure_scan(values: TextIO) -> None:
    """Search for values that should be gone: a line each, from a file or standard input.

    Every table and large object is searched and, if the server is embedded, every file of it after
    a checkpoint, for each value as it is, in other case, in base64, percent-encoded, in hexadecimal
    and escaped. The values are neither kept nor shown; what is found is told by their line.
    """
    with _annals() as annals:
        try:
            asked = checked_values([line.rstrip("\n") for line in values])
        except InvalidInput as error:
            raise click.UsageError(f"{error.detail} ({error.place})") from None
        found = annals.scanner.scan(asked)
    for one in found.findings:
        click.echo(f"line {one.value + 1}: {one.count} times as {one.form} in {one.place}")
    for place in found.not_searched:
        click.echo(f"not searched: {place}")
    click.echo(
        f"{len(found.findings)} findings in {found.tables} tables, {found.large_objects} large"
        f" objects and {found.files} files, {found.bytes:,} bytes"
    )
    if found.findings:
        sys.exit(1)


@main.command("public-key")
def public_key() -> None:
    """Print the key that certificates of erasures verify under, in PEM."""
    with _annals() as annals:
        click.echo(annals.certifier.public_key().decode(), nl=False)


@main.command("verify-certificate")
@click.argument("certificate", type=click.File("rb"))
@click.option("--public-key", "key", type=click.File("rb"), required=True, help="In PEM.")
@click.option("--with-log", is_flag=True, help="Hold it against the log of this deployment, too.")
def verify_certificate(certificate: BinaryIO, key: BinaryIO, with_log: bool) -> None:
    """Verify the certificate of an erasure. Needs no database, unless it is held against one."""
    try:
        statement = certificates.verified(certificate.read(), key.read())
    except NotGenuine as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"genuine: erasure {statement.erasure}, {len(statement.subjects)} subjects, unreadable"
        f" since {statement.unreadable_at:%Y-%m-%d %H:%M:%S} UTC, cleaned by"
        f" {statement.cleaned_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    if with_log:
        with _annals() as annals:
            differing = annals.differing_partitions(statement)
        if differing:
            raise click.ClickException(f"the log is another one in partitions {differing}")
        click.echo("the log holds what it held when the certificate was issued")


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=30, help="Today among them.")
@click.option("--sample", type=click.IntRange(1), help="How many to look at; all if left out.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def backtest(file: BinaryIO, days: int, sample: int | None, as_json: bool) -> None:
    """Test what the definition in FILE (JSON) would have decided over the past.

    FILE holds what would be sent to define it: docs/backtesting.md. Nothing is recorded. Exit
    codes: 0 done, 1 failed or interrupted, 2 the definition cannot be tested.
    """
    with _annals() as annals, _interruptible() as interrupted:
        try:
            work = prepared(annals, backtest_shown.request(file.read(), days, sample))
            with backtest_shown.progress(interrupted, Console(stderr=True)) as progress:
                result = work(progress).result
        except Cancelled:
            raise click.ClickException("interrupted; nothing was recorded") from None
        except (InvalidInput, Conflict) as error:
            raise click.UsageError(
                f"{error.place.removeprefix('/definition') or '/'}: {error.detail}"
            ) from None
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    else:
        backtest_shown.print_result(result, Console())


@main.command("demo-reset")
@click.option("--yes", is_flag=True, help="Do not ask.")
def demo_reset(yes: bool) -> None:
    """Delete the data folder with its embedded database and keys. Cannot be undone."""
    settings = _settings()
    if settings.database_url is not None:
        raise click.ClickException(
            "ANNALS_DATABASE_URL names a server that is not ours to empty: drop its database"
        )
    if not yes:
        click.confirm(f"Delete all of {settings.data}?", abort=True)
    embedded.remove(settings.data)
    shutil.rmtree(settings.data, ignore_errors=True)
    click.echo(f"Deleted {settings.data}.")


def _settings() -> Settings:
    try:
        return Settings.from_environment()
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def _annals() -> Iterator[Annals]:
    settings = _settings()
    try:
        with (
            wiring.database_url(settings) as url,
            wiring.opened(settings, url) as annals,
        ):
            wiring.collect_garbage_seldom()
            yield annals
    except wiring.CANNOT_START as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns Ctrl-C and a polite kill into an event, so that everything is closed in order."""
    interrupted = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()

    before = [signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield interrupted
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Uvicorn in a thread: signals are for the main thread, which closes things in order."""

    def install_signal_handlers(self) -> None:
        """Leaves signals alone."""


@contextmanager
def _serving(annals: Annals) -> Iterator[str]:
    """Serves HTTP in the background; yields the address once it answers."""
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
    config = uvicorn.Config(
        create_app(annals), log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    with wiring.working(annals, project=settings.worker == "thread"):
        thread.start()
        try:
            url = f"http://{settings.host}:{listener.getsockname()[1]}"
            _wait_until_ready(url, thread)
            yield url
        finally:
            annals.watching.close()
            server.should_exit = True
            thread.join(timeout=10)
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


def _load_demo(settings: Settings, url: str, write_key: str, interrupted: threading.Event) -> bool:
    """Sends the demo data through the intake, once; False where it was interrupted."""
    from api.demo import sources
    from api.demo.load import load

    done = settings.data / "demo-loaded"
    if done.exists():
        return True
    for source in sources(settings.demo_data, datetime.now(UTC)):
        report = load(
            source.messages(), url=url, write_key=write_key, total=source.total, title=source.title
        )
        click.echo(
            f"{source.title}: {report.sent:,} messages in {report.seconds:.1f} s,"
            f" {report.stored:,} stored, {report.duplicates:,} known before,"
            f" {report.refused:,} refused"
        )
        if interrupted.is_set():
            return False
    done.touch()
    return True


def _print_keys(settings: Settings, url: str, keys: dict[str, str]) -> None:
    click.echo(f"\nAPI keys, one for each scope (kept in {settings.data / KEYS_FILE}):")
    for scope, key in keys.items():
        click.echo(f"  {scope:<7} {key}")
    click.echo(f"\nTry:  curl -H 'Authorization: Bearer {keys['read']}' {url}/api/users?limit=2")
    click.echo("Ctrl-C stops it, database included.")
