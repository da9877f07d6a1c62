"""The HTTP application: routes, errors, OpenAPI."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from api.compliance import ErasureController
from api.contacts import AccountsController, MembershipController, UsersController
from api.intake import MAX_BODY_BYTES, IntakeController
from api.operations import HealthController, StatusController
from api.problems import HANDLERS
from infra.wiring import Annals


def create_app(annals: Annals) -> Litestar:
    """The application over open resources; it neither opens nor closes them."""
    return Litestar(
        [
            IntakeController,
            UsersController,
            AccountsController,
            MembershipController,
            ErasureController,
            StatusController,
            HealthController,
        ],
        state=State({"annals": annals}),
        exception_handlers=HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Annals",
            version=_version(),
            description="Users and accounts as an append-only record, each shown whole.",
            path="/schema",
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
            security=[{"ApiKey": []}],
            components=Components(
                security_schemes={"ApiKey": SecurityScheme(type="http", scheme="bearer")}
            ),
        ),
    )


def _version() -> str:
    try:
        return version("annals")
    except PackageNotFoundError:
        return "0"
