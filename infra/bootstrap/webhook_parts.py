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
        destinations: the cursors of each destination.
        webhook_secrets: the secrets that sign what destinations get.
    """

    destinations: DeliveryCursors
    webhook_secrets: WebhookSecrets
    deliverer: WebhookDelivery


def build_webhooks(
    settings: Settings, pools: Pools, log: LogParts, keys: KeyParts, write: WriteParts
) -> WebhookParts:
    destinations = DeliveryCursors(pools.workers.log)
    secrets = WebhookSecrets(pools.workers.log, keys.secrets.get("destinations"))
    items = WebhookItems(
        log=log.working_log,
        sealer=keys.sealer,
        keys=keys.keys,
        views=pools.workers.views,
        projector=PROJECTOR,
    )
    deliverer = WebhookDelivery(
        log=log.working_log,
        keys=keys.keys,
        items=items,
        definitions=write.working_definitions,
        cursors=destinations,
        sender=WebhookSender(secrets, _http_client(settings)),
    )
    return WebhookParts(destinations=destinations, webhook_secrets=secrets, deliverer=deliverer)


def _http_client(settings: Settings) -> HttpClient:
    """As `ANNALS_PRIVATE_DESTINATIONS` and `ANNALS_DESTINATION_CERTIFICATES` say."""
    chosen = settings.destination_certificates
    return HttpClient(
        allows_private=settings.private_destinations == "allow",
        certificates=None if chosen == "system" else Path(chosen),
    )
