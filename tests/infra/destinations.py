"""What tests do with destinations: make one over a log, tell it until nothing is left to tell."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from domain.activity import Activity, ActivityKind
from domain.commands import Track
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.types import DefinitionId
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from infra.webhooks.cursors import LEASE_SECONDS
from infra.webhooks.delivery import WebhookDelivery
from infra.webhooks.http_client import HttpClient
from infra.webhooks.items import WebhookItems
from infra.webhooks.sender import WebhookSender
from projections.projector.checkpoints import PROJECTOR
from tests.projections.read_models import NOON, account, owner, user, write

BY = uuid.UUID(int=7)
EVERYTHING = [Subscription(about) for about in SubscriptionKind]
NOT_STOPPED = threading.Event()
PLANTED = "Päivi-Planted"
"""What must not be found where nothing personal may be."""


def make(
    annals: Annals,
    url: str,
    news: Sequence[Subscription] = EVERYTHING,
    *,
    since: Mapping[int, int] | None = None,
    **rest: object,
) -> uuid.UUID:
    """An active destination that is told what comes after some positions; of the whole log, where
    none are given."""
    id = DefinitionId(uuid.uuid4())
    destination = Destination(f"d {id}", url, list(news), **rest)
    annals.webhook_secrets.add(id)
    for decision in (
        lambda state: editing.make(state, id, destination, BY),
        lambda state: editing.activate(state, id, BY),
    ):
        annals.definitions.decide(decision, datetime.now(UTC))
    annals.delivery_cursors.begin(id, since or dict.fromkeys(range(256), 0))
    return id


def archive(annals: Annals, id: uuid.UUID) -> None:
    annals.definitions.decide(lambda state: editing.archive(state, id, BY), datetime.now(UTC))


def deliverer(
    annals: Annals,
    *,
    allows_private: bool = True,
    http_client: HttpClient | None = None,
    pause: Callable[[int], float] = lambda _: 0.0,
) -> WebhookDelivery:
    """Another worker, as in a process of its own; one that failed may try again at once."""
    items = WebhookItems(
        log=annals.log,
        sealer=annals.sealer,
        keys=annals.keys,
        views=annals.views,
        projector=PROJECTOR,
    )
    http_client = http_client or HttpClient(allows_private=allows_private)
    return WebhookDelivery(
        log=annals.log,
        keys=annals.keys,
        items=items,
        definitions=annals.definitions,
        cursors=annals.delivery_cursors,
        sender=WebhookSender(annals.webhook_secrets, http_client),
        pause=pause,
    )


def turn(annals: Annals, id: uuid.UUID, worker: WebhookDelivery | None = None) -> None:
    (worker or deliverer(annals)).turn(id, NOT_STOPPED)


def tell(
    annals: Annals, id: uuid.UUID, worker: WebhookDelivery | None = None, turns: int = 200
) -> None:
    """Tells a destination until it has heard all that the read models show."""
    worker = worker or deliverer(annals)
    for _ in range(turns):
        if id not in worker.due():
            return
        turn(annals, id, worker)
    raise AssertionError("there is no end to what is to be told")


def let_lease_expire(url: str, id: uuid.UUID) -> None:
    """What the passing of time does after a worker died over a destination."""
    with owner(url) as conn:
        conn.execute(
            "UPDATE log.destinations SET leased_until = leased_until - make_interval(secs => %s)"
            " WHERE id = %s",
            (LEASE_SECONDS, id),
        )


def did(name: str, in_account: str | None = None, kind: ActivityKind = ActivityKind.EVENT) -> Any:
    activity = (Activity(kind, name, {"by": "test"}),)
    return lambda who: Track(user(who), account(in_account) if in_account else (), activity, NOON)


def logins(annals: Annals, *names: str) -> None:
    write(annals, *(did("login")(name) for name in names))


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]
