"""What tests do with pasts: make them, quickly, and wait for them."""

from __future__ import annotations

import time
import uuid
from datetime import datetime

import psycopg

from domain.errors import NotReady
from infra.bootstrap.annals import Annals
from infra.pasts.databases import PastDatabases
from tests.databases import copy_template


def seen_at(annals: Annals, at: datetime, by: uuid.UUID | None = None) -> Annals:
    """What was shown at an instant, once it is made."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return annals.as_of(at, by)
        except NotReady:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def databases(url: str) -> list[str]:
    """Those of pasts that are there."""
    with psycopg.connect(url) as conn:
        return list(PastDatabases(url).names(conn).values())


def copied(self: PastDatabases, id: uuid.UUID) -> str:
    """In place of `PastDatabases.create`: migrated already, as the test's own database is."""
    url = self.url_of(id)
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
        copy_template(conn, str(name))
    return url
