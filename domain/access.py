"""Scopes of API keys, and attempts beyond them. Each key opens one scope."""

from __future__ import annotations

import enum
from datetime import datetime
from uuid import UUID

import msgspec


class ApiScope(enum.StrEnum):
    WRITE = "write"
    READ = "read"
    AUDIT = "audit"
    COMPLY = "comply"
    ADMIN = "admin"


class RefusedAttempt(msgspec.Struct, frozen=True):
    """Attempts within a minute that were alike.

    Attributes:
        key: by id; `scope` is what it opens.
        route: as it is declared, without ids.
    """

    key: UUID
    scope: ApiScope
    method: str
    route: str
    attempts: int
    first_at: datetime
    last_at: datetime
