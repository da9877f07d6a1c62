"""Opens Annals for a command, with its settings and interruptions."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click
import psycopg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionInTime

from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.settings import InvalidSetting, Settings
from projections.kernel.database_errors import is_of_connection
from projections.kernel.watchdog import where

CUT_SECONDS = 6.0
"""Seconds that a process has to end once told to; then it cuts connections off."""

LEFT_SECONDS = 3.5
"""That it has to end after that."""

LOOK_SECONDS = 1.0
"""Between two looks whether a signal came."""

log = structlog.get_logger()


def settings_of_environment() -> Settings:
    try:
        return Settings.from_environment()
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def opened() -> Iterator[Annals]:
    settings = settings_of_environment()
    try:
        with (
            bootstrap.database_url(settings) as url,
            bootstrap.opened(settings, url) as annals,
        ):
            bootstrap.collect_garbage_seldom()
            yield annals
    except bootstrap.CANNOT_START as error:
        raise click.ClickException(str(error)) from None
    except (psycopg.Error, DBAPIError, NoConnectionInTime) as error:
        raise click.ClickException(_explained(error)) from None


def _explained(error: Exception) -> str:
    """Describes a database error by its kind, never its message, which can hold personal data."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    kind = type(cause).__name__
    if is_of_connection(error):
        return f"the database cannot serve this now ({kind}); call it again once it can"
    return f"the database did not carry this out ({kind})"


@contextmanager
def told_in_the_log() -> Iterator[None]:
    """Logs a command's failure as a JSON line, for a service whose terminal nobody watches."""
    try:
        yield
    except click.ClickException as error:
        if sys.stderr.isatty():
            raise
        log.critical("process.failed", reason=error.message)
        sys.exit(error.exit_code)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turns Ctrl-C and a polite kill into an event, so that everything is closed in order. Work
    that does not end is cut off, so that the process ends within ten seconds."""
    interrupted = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not interrupted.is_set():
            threading.Thread(target=_see_to_the_end, name="end", daemon=True).start()
        interrupted.set()

    before = [signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield interrupted
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def wait_for(interrupted: threading.Event) -> None:
    """Waits for an interruption; wakes now and then, as a signal that the kernel hands to another
    thread wakes no lock, and its handler runs in this thread alone."""
    while not interrupted.wait(LOOK_SECONDS):
        pass


def _see_to_the_end() -> None:
    """Where the process still lives when it should have ended: ends all that waits on a socket, and
    then the process itself."""
    time.sleep(CUT_SECONDS)
    hanging = {
        thread.name: where(thread.ident)[-3:]
        for thread in threading.enumerate()
        if thread.ident not in (None, threading.get_ident())
    }
    log.error("process.cut_off", at=hanging)
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            number = int(descriptor.name)
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as link:
                    link.shutdown(socket.SHUT_RDWR)
    time.sleep(LEFT_SECONDS)
    os._exit(1)
