"""The console's routes, with their guards, headers and error pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import structlog
from litestar import Response, Router, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Redirect

from api.console import (
    backtests,
    catalogue,
    contact,
    contacts,
    counters,
    definitions,
    destinations,
    erasing,
    keys,
    links,
    live,
    parked,
    past,
    retention,
    segments,
    sessions,
)
from api.console.calls import Refused
from api.console.pages import ASSETS, PRIVATE, SECURITY_HEADERS, page
from api.console.sessions import AnyRequest, Forged, NotSignedIn, signed_in
from api.http.problems import DATABASE_ERRORS, RETRY_SECONDS, unavailable
from domain.errors import TooManyAtOnce

log = structlog.get_logger()

HOME = "/console/users"
MAX_SIGN_IN_BYTES = 64 * 1024
FOR_EVER = "public, max-age=31536000, immutable"
TITLES = {
    400: "This cannot be shown as it is",
    403: "Your key does not open this",
    404: "Not found",
    409: "The present state does not allow this",
    429: "Too many requests at once",
    503: "Annals cannot answer now",
}


@get("/", include_in_schema=False)
async def root() -> Redirect:
    return Redirect("/console/users")


@get("/")
async def home() -> Redirect:
    return Redirect(HOME)


@get("/static/{digest:str}/{name:str}", sync_to_thread=False)
def static(request: AnyRequest, digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    asset = ASSETS.get(name)
    if asset is None:
        raise Refused(404, "not-found", "there is no such file", None)
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": FOR_EVER if digest == asset.digest else "no-cache",
        "Vary": "Accept-Encoding",
    }
    content = asset.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = asset.packed, "gzip"
    return Response(content, media_type=asset.type, headers=headers)


def _wanted(text: str | None) -> str:
    """Where to go after signing in: a page of the console, or home."""
    inside = (text or "").startswith("/console/") and "\\" not in (text or "")
    return text if text and inside and text.isprintable() else HOME


@get("/sign-in", sync_to_thread=False)
def sign_in_page(request: AnyRequest) -> Response[str]:
    return page(
        request, "sign_in.html", wanted=_wanted(request.query_params.get("next")), refused=None
    )


@post("/sign-in", status_code=200, request_max_body_size=MAX_SIGN_IN_BYTES)
async def sign_in(request: AnyRequest) -> Response[Any]:
    form = await request.form()
    key, wanted = str(form.get("key", "")).strip(), _wanted(str(form.get("next", "")))
    if await sessions.scope_of(request, key) is None:
        refused = "This key is unknown, was revoked, or may not read."
        return page(request, "sign_in.html", status=401, wanted=wanted, refused=refused)
    answer = Redirect(wanted, status_code=303, headers=SECURITY_HEADERS | PRIVATE)
    answer.cookies.append(sessions.cookie(request, request.app.state.sessions.begin(key)))
    return answer


@post("/sign-out", guards=[signed_in])
async def sign_out(request: AnyRequest) -> Redirect:
    answer = Redirect("/console/sign-in", status_code=303, headers=SECURITY_HEADERS | PRIVATE)
    answer.cookies.append(sessions.cookie(request, "", seconds=0))
    return answer


@get("/{rest:path}")
async def nothing() -> Response[str]:
    raise Refused(404, "not-found", "There is no such page.", None)


def _on_not_signed_in(request: AnyRequest, _: NotSignedIn) -> Response[Any]:
    if contacts.is_part(request):
        place = request.headers.get("hx-current-url", "")
        wanted = place[place.find("/console/") :] if "/console/" in place else HOME
        target = "/console/sign-in?" + urlencode({"next": wanted})
        return Response("", status_code=401, headers=PRIVATE | {"HX-Redirect": target})
    query = request.scope["query_string"].decode("ascii", "replace")
    wanted = request.scope["path"] + (f"?{query}" if query else "")
    target = "/console/sign-in" + ("" if wanted == HOME else "?" + urlencode({"next": wanted}))
    return Redirect(target, status_code=303, headers=SECURITY_HEADERS | PRIVATE)


def _on_forged(request: AnyRequest, _: Forged) -> Response[str]:
    return _problem(
        request, 403, "This did not come from a page of the console. Load the page again."
    )


def _on_refused(request: AnyRequest, refused: Refused) -> Response[str]:
    if refused.status == 401:
        return _on_not_signed_in(request, NotSignedIn())
    return _problem(request, refused.status, refused.detail, code=refused.code)


def _on_too_many(request: AnyRequest, error: TooManyAtOnce) -> Response[str]:
    answer = _problem(request, 429, error.detail, code=error.code)
    answer.set_header("Retry-After", str(error.retry_after))
    return answer


def _on_http(request: AnyRequest, error: HTTPException) -> Response[str]:
    return _problem(request, error.status_code, error.detail)


def _on_database_error(request: AnyRequest, error: Exception) -> Response[str]:
    detail = unavailable(error)
    if detail is None:
        return _on_failure(request, error)
    response = _problem(request, 503, f"{detail[0].upper()}{detail[1:]}.", code="unavailable")
    response.set_header("Retry-After", RETRY_SECONDS)
    return response


def _on_failure(request: AnyRequest, error: Exception) -> Response[str]:
    log.error(
        "console.failed", error=type(error).__name__, path=request.scope.get("path_template", "")
    )
    return _problem(request, 500, "Annals failed at this; the operator's log says where.")


def _problem(request: AnyRequest, status: int, detail: str, *, code: str = "") -> Response[str]:
    return page(
        request,
        "problem_part.html" if contacts.is_part(request) else "problem.html",
        status=status,
        title=TITLES.get(status, "Annals failed"),
        detail=detail,
        code=code,
    )


def console() -> Router:
    """All routes below `/console`."""
    inside = Router(
        "/",
        route_handlers=[
            home,
            contacts.UserLists,
            contacts.AccountLists,
            contacts.export_users,
            contacts.export_accounts,
            segments.Segments,
            links.Links,
            keys.Keys,
            counters.Counters,
            catalogue.CataloguePage,
            destinations.DestinationPages,
            retention.RetentionPage,
            parked.ParkedPage,
            definitions.Definitions,
            backtests.Backtests,
            past.Pasts,
            erasing.DeletingUsers,
            erasing.DeletingAccounts,
            erasing.Erasures,
            erasing.archive_of_user,
            erasing.archive_of_account,
            live.changes_of_users,
            live.changes_of_accounts,
            contact.UserPages,
            contact.AccountPages,
            nothing,
        ],
        guards=[signed_in],
    )
    return Router(
        "/console",
        route_handlers=[static, sign_in_page, sign_in, sign_out, inside],
        before_request=sessions.came_from_a_page,
        exception_handlers={
            NotSignedIn: _on_not_signed_in,
            Forged: _on_forged,
            Refused: _on_refused,
            TooManyAtOnce: _on_too_many,
            HTTPException: _on_http,
            **dict.fromkeys(DATABASE_ERRORS, _on_database_error),
            Exception: _on_failure,
        },
        include_in_schema=False,
    )
