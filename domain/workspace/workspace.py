"""Workspace: the settings that hold, chosen by an admin or set by the server."""

from __future__ import annotations

from datetime import tzinfo

import msgspec

from domain.calendar import Zones
from domain.definitions.links import Link
from domain.definitions.retention import Retention
from domain.definitions.types import Preferred
from domain.name_rules import NameRules


class Workspace(msgspec.Struct, frozen=True):
    """
    Attributes:
        zones: the present and the past time zones.
        mrr_property, renewal_property: names of the properties that supply MRR and renewal date.
        currency: ISO 4217 code for MRR values without a currency; None: unknown.
        users, accounts: the properties and events that the Overview shows first.
        backdated_stages: whether a late fact moves the stage timeline to when it occurred.
        links: to the records of users and accounts in other apps, in order.
        retention: how long tracked activity stays readable; None: for ever.
        names: the names that admins retired, and the types that they gave.
    """

    zones: Zones = Zones()
    mrr_property: str = "mrr"
    renewal_property: str = "renewal_date"
    currency: str | None = None
    users: Preferred = Preferred()
    accounts: Preferred = Preferred()
    backdated_stages: bool = False
    links: tuple[Link, ...] = ()
    retention: Retention | None = None
    names: NameRules = NameRules()

    @property
    def zone(self) -> tzinfo:
        """The zone in which calendar days are counted now."""
        return self.zones.now
