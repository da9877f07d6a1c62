"""Errors as problem details (RFC 9457), mapped from the domain's refusals in one place.

`code` and `message` are also there for Segment's clients, which read these two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout, TooManyRequests
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionInTime

from api.http.methods import with_implied
from domain.errors import (
    Altered,
    Conflict,
    InvalidInput,
    NotFound,
    NotReady,
    NotYours,
    PeriodOver,
    Refusal,
    SubjectErased,
    Suppressed,
    TakesTooLong,
    TooManyAtOnce,
    Unavailable,
    VersionConflict,
)
from infra.postgres.readers import ReaderLeft
from projections.kernel.database_errors import is_cancelled, is_of_connection

log = structlog.get_logger()

Handler = Callable[[Request[Any, Any, Any], Any], "Response[Problem]"]

BODY = "data"
"""The framework's name for the body as a whole."""

_BUSY = (PoolTimeout, TooManyRequests, NoConnectionInTime)
"""Others use all connections of a pool."""

DATABASE_ERRORS = (DatabaseError, SQLAlchemyError, TimeoutError)
RETRY_SECONDS = "1"
"""Seconds after which a client that got 503 may ask again."""

_STEPS = re.compile(r"[^.\[\]]+")

STATUS: dict[type[Refusal], int] = {
    InvalidInput: 400,
    NotFound: 404,
    SubjectErased: 404,
    NotYours: 403,
    Suppressed: 403,
    PeriodOver: 403,
    Altered: 409,
    Conflict: 409,
    VersionConflict: 409,
    TooManyAtOnce: 429,
    Unavailable: 503,
    NotReady: 503,
    TakesTooLong: 503,
}
TITLES = {
    400: "The request is not valid",
    401: "A valid API key is needed",
    403: "This API key does not open this",
    404: "Not found",
    405: "This method is not offered here",
    408: "The request came too slowly",
    409: "The present state does not allow this",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is of an unsupported type",
    429: "Too many requests at once",
    431: "The headers are too large",
    500: "Annals failed",
    503: "Annals cannot answer now",
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error in the form of RFC 9457.

    Attributes:
        place: JSON pointer into the request, if the error has one.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    place: str | None = None


def answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that a route can answer with, for the OpenAPI document. Every route that takes a
    key may refuse too many requests."""
    if 401 in statuses:
        statuses = tuple(sorted({*statuses, 429}))
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description=TITLES[status],
            media_type="application/problem+json",
        )
        for status in statuses
    }


class ProblemException(Exception):
    """Answers with a problem of a given status."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail


def problem_of(status: int, code: str, detail: str, pointer: str | None = None) -> Problem:
    return Problem(
        f"urn:annals:problem:{code}",
        TITLES.get(status, "The request was refused"),
        status,
        detail,
        code,
        detail,
        pointer or None,
    )


def problem(
    status: int, code: str, detail: str, pointer: str | None = None, **headers: str
) -> Response[Problem]:
    return Response(
        problem_of(status, code, detail, pointer),
        status_code=status,
        media_type="application/problem+json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def on_refusal(_: Request[Any, Any, Any], error: Refusal) -> Response[Problem]:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
    if isinstance(error, TooManyAtOnce):
        return problem(status, error.code, error.detail, Retry_After=str(error.retry_after))
    if status == 503:
        return problem(status, error.code, error.detail, Retry_After=RETRY_SECONDS)
    return problem(status, error.code, error.detail, error.pointer)


def on_problem(_: Request[Any, Any, Any], error: ProblemException) -> Response[Problem]:
    if error.status == 401:
        return problem(401, error.code, error.detail, WWW_Authenticate='Bearer realm="annals"')
    return problem(error.status, error.code, error.detail)


def on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answers refusals of the framework: unknown paths, methods, parameters of a wrong type. An
    OPTIONS request gets the methods of the path."""
    allow = ", ".join(with_implied((error.headers or {}).get("allow", "").split(", ")))
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(None, status_code=204, headers={"Allow": allow})
    pointer, detail = None, error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list) and error.extra:
        first = error.extra[0]
        key, reason = first.get("key", "a parameter"), first.get("message", "is not valid")
        if key == BODY:
            detail = f"the body: {reason}"
        else:
            pointer = "".join(f"/{step}" for step in _STEPS.findall(key))
            detail = f"{key}: {reason}"
    codes = {400: "invalid-input", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    code = codes.get(error.status_code, "refused")
    headers = {"Allow": allow} if error.status_code == 405 else {}
    return problem(error.status_code, code, detail, pointer, **headers)


def on_too_deep(_: Request[Any, Any, Any], __: Exception) -> Response[Problem]:
    return problem(400, "invalid-input", "the body is nested too deeply to be read")


def unavailable(error: Exception) -> str | None:
    """Returns the message for a database that is away or busy; None: the statement failed, which is
    our fault."""
    if isinstance(error, _BUSY):
        log.warning("request.database_busy", error=type(error).__name__)
        return "too much is asked of the database at once; try again"
    if is_of_connection(error) or isinstance(error, TimeoutError):
        log.warning("request.database_unreachable", error=type(error).__name__)
        return "the database cannot be reached; try again"
    return None


def on_database_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    if is_cancelled(error):
        return on_refusal(request, TakesTooLong())
    detail = unavailable(error)
    if detail is None:
        return on_failure(request, error)
    return problem(503, "unavailable", detail, Retry_After=RETRY_SECONDS)


def on_reader_left(_: Request[Any, Any, Any], __: Exception) -> Response[Problem]:
    """The client has left: nobody reads the answer."""
    return problem(503, "unavailable", "the client has left", Retry_After="1")


def on_failure(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The unforeseen. The log names the kind of error and the route, never what was sent."""
    log.error(
        "request.failed", error=type(error).__name__, path=request.scope.get("path_template", "")
    )
    return problem(500, "failed", "Annals failed at this; the operator's log says where")


def _releasing(handler: Handler) -> Handler:
    """Lets go of the frames that an error went through, and of the bodies in them: errors and
    frames hold each other, so that they would stay until garbage is collected."""

    def handle(request: Request[Any, Any, Any], error: Any) -> Response[Problem]:
        try:
            return handler(request, error)
        finally:
            error.__traceback__ = error.__context__ = None

    return handle


_HANDLERS: dict[Any, Handler] = {
    Refusal: on_refusal,
    ProblemException: on_problem,
    HTTPException: on_http,
    RecursionError: on_too_deep,
    **dict.fromkeys(DATABASE_ERRORS, on_database_error),
    ReaderLeft: on_reader_left,
    Exception: on_failure,
}

HANDLERS: dict[Any, Any] = {kind: _releasing(handler) for kind, handler in _HANDLERS.items()}
