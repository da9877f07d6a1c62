"""Builds the delivery of webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.bootstrap.key_parts import KeyParts
from infra.bootstrap.log_parts import LogParts
from infra.bootstrap.write_parts import WriteParts
from infra.postgres.pools import Pools
from infra.settings import Settings
from infra.webhooks.cursors import DeliveryCursors
from infra.webhooks.delivery import WebhookDelivery
from infra.webhooks.http_client import HttpClient
from infra.webhooks.items import WebhookItems
from infra.webhooks.secrets import WebhookSecrets
from infra.webhooks.sender import WebhookSender
from projections.projector.checkpoints import PROJECTOR


@dataclass(frozen=True, kw_only=True)
class WebhookParts:
    """
    Attributes:
        delivery_cursors: the cursors of each destination.
        webhook_secrets: the secrets that sign messages to destinations.
    """

    delivery_cursors: DeliveryCursors
    webhook_secrets: WebhookSecrets
    delivery: WebhookDelivery


def build_webhooks(
    settings: Settings, pools: Pools, log: LogParts, keys: KeyParts, write: WriteParts
) -> WebhookParts:
    cursors = DeliveryCursors(pools.workers.log)
    secrets = WebhookSecrets(pools.workers.log, keys.secrets.get("destinations"))
    items = WebhookItems(
        log=log.working_log,
        sealer=keys.sealer,
        keys=keys.keys,
        views=pools.workers.views,
        projector=PROJECTOR,
    )
    delivery = WebhookDelivery(
        log=log.working_log,
        keys=keys.keys,
        items=items,
        definitions=write.working_definitions,
        cursors=cursors,
        sender=WebhookSender(secrets, _http_client(settings)),
    )
    return WebhookParts(delivery_cursors=cursors, webhook_secrets=secrets, delivery=delivery)


def _http_client(settings: Settings) -> HttpClient:
    """As `ANNALS_PRIVATE_DESTINATIONS` and `ANNALS_DESTINATION_CERTIFICATES` say."""
    chosen = settings.destination_certificates
    return HttpClient(
        allows_private=settings.private_destinations == "allow",
        certificates=None if chosen == "system" else Path(chosen),
    )
