"""The log: one JSON object a line on standard error, also of other libraries.

Messages of other programs, and of exceptions, can hold sent data, so no line has them. A line names
the kind of the error and the places in the code.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.typing import EventDict

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

MAX_PLACES = 20
_PARTS_OF_A_PLACE = 3

log = structlog.get_logger()


def configure() -> None:
    """Sets up the log of this process: structlog, `logging`, warnings, uncaught exceptions."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _without_messages,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.WARNING, handlers=[_ToLog()], force=True)
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_a_thread
    sys.unraisablehook = _on_unraisable
    warnings.showwarning = _on_warning


class _ToLog(logging.Handler):
    """Logs that another library logged: by which logger and where, but not the message."""

    def emit(self, record: logging.LogRecord) -> None:
        shown = {"logger": record.name, "place": _place(record.pathname, record.lineno)}
        given = record.args if isinstance(record.args, tuple) else ()
        error = record.exc_info[1] if record.exc_info else None
        for argument in given:
            error = error or (argument if isinstance(argument, BaseException) else None)
        log.log(record.levelno, "library.logged", **shown, **_described(error))


def _on_uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    event = "process.interrupted" if issubclass(kind, KeyboardInterrupt) else "process.failed"
    log.critical(event, **_described(error))


def _on_uncaught_in_a_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_type is not SystemExit:
        name = uncaught.thread.name if uncaught.thread is not None else ""
        log.error("thread.failed", thread=name, **_described(uncaught.exc_value))


def _on_unraisable(ignored: UnraisableHookArgs) -> None:
    log.error("error.ignored", **_described(ignored.exc_value))


def _on_warning(
    message: Warning | str,  # noqa: ARG001 - can hold what was sent
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - of the signature
    line: str | None = None,  # noqa: ARG001 - the line of the code; its place is enough
) -> None:
    log.warning("warning.shown", kind=category.__name__, place=_place(filename, lineno))


def _without_messages(_: Any, __: str, event: EventDict) -> EventDict:
    """Names the kind of an exception and the places that it went through."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    return event if error is None else {**event, **_described(error)}


def _described(error: BaseException | None) -> dict[str, Any]:
    """The kinds of an exception and of its causes, and where it came from, innermost last."""
    if error is None:
        return {}
    kinds: list[str] = []
    current: BaseException | None = error
    while current is not None and len(kinds) < MAX_PLACES:
        kinds.append(type(current).__name__)
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    frames = traceback.walk_tb(error.__traceback__)
    places = [
        f"{_place(frame.f_code.co_filename, line)} {frame.f_code.co_name}" for frame, line in frames
    ]
    return {"error": kinds[0], "causes": kinds[1:], "places": places[-MAX_PLACES:]}


def _place(filename: str, line: int) -> str:
    return f"{'/'.join(Path(filename).parts[-_PARTS_OF_A_PLACE:])}:{line}"
