"""What a process does besides answering: upkeep, projecting, deciding, telling destinations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import structlog

from domain.errors import Refusal
from infra.wiring import Annals
from projections import filters

MESSAGE_MEMORY = timedelta(days=30)
UPKEEP_SECONDS = 600.0
UPKEEP_RETRY_SECONDS = 5.0

log = structlog.get_logger()


@contextmanager
def working(annals: Annals, *, project: bool) -> Iterator[None]:
    """Runs the background work while in use: the upkeep; projector and decider, if asked for."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_upkeep, args=(annals, stop), name="upkeep", daemon=True),
        threading.Thread(target=annals.erasures.run, args=(stop,), name="erasures", daemon=True),
        threading.Thread(target=annals.pasts.run, args=(stop,), name="pasts", daemon=True),
    ]
    if project:
        decider = annals.decider()
        threads += [
            threading.Thread(target=work, args=(stop,), name=name, daemon=True)
            for name, work in (
                ("projector", annals.projector().run),
                ("decider", decider.run),
                ("sweeper", decider.run_sweeps),
                ("filler", annals.filler().run),
                ("filters", partial(filters.run, annals.pools.workers.views)),
                ("deliverer", annals.deliverer.run),
            )
        ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        annals.log.appended.set()
        annals.erasures.wake()
        for thread in threads:
            thread.join(timeout=15)


def _upkeep(annals: Annals, stop: threading.Event) -> None:
    while not stop.is_set():
        now = datetime.now(UTC)
        try:
            annals.handler.finish_erasures(now)
            annals.log.forget_messages(now - MESSAGE_MEMORY)
            annals.erasures.forget_tokens(now)
            annals.refused_attempts.forget()
            annals.aged_activity.upkeep(now, stop)
            pause = UPKEEP_SECONDS
        except (psycopg.Error, Refusal) as error:
            log.warning("upkeep.failed", error=type(error).__name__)
            pause = UPKEEP_RETRY_SECONDS
        stop.wait(pause)
