"""What an API key opens. Each key opens one scope."""

from __future__ import annotations

import enum


class ApiScope(enum.StrEnum):
    WRITE = "write"
    READ = "read"
    AUDIT = "audit"
    COMPLY = "comply"
    ADMIN = "admin"
