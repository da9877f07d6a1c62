"""What every command begins with: settings, everything open, and a way to be interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from infra import wiring
from infra.settings import InvalidSetting, Settings
from infra.wiring import Annals


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
            wiring.database_url(settings) as url,
            wiring.opened(settings, url) as annals,
        ):
            wiring.collect_garbage_seldom()
            yield annals
    except wiring.CANNOT_START as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def interruptible() -> Iterator[threading.Event]:
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
