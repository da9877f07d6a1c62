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
from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as QueryError

from domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotReady,
    PeriodOver,
    Refusal,
    SubjectErased,
    Suppressed,
    TooManyAtOnce,
    Unavailable,
    VersionConflict,
)

log = structlog.get_logger()

Handler = Callable[[Request[Any, Any, Any], Any], "Response[Problem]"]

BODY = "data"
"""What the framework calls the body as a whole."""

_STEPS = re.compile(r"[^.\[\]]+")

STATUS: dict[type[Refusal], int] = {
    InvalidInput: 400,
    NotFound: 404,
    SubjectErased: 404,
    Suppressed: 403,
    PeriodOver: 403,
    Conflict: 409,
    VersionConflict: 409,
    TooManyAtOnce: 429,
    Unavailable: 503,
    NotReady: 503,
}
TITLES = {
    400: "The request cannot be taken as it is",
    401: "A valid API key is needed",
    403: "This API key does not open this",
    404: "There is no such thing",
    405: "This method is not offered here",
    408: "The request came too slowly",
    409: "What is there stands in the way",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is of a kind that is not taken",
    429: "Too much is asked for at once",
    431: "The headers are too large",
    500: "Annals failed",
    503: "Annals cannot answer now",
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 has it.

    Attributes:
        place: JSON pointer into the request, where the error has one.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    place: str | None = None


def answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that a route can answer with, for the OpenAPI document. Each route that wants an
    API key answers 429 where the key asks too often."""
    if 401 in statuses:
        statuses = (*statuses, 429)
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


def problem_of(status: int, code: str, detail: str, place: str | None = None) -> Problem:
    return Problem(
        f"urn:annals:problem:{code}",
        TITLES.get(status, "The request was refused"),
        status,
        detail,
        code,
        detail,
        place or None,
    )


def problem(
    status: int, code: str, detail: str, place: str | None = None, **headers: str
) -> Response[Problem]:
    return Response(
        problem_of(status, code, detail, place),
        status_code=status,
        media_type="application/problem+json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def on_refusal(_: Request[Any, Any, Any], error: Refusal) -> Response[Problem]:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
    if isinstance(error, TooManyAtOnce):
        return problem(status, error.code, error.detail, Retry_After=str(error.retry_after))
    if status == 503:
        return problem(status, error.code, error.detail, Retry_After="1")
    return problem(status, error.code, error.detail, error.place)


def on_problem(_: Request[Any, Any, Any], error: ProblemException) -> Response[Problem]:
    if error.status == 401:
        return problem(401, error.code, error.detail, WWW_Authenticate='Bearer realm="annals"')
    return problem(error.status, error.code, error.detail)


def on_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """What the framework refuses: unknown paths, methods, parameters of a wrong type."""
    place, detail = None, error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list) and error.extra:
        first = error.extra[0]
        key, reason = first.get("key", "a parameter"), first.get("message", "is not valid")
        if key == BODY:
            detail = f"the body: {reason}"
        else:
            place = "".join(f"/{step}" for step in _STEPS.findall(key))
            detail = f"{key}: {reason}"
    codes = {400: "invalid-input", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    response = problem(error.status_code, codes.get(error.status_code, "refused"), detail, place)
    if error.status_code == 405 and error.headers:
        response.set_header("Allow", error.headers.get("allow", ""))
    return response


def on_too_deep(_: Request[Any, Any, Any], __: Exception) -> Response[Problem]:
    return problem(400, "invalid-input", "the body is nested too deeply to be read")


def on_database_away(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.warning("request.database_unreachable", error=type(error).__name__)
    return problem(503, "unavailable", "the database cannot be reached; try again", Retry_After="1")


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
    OperationalError: on_database_away,
    QueryError: on_database_away,
    TimeoutError: on_database_away,
    Exception: on_failure,
}

HANDLERS: dict[Any, Any] = {kind: _releasing(handler) for kind, handler in _HANDLERS.items()}
