"""Settings: the workspace's choices, in place of the server's values."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get, put
from litestar.params import JSONBody

from api.definitions.saving import Saved
from api.http.as_of import AsOf, Readings
from api.http.auth import READERS, Asker, opens
from api.http.dependencies import Part
from api.http.problems import answers
from api.http.read_position import position_text
from api.openapi.bounds import Bounds, LinkUrl, Name
from domain.access import ApiScope
from domain.definitions.retention import MAX_MONTHS, Counts
from domain.definitions.types import DefinitionId, Settings
from domain.identity import SubjectKind
from domain.workspace import editing
from domain.workspace.consistency import MAX_LINKS, MAX_PREFERRED
from infra.write.condition_checks import ConditionChecks
from infra.write.definition_store import DefinitionStore

FewNames = Annotated[list[str], Bounds(max_items=MAX_PREFERRED)]


class PreferredNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The properties and events that the Overview shows first, by name, in order."""

    properties: FewNames = msgspec.field(default_factory=list)
    events: FewNames = msgspec.field(default_factory=list)


class LinkChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link from the pages of users or accounts to their records in another app.

    Attributes:
        url: a template with a subject's attributes and properties, like
            `https://crm.example/contacts/{external_id}?plan={properties.plan}`.
    """

    kind: SubjectKind
    name: Name
    url: LinkUrl


class RetentionChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long tracked activity stays readable.

    Attributes:
        months: whole calendar months, besides the current one.
        counts: whether the counts of older activity are kept or dropped.
    """

    months: Annotated[int, Bounds(minimum=1, maximum=MAX_MONTHS)]
    counts: Counts = Counts.KEEP


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings. A setting that is null or left out has the server's value.

    Attributes:
        mrr_property, renewal_property: the properties that supply MRR and renewal date.
        currency: ISO 4217, for MRR values without a currency.
        time_zone: the IANA name of the time zone that days are counted in.
        backdated_stages: whether a late fact moves the stage timeline to when it occurred.
        links: to the records of users and accounts in other apps, in order.
        retention: of tracked activity; null: it stays readable for ever.
    """

    mrr_property: str | None = None
    currency: Annotated[str, Bounds(pattern="^[A-Z]{3}$")] | None = None
    renewal_property: str | None = None
    time_zone: str | None = None
    users: PreferredNames = msgspec.field(default_factory=PreferredNames)
    accounts: PreferredNames = msgspec.field(default_factory=PreferredNames)
    backdated_stages: bool = False
    links: Annotated[list[LinkChoice], Bounds(max_items=MAX_LINKS)] = msgspec.field(
        default_factory=list
    )
    retention: RetentionChoice | None = None


class SettingsItem(msgspec.Struct, frozen=True):
    """The settings in force: the workspace's choice, else the server's value.

    Attributes:
        chosen: the workspace's choices; null: none.
        version: of the choice; 0 before the first.
        changed_by: the API key, by id.
    """

    mrr_property: str
    currency: str | None
    renewal_property: str
    time_zone: str
    users: PreferredNames
    accounts: PreferredNames
    backdated_stages: bool
    links: list[LinkChoice]
    retention: RetentionChoice | None
    chosen: Choice
    version: int
    changed_at: datetime | None
    changed_by: UUID | None


class SettingsController(Controller):
    """Readers read; a key of scope admin chooses."""

    path = "/api/settings"
    tags = ("settings",)

    @get(
        guards=[opens(*READERS)],
        sync_to_thread=True,
        summary="The settings in force",
        responses=answers(400, 401, 403, 503),
    )
    def view(self, readings: Part[Readings], as_of: AsOf = None) -> SettingsItem:
        annals = readings.at(None, as_of)
        holds, chosen = annals.workspace_now(), annals.definitions.load().settings
        return SettingsItem(
            mrr_property=holds.mrr_property,
            currency=holds.currency,
            renewal_property=holds.renewal_property,
            time_zone=str(holds.zone),
            users=PreferredNames(holds.users.properties, holds.users.events),
            accounts=PreferredNames(holds.accounts.properties, holds.accounts.events),
            backdated_stages=holds.backdated_stages,
            links=[LinkChoice(link.kind, link.name, link.url) for link in holds.links],
            retention=msgspec.convert(
                holds.retention, RetentionChoice | None, from_attributes=True
            ),
            chosen=Choice() if chosen is None else _choice(chosen.definition),
            version=0 if chosen is None else chosen.version,
            changed_at=None if chosen is None else chosen.changed_at,
            changed_by=None if chosen is None else chosen.by,
        )

    @put(
        guards=[opens(ApiScope.ADMIN)],
        sync_to_thread=True,
        summary="Choose the settings of the workspace",
        responses=answers(400, 401, 403, 409, 413, 503),
    )
    def choose(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        asker: Part[Asker],
        data: JSONBody[Choice],
    ) -> Saved:
        settings = msgspec.convert(data, Settings, from_attributes=True)
        checks.draft(settings)
        id = DefinitionId(uuid.uuid4())
        positions = definitions.decide(
            lambda state: editing.choose(state, id, settings, asker.key_id), datetime.now(UTC)
        )
        current = definitions.load().settings
        return Saved(id if current is None else current.id, position_text(positions))


def _choice(settings: Settings) -> Choice:
    return msgspec.convert(settings, Choice, from_attributes=True)
