"""A back-test on a terminal: its progress, and its result as a table."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
from rich.console import Console
from rich.table import Table

from api.definitions.backtests import NO_STAGE, BacktestRequest, Draft
from api.demo.progress import Advance, shown
from domain.errors import InvalidInput
from infra.backtest_jobs import Cancelled
from projections.queries.backtest import BacktestResult
from projections.queries.backtest_reading import Progress

MAX_MOVES = 20


def request(text: bytes, days: int, sample: int | None) -> BacktestRequest:
    """
    Args:
        text: of a file: a definition as JSON, as in the request that would make it.

    Raises:
        InvalidInput: it is none; says where.
    """
    try:
        definition = msgspec.json.decode(text, type=Draft)
        return BacktestRequest(definition=definition, days=days, sample=sample)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the file is no JSON: {error}") from None


@contextmanager
def progress(interrupted: threading.Event, console: Console) -> Iterator[Progress]:
    """Shows the progress; an interruption ends it with `Cancelled`."""
    with ExitStack() as stack:
        phase: str | None = None
        advance: Advance | None = None
        before = 0

        def tell(now: str, done: int, of: int) -> None:
            nonlocal phase, advance, before
            if interrupted.is_set():
                raise Cancelled
            if now != phase or advance is None:
                stack.close()
                phase, before = now, 0
                advance = stack.enter_context(shown(now.capitalize(), of, console))
            if done > before:
                advance(done - before)
                before = done

        yield tell


def print_result(result: BacktestResult, console: Console) -> None:
    outcomes = list(dict.fromkeys(count.outcome for day in result.days for count in day.counts))
    signals = result.type == "signal"
    table = Table(title=f"{result.type} {result.name!r}, {result.kind}s, {result.time_zone}")
    table.add_column("day")
    for outcome in outcomes:
        table.add_column(NO_STAGE if outcome is None else outcome, justify="right")
    happened = ("triggered", "ended", "reached", "missed") if signals else ()
    for name in happened:
        table.add_column(name, justify="right")
    for day in result.days:
        counts = {count.outcome: count.subjects for count in day.counts}
        table.add_row(
            day.day.isoformat(),
            *(f"{counts.get(outcome, 0):,}" for outcome in outcomes),
            *(f"{getattr(day, name):,}" for name in happened),
        )
    console.print(table)
    console.print(f"{result.subjects:,} of {result.of:,} {result.kind}s were looked at.")
    if result.gaps:
        console.print(f"Left out, as they do not open: the events at {', '.join(result.gaps)}.")
    if result.compared_with is None:
        console.print("Nothing is active that it could be compared with.")
        return
    console.print(f"{result.differing:,} would be elsewhere than they are.")
    for move in result.moves[:MAX_MOVES]:
        before, after = move.before or NO_STAGE, move.after or NO_STAGE
        console.print(f"  {before} → {after}: {move.subjects:,}")
