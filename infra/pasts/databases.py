"""The databases of pasts: beside the live one on its server, and named after it.

They belong to the owner of the live database: no other role may connect.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.errors import Unavailable
from infra.migrations import upgrade

MAX_STEM_BYTES = 40
"""Of a name's 63 bytes, those that the rest leaves for the live database's name."""

BRIEF_CHARS = 16

SELECT_LIVE = """
SELECT to_jsonb(d) || jsonb_build_object('encoding', pg_encoding_to_char(encoding))
FROM pg_database d WHERE datname = current_database()"""

SELECT_MAY_CREATE = """
SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"""

SELECT_NAMES = (
    "SELECT datname FROM pg_database WHERE starts_with(datname, %(prefix)s) ORDER BY datname"
)

# Sorts and compares as the live database does; the server's default may differ.
CREATE = """
CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE_PROVIDER {provider}
LC_COLLATE {collate} LC_CTYPE {ctype}"""

PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
LOCALES = {"i": " ICU_LOCALE {locale}", "b": " BUILTIN_LOCALE {locale}"}

CLOSE = "REVOKE ALL ON DATABASE {name} FROM PUBLIC"

DROP = "DROP DATABASE IF EXISTS {name} WITH (FORCE)"


class PastDatabases:
    """
    Args:
        url: connection string of the owner of the live database.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def require_right(self) -> None:
        """Raises: Unavailable: the user may not create databases."""
        with self._owner() as (conn, _):
            if conn.execute(SELECT_MAY_CREATE).fetchone() != (True,):
                raise Unavailable(
                    "a past is made in a database of its own, and the database's user may not"
                    " create one: give it CREATEDB (docs/operating.md)"
                )

    def create(self, id: uuid.UUID) -> str:
        """Makes an empty database with all schemas; returns its connection string."""
        with self._owner() as (conn, prefix):
            name = prefix + brief(id)
            row = conn.execute(SELECT_LIVE).fetchone()
            assert row is not None
            conn.execute(_creation(name, row[0]))
            conn.execute(sql.SQL(CLOSE).format(name=sql.Identifier(name)))
        url = self.url(name)
        upgrade.migrate(url)
        return url

    def url_of(self, id: uuid.UUID) -> str:
        """The connection string of the owner, for the database of a past."""
        with self._owner() as (_, prefix):
            return self.url(prefix + brief(id))

    def url(self, name: str) -> str:
        return make_conninfo(self._url, dbname=name)

    def names(self, conn: psycopg.Connection) -> dict[str, str]:
        """The names of all databases of pasts, by the brief id of their past.

        Args:
            conn: to the live database, in any role.
        """
        prefix = _prefix(conn.info.dbname)
        return {name.removeprefix(prefix): name for name in _names(conn, prefix)}

    def drop(self, names: list[str]) -> None:
        """Drops databases, also while they are in use."""
        if names:
            with self._owner() as (conn, _):
                for name in names:
                    conn.execute(sql.SQL(DROP).format(name=sql.Identifier(name)))

    @contextmanager
    def _owner(self) -> Iterator[tuple[psycopg.Connection, str]]:
        """A connection, and the prefix of the names of our databases."""
        with psycopg.connect(self._url, autocommit=True) as conn:
            yield conn, _prefix(conn.info.dbname)


def brief(id: uuid.UUID) -> str:
    """The part of an id that a name has room for."""
    return id.hex[:BRIEF_CHARS]


def _prefix(live: str) -> str:
    """Of two live databases on one server, neither prefix begins with the other."""
    if len(live.encode()) > MAX_STEM_BYTES:
        live = hashlib.sha256(live.encode()).hexdigest()[:MAX_STEM_BYTES]
    return f"{live}_past_"


def _names(conn: psycopg.Connection, prefix: str) -> Iterator[str]:
    for (name,) in conn.execute(SELECT_NAMES, {"prefix": prefix}).fetchall():
        if re.fullmatch(f"[0-9a-f]{{{BRIEF_CHARS}}}", name.removeprefix(prefix)):
            yield name


def _creation(name: str, live: Mapping[str, Any]) -> sql.Composed:
    provider = live["datlocprovider"]
    # Up to PostgreSQL 16 the column has another name.
    locale = live.get("datlocale") or live.get("daticulocale") or ""
    return sql.SQL(CREATE + LOCALES.get(provider, "")).format(
        name=sql.Identifier(name),
        encoding=sql.Literal(live["encoding"]),
        provider=sql.SQL(PROVIDERS[provider]),
        collate=sql.Literal(live["datcollate"]),
        ctype=sql.Literal(live["datctype"]),
        locale=sql.Literal(locale),
    )
