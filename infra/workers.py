"""The background threads of a process: upkeep, erasures, projector, decider, deliverer and more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import structlog

from domain.errors import Refusal
from infra.bootstrap.annals import Annals
from projections.kernel.idle import Idle
from projections.kernel.watchdog import where
from projections.models import filters

MESSAGE_MEMORY = timedelta(days=30)
UPKEEP_SECONDS = 600.0
UPKEEP_RETRY_SECONDS = 5.0
END_SECONDS = 4.0
"""How long all background threads together may take to end, once they are told to."""

log = structlog.get_logger()


@contextmanager
def working(annals: Annals, *, project: bool) -> Iterator[None]:
    """Runs the background threads while in use.

    Args:
        project: whether projector, decider, deliverer and their helpers run, too.
    """
    stop = threading.Event()
    threads = [
        threading.Thread(target=_upkeep, args=(annals, stop), name="upkeep", daemon=True),
        threading.Thread(target=annals.erasures.run, args=(stop,), name="erasures", daemon=True),
        threading.Thread(target=annals.pasts.run, args=(stop,), name="pasts", daemon=True),
    ]
    wakeups, listener = annals.wakeups, None
    if project:
        decider = annals.decider()
        workers: list[tuple[str, Callable[[threading.Event, Idle], None], bool]] = [
            ("projector", annals.projector().run, True),
            ("decider", decider.run, False),
            ("sweeper", decider.run_sweeps, False),
            ("filler", annals.filler().run, False),
            (
                "filters",
                partial(filters.run, annals.pools.workers.views, lambda: annals.workspace().zone),
                False,
            ),
            ("deliverer", annals.delivery.run, False),
        ]
        threads += [
            threading.Thread(
                target=work, args=(stop, wakeups.sleeper(name, eager=eager)), name=name, daemon=True
            )
            for name, work, eager in workers
        ]
        listener = annals.listener()
        listener.start()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        wakeups.end()
        annals.erasures.wake()
        if listener is not None:
            listener.close()
        _join(threads)
        wakeups.dismiss()


def _join(threads: Sequence[threading.Thread]) -> None:
    """Waits for threads to end, up to `END_SECONDS`. Hanging threads end with the process."""
    deadline = time.monotonic() + END_SECONDS
    for thread in threads:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))
        if thread.is_alive() and thread.ident is not None:
            log.error("worker.left_behind", worker=thread.name, at=where(thread.ident))


def _upkeep(annals: Annals, stop: threading.Event) -> None:
    while not stop.is_set():
        now = datetime.now(UTC)
        try:
            annals.erasure_completion.complete_unfinished(now)
            annals.log.forget_messages(now - MESSAGE_MEMORY)
            annals.erasure_requests.forget_idempotency_keys(now)
            annals.refused_attempts.forget()
            annals.retention.upkeep(now, stop)
            annals.head_alarm.look()
            pause = UPKEEP_SECONDS
        except (psycopg.Error, Refusal) as error:
            log.warning("upkeep.failed", error=type(error).__name__)
            pause = UPKEEP_RETRY_SECONDS
        stop.wait(pause)
