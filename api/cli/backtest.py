"""`annals backtest`."""

from __future__ import annotations

from typing import BinaryIO

import click
import msgspec
from rich.console import Console

from api.cli import backtest_shown
from api.cli.opening import interruptible, opened
from api.definitions.backtests import planned
from domain.backtest.outcomes import MAX_DAYS
from domain.errors import Conflict, InvalidInput
from infra.backtest_jobs import Cancelled


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=30, help="Today among them.")
@click.option("--sample", type=click.IntRange(1), help="How many to look at; all if left out.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def backtest(file: BinaryIO, days: int, sample: int | None, as_json: bool) -> None:
    """Test the definition in FILE (JSON) over the past: the decisions that it would have made. FILE
    holds the body of the request that would make it: docs/backtesting.md. Nothing is recorded. Exit
    codes: 0 done, 1 failed or interrupted, 2 the definition cannot be tested.
    """
    with opened() as annals, interruptible() as interrupted:
        try:
            work = planned(
                annals.backtest_planner, backtest_shown.request(file.read(), days, sample)
            )
            with backtest_shown.progress(interrupted, Console(stderr=True)) as progress:
                result = work(progress).result
        except Cancelled:
            raise click.ClickException("interrupted; nothing was recorded") from None
        except (InvalidInput, Conflict) as error:
            raise click.UsageError(
                f"{error.pointer.removeprefix('/definition') or '/'}: {error.detail}"
            ) from None
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    else:
        backtest_shown.print_result(result, Console())
