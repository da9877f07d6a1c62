"""The HTTP application: routes, errors, OpenAPI."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import cast

from litestar import Litestar
from litestar.concurrency import get_asyncio_executor, set_asyncio_executor
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import (
    HTTPScope,
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Receive,
    Scope,
    Send,
)

from api.compliance.erasures import ErasureController
from api.compliance.legal_holds import HoldController
from api.compliance.refused_attempts import RefusedAttemptsController
from api.compliance.retention import RetentionController
from api.compliance.suppressions import SuppressionController
from api.console.routes import console, root
from api.console.sessions import sessions_of
from api.contacts.activity_by_day import AccountDaysController, UserDaysController
from api.contacts.contacts import AccountsController, MembershipController, UsersController
from api.contacts.explanations import AccountWhyController, UserWhyController
from api.contacts.history import AccountHistoriesController, UserHistoriesController
from api.contacts.lists import AccountListsController, UserListsController
from api.contacts.live import AccountChangesController, UserChangesController
from api.contacts.manual_stages import AccountStagesController, UserStagesController
from api.contacts.subject_files import AccountReviewController, UserReviewController
from api.definitions.backtests import BacktestController
from api.definitions.catalogue import CatalogueController
from api.definitions.definitions import DefinitionsController
from api.definitions.destinations import DestinationsController
from api.definitions.saved_views import SavedViewController
from api.definitions.segments import SegmentsController
from api.definitions.settings import SettingsController
from api.http.auth import Connection
from api.http.bodies import MAX_BODY_BYTES, Reservation, has_body
from api.http.dependencies import DEPENDENCIES
from api.http.disconnects import attended
from api.http.limits import Limits
from api.http.methods import NoOptionsOfHandlers, answer_head
from api.http.problems import HANDLERS
from api.http.typed_requests import TypedRequest
from api.intake.routes import IntakeController
from api.openapi.bounds import BoundedFields
from api.openapi.described import DescribedFields, Document
from api.operations.api_keys import ApiKeysController
from api.operations.counters import CountersController
from api.operations.parked_events import ParkedController
from api.operations.pasts import PastController
from api.operations.status import HealthController, StatusController
from domain.errors import InvalidInput
from infra.bootstrap.annals import Annals

THREADS = 64
"""Threads in which a process answers: more than readers have places for, so that intake finds one
free. The loop's own are four more than the machine has cores."""


class App(Litestar):
    """Routes on the path as it was sent: an escaped slash belongs to an id and parts nothing. HEAD
    goes where GET does; requests are attended to as `api.http.disconnects` says. Reads bodies
    within the rooms of the process, and tells API keys their remaining rates."""

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        request = cast(HTTPScope, scope)
        request["path"] = request["raw_path"].decode("ascii", "replace")
        request.setdefault("state", {})
        answer = self._answer_head if request["method"] == "HEAD" else self._answer
        await attended(answer, request, cast(Receive, receive), cast(Send, send))

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_head(self._answer, cast(HTTPScope, scope), receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = cast(HTTPScope, scope)
        limits: Limits = self.state.limits
        sending = limits.with_rate_headers(request, send)
        if not has_body(request):
            await super().__call__(request, receive, sending)
            return
        reservation = Reservation(limits.rooms, request, receive)
        try:
            await super().__call__(request, reservation.receive, sending)
        finally:
            reservation.give_back()


async def refuse_nul(connection: Connection, _: BaseRouteHandler) -> None:
    """No text that PostgreSQL keeps holds the character NUL, and it takes none in a question."""
    if b"%00" not in connection.scope["query_string"]:
        return
    for name, value in connection.query_params.multi_items():
        if "\0" in name + value:
            raise InvalidInput("a parameter holds the character NUL", pointer=f"/{name}")


def create_app(annals: Annals) -> Litestar:
    """The application over open resources; it neither opens nor closes them."""
    if get_asyncio_executor() is None:
        set_asyncio_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="http"))
    app = App(
        [
            IntakeController,
            SavedViewController,
            UserListsController,
            AccountListsController,
            UserChangesController,
            AccountChangesController,
            UsersController,
            AccountsController,
            UserHistoriesController,
            AccountHistoriesController,
            UserDaysController,
            AccountDaysController,
            UserStagesController,
            AccountStagesController,
            UserWhyController,
            AccountWhyController,
            MembershipController,
            SegmentsController,
            DefinitionsController,
            SettingsController,
            DestinationsController,
            ApiKeysController,
            BacktestController,
            PastController,
            RefusedAttemptsController,
            UserReviewController,
            AccountReviewController,
            ErasureController,
            HoldController,
            SuppressionController,
            RetentionController,
            ParkedController,
            StatusController,
            CatalogueController,
            CountersController,
            HealthController,
            root,
            console(),
        ],
        guards=[refuse_nul],
        dependencies=DEPENDENCIES,
        exception_handlers=HANDLERS,
        plugins=[BoundedFields(), DescribedFields(), NoOptionsOfHandlers()],
        request_class=TypedRequest,
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Annals",
            version=_version(),
            description="Users and accounts as an append-only record, each shown whole.",
            path="/schema",
            render_plugins=[Document(path=["/", "/openapi.json"])],
            security=[{"ApiKey": []}],
            components=Components(
                security_schemes={
                    "ApiKey": SecurityScheme(type="http", scheme="bearer"),
                    "WriteKey": SecurityScheme(
                        type="http", scheme="basic", description="the write key as user name"
                    ),
                }
            ),
        ),
    )
    put_over(app, annals)
    return app


def put_over(app: Litestar, annals: Annals) -> None:
    """Replaces the resources of an application that serves no request now."""
    app.state = State(
        {"annals": annals, "sessions": sessions_of(annals), "limits": Limits(annals.settings)}
    )


def _version() -> str:
    try:
        return version("annals")
    except PackageNotFoundError:
        return "0"
