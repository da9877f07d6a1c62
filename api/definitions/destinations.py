"""Destinations: made, changed, activated, paused; how each is doing; a test message."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter

from api.definitions.saving import Saved, saved
from api.http.auth import Asker, opens
from api.http.dependencies import Part
from api.http.problems import answers
from api.openapi.bounds import Bounds, Name, PostUrl
from domain.access import ApiScope
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.types import Defined, DefinitionId, Status
from domain.errors import Conflict, InvalidInput, NotFound
from domain.events.event import Event
from domain.identity import LOG_PARTITIONS, SubjectKind
from domain.workspace import consistency, editing
from domain.workspace.definitions import Definitions
from infra.log.event_log import EventLog
from infra.settings import Settings
from infra.webhooks import signing
from infra.webhooks.cursors import DeliveryCursors
from infra.webhooks.delivery import WebhookDelivery
from infra.webhooks.http_client import is_private
from infra.webhooks.secrets import WebhookSecrets
from infra.write.condition_checks import ConditionChecks
from infra.write.definition_store import DefinitionStore
from projections.kernel.paging import Page
from projections.queries.definition_list import DefinitionVersion

ADMINS = [opens(ApiScope.ADMIN)]
CHANGING_PROBLEMS = answers(400, 401, 403, 404, 409, 413, 503)
MOVING_PROBLEMS = answers(400, 401, 403, 404, 409, 503)
UNSEEN = {"Cache-Control": "no-store"}

Id = Annotated[UUID, PathParameter(description="of a destination")]


class DestinationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Attributes:
        url: https, without user name and password.
        news: the subscriptions, each kind once; `names` narrows activity and properties.
        kind: only news about a user, or about an account; null: all.
        segment: only news about members, at the time of sending, of this segment of `kind`.
        type: as in answers; may be left out.
    """

    name: Name
    url: PostUrl
    news: Annotated[list[Subscription], Bounds(min_items=1, max_items=len(SubscriptionKind))]
    kind: SubjectKind | None = None
    segment: UUID | None = None
    type: Literal["destination"] = "destination"


class Delivery(msgspec.Struct, frozen=True):
    """How a destination is doing.

    Attributes:
        begun_at: when it was activated; earlier events are not sent.
        behind: the number of log events still to be processed for it.
        sent_at: when it last took a message.
        failures: the number of failed attempts since then.
        failure: why the last failed attempt failed: the status code of the answer, `gone` (410), or
            `unknown_host`, `refused_address`, `connection`, `certificate`, `timeout`, `protocol`;
            `here`: the attempt failed before it reached the destination.
        retry_at: the earliest time of the next attempt; null: at once.
        paused_by: the API key; null: the destination answered `gone`.
        renewed_at: when its secret was last renewed.
    """

    begun_at: datetime | None
    behind: int
    sent_at: datetime | None
    failures: int
    failed_at: datetime | None
    failure: str | None
    retry_at: datetime | None
    paused_at: datetime | None
    paused_by: UUID | None
    renewed_at: datetime | None


class DestinationItem(msgspec.Struct, frozen=True):
    """A destination as it stands. `created_by`, `changed_by`: API keys, by id."""

    id: UUID
    definition: Destination
    version: int
    status: Status
    created_at: datetime
    created_by: UUID
    changed_at: datetime
    changed_by: UUID
    delivery: Delivery


class MadeDestination(Saved, frozen=True):
    """
    Attributes:
        secret: signs the messages. It is shown here and never again.
    """

    secret: str


class RenewedSecret(msgspec.Struct, frozen=True):
    """
    Attributes:
        secret: the new secret, shown here and never again; for 24 hours the old secret signs
            messages too.
    """

    secret: str


class Tested(msgspec.Struct, frozen=True):
    """
    Attributes:
        failure: as in `Delivery`; null: the destination took the message.
    """

    taken: bool
    failure: str | None


class DestinationsController(Controller):
    """For keys of scope admin: the address itself can be a secret."""

    path = "/api/destinations"
    tags = ("destinations",)
    guards = ADMINS

    @get(
        sync_to_thread=True,
        summary="All destinations, by name, with the state of delivery",
        responses=answers(401, 403, 503),
    )
    def list(
        self, definitions: Part[DefinitionStore], cursors: Part[DeliveryCursors]
    ) -> Page[DestinationItem]:
        destinations = sorted(
            definitions.load().destinations.values(),
            key=lambda defined: (defined.definition.name, defined.id),
        )
        items = _items(cursors, destinations)
        return Page(items, None, len(items))

    @post(
        status_code=200,
        sync_to_thread=True,
        summary="Make a destination, as a draft; its secret is shown once",
        responses=answers(400, 401, 403, 409, 413, 503),
    )
    def make(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        webhook_secrets: Part[WebhookSecrets],
        server_settings: Part[Settings],
        asker: Part[Asker],
        data: JSONBody[DestinationRequest],
    ) -> Response[MadeDestination]:
        definition = _checked(checks, server_settings, data)
        id = DefinitionId(uuid.uuid4())
        secret = webhook_secrets.add(id)
        made = saved(
            definitions, asker, id, lambda state, by: editing.make(state, id, definition, by)
        )
        return Response(
            MadeDestination(made.id, made.position, signing.shown(secret)), headers=UNSEEN
        )

    @get(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="A destination, with the state of delivery",
        responses=answers(400, 401, 403, 404, 503),
    )
    def view(
        self, definitions: Part[DefinitionStore], cursors: Part[DeliveryCursors], id: Id
    ) -> DestinationItem:
        return _item(definitions, cursors, id)

    @get(
        "/{id:uuid}/history",
        sync_to_thread=True,
        summary="Every version of a destination, newest first, with time and API key",
        responses=answers(400, 401, 403, 404, 503),
    )
    def history(self, definitions: Part[DefinitionStore], id: Id) -> Page[DefinitionVersion]:
        items = _versions(definitions.history(), id)
        if not items:
            raise NotFound("there is no such destination")
        return Page(items, None, len(items))

    @put(
        "/{id:uuid}",
        sync_to_thread=True,
        summary="Change a draft or an active destination; affects later messages",
        responses=CHANGING_PROBLEMS,
    )
    def change(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        server_settings: Part[Settings],
        asker: Part[Asker],
        id: Id,
        data: JSONBody[DestinationRequest],
    ) -> Saved:
        definitions.load().destination(id)
        definition = _checked(checks, server_settings, data)
        return saved(
            definitions, asker, id, lambda state, by: editing.change(state, id, definition, by)
        )

    @post(
        "/{id:uuid}/activate",
        status_code=200,
        sync_to_thread=True,
        summary="Activate a draft: it receives events from now on",
        responses=MOVING_PROBLEMS,
    )
    def activate(
        self,
        definitions: Part[DefinitionStore],
        cursors: Part[DeliveryCursors],
        log: Part[EventLog],
        asker: Part[Asker],
        id: Id,
    ) -> Saved:
        definitions.load().destination(id)
        heads = log.heads(range(LOG_PARTITIONS))
        answer = saved(definitions, asker, id, lambda state, by: editing.activate(state, id, by))
        cursors.begin(id, heads)
        return answer

    @post(
        "/{id:uuid}/archive",
        status_code=200,
        sync_to_thread=True,
        summary="Archive a destination: it receives nothing more; it stays on record",
        responses=MOVING_PROBLEMS,
    )
    def archive(self, definitions: Part[DefinitionStore], asker: Part[Asker], id: Id) -> Saved:
        definitions.load().destination(id)
        return saved(definitions, asker, id, lambda state, by: editing.archive(state, id, by))

    @delete(
        "/{id:uuid}",
        status_code=200,
        sync_to_thread=True,
        summary="Delete a draft",
        responses=MOVING_PROBLEMS,
    )
    def delete(self, definitions: Part[DefinitionStore], asker: Part[Asker], id: Id) -> Saved:
        definitions.load().destination(id)
        return saved(definitions, asker, id, lambda state, by: editing.delete(state, id, by))

    @post(
        "/{id:uuid}/pause",
        status_code=200,
        sync_to_thread=True,
        summary="Pause: send nothing until it is resumed; events meanwhile are sent then",
        responses=MOVING_PROBLEMS,
    )
    def pause(
        self,
        definitions: Part[DefinitionStore],
        cursors: Part[DeliveryCursors],
        asker: Part[Asker],
        id: Id,
    ) -> DestinationItem:
        _require_active(definitions, id)
        cursors.pause(id, asker.key_id)
        return _item(definitions, cursors, id)

    @post(
        "/{id:uuid}/resume",
        status_code=200,
        sync_to_thread=True,
        summary="Resume at once from where it was, also after failures",
        responses=MOVING_PROBLEMS,
    )
    def resume(
        self, definitions: Part[DefinitionStore], cursors: Part[DeliveryCursors], id: Id
    ) -> DestinationItem:
        _require_active(definitions, id)
        cursors.resume(id)
        return _item(definitions, cursors, id)

    @post(
        "/{id:uuid}/secret",
        status_code=200,
        sync_to_thread=True,
        summary="Renew its secret, which is shown once; the old one signs for 24 hours more",
        responses=answers(400, 401, 403, 404, 503),
    )
    def renew(
        self, definitions: Part[DefinitionStore], webhook_secrets: Part[WebhookSecrets], id: Id
    ) -> Response[RenewedSecret]:
        definitions.load().destination(id)
        secret = webhook_secrets.renew(id)
        return Response(RenewedSecret(signing.shown(secret)), headers=UNSEEN)

    @post(
        "/{id:uuid}/test",
        status_code=200,
        sync_to_thread=True,
        summary="Send an empty, signed message, and wait for the answer",
        responses=MOVING_PROBLEMS,
    )
    def test(
        self, definitions: Part[DefinitionStore], delivery: Part[WebhookDelivery], id: Id
    ) -> Tested:
        destination = definitions.load().destination(id)
        if destination.status is Status.ARCHIVED:
            raise Conflict("it is archived: nothing is sent to it any more")
        failure = delivery.sender.send_test(id, destination.definition)
        return Tested(failure is None, failure)


def _versions(events: Sequence[Event], id: UUID) -> list[DefinitionVersion]:
    """The versions of a destination, newest first; from the log, for no read model has them."""
    state, versions = Definitions(), dict[int, DefinitionVersion]()
    for event in events:
        state = state.evolve(event)
        current = state.destinations.get(DefinitionId(id))
        if current is not None:
            versions[current.version] = DefinitionVersion(
                current.version,
                current.status,
                current.changed_at,
                current.by,
                current.definition,
            )
    return list(versions.values())[::-1]


def _checked(checks: ConditionChecks, settings: Settings, data: DestinationRequest) -> Destination:
    """The destination in a request. Raises: InvalidInput: it cannot be one; says where."""
    definition = Destination(data.name, data.url, data.news, data.kind, data.segment)
    consistency.check(definition)
    if settings.private_destinations != "allow" and is_private(data.url):
        raise InvalidInput(
            "this is a private address, or one on the machine itself; the operator can allow these"
            " with ANNALS_PRIVATE_DESTINATIONS",
            pointer="/url",
        )
    checks.draft(definition)
    return definition


def _require_active(definitions: DefinitionStore, id: UUID) -> None:
    """Raises: NotFound: there is none. Conflict: it is a draft, or archived."""
    if definitions.load().destination(id).status is not Status.ACTIVE:
        raise Conflict("only an active destination is sent anything")


def _item(definitions: DefinitionStore, cursors: DeliveryCursors, id: UUID) -> DestinationItem:
    [item] = _items(cursors, [definitions.load().destination(id)])
    return item


def _items(
    cursors: DeliveryCursors, destinations: list[Defined[Destination]]
) -> list[DestinationItem]:
    states = cursors.states([destination.id for destination in destinations])
    return [
        DestinationItem(
            destination.id,
            destination.definition,
            destination.version,
            destination.status,
            destination.created_at,
            destination.created_by,
            destination.changed_at,
            destination.by,
            msgspec.convert(states[destination.id], Delivery, from_attributes=True),
        )
        for destination in destinations
    ]
