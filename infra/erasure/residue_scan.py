"""Searches the database, and the files of the embedded one, for values that should be gone.

The values are kept for the search only: no statement, no log and no file holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from domain.erasure.scan import Finding, Scan, Searcher
from infra.pasts.databases import PastDatabases
from infra.postgres import readers

PIECE_BYTES = 4 * 1024**2

SELECT_TABLES = """
SELECT n.nspname, c.relname, has_table_privilege(c.oid, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
  AND c.relname <> 'pg_largeobject'
ORDER BY n.nspname, c.relname"""

SELECT_LARGE_OBJECTS = "SELECT oid FROM pg_largeobject_metadata ORDER BY oid"

READ_LARGE_OBJECT = "SELECT lo_get(%s, %s, %s)"


class ResidueScan:
    """
    Args:
        url: connection string of the owner, who sees every table.
        cluster: folder of the embedded server's files; None: the server is not ours.
    """

    def __init__(self, url: str, cluster: Path | None, pasts: PastDatabases) -> None:
        self._url = url
        self._cluster = cluster
        self._pasts = pasts

    def scan(self, values: list[str]) -> Scan:
        """Searches every table (system tables and their statistics too), those of pasts as well,
        every large object, and every file of the embedded server, its write-ahead log included,
        after a checkpoint.

        Raises:
            ReaderLeft: nobody waits for it any more.
        """
        searcher = Searcher(values)
        findings: list[Finding] = []
        counted = {"tables": 0, "large_objects": 0, "files": 0}
        not_searched: list[str] = []
        total = 0

        def search(kind: str, place: str, pieces: Iterator[bytes]) -> None:
            nonlocal total
            readers.require_present()
            counts, size = searcher.search(pieces)
            total += size
            counted[kind] += 1
            findings.extend(
                Finding(value, form, place, count) for (value, form), count in counts.items()
            )

        def search_tables(conn: psycopg.Connection, where: str = "") -> None:
            for schema, table, readable in conn.execute(SELECT_TABLES).fetchall():
                name = f"table {where}{schema}.{table}"
                if readable:
                    search("tables", name, _rows(conn, schema, table))
                else:
                    not_searched.append(f"{name}: its owner alone may read it")

        for past in self._pasts.names().values():
            try:
                with (
                    psycopg.connect(self._pasts.url(past), autocommit=True) as conn,
                    readers.asking(conn),
                ):
                    search_tables(conn, f"{past}.")
            except psycopg.OperationalError:
                if past in self._pasts.names().values():
                    raise  # else it was dropped meanwhile
        with psycopg.connect(self._url, autocommit=True) as conn, readers.asking(conn):
            search_tables(conn)
            for (oid,) in conn.execute(SELECT_LARGE_OBJECTS).fetchall():
                search("large_objects", f"large object {oid}", _large_object(conn, oid))
            if self._cluster is None:
                not_searched.append("data files and write-ahead log: the server is not ours")
            else:
                conn.execute("CHECKPOINT")
                for path in sorted(self._cluster.rglob("*")):
                    if path.is_file() and not path.is_symlink():
                        place = str(path.relative_to(self._cluster))
                        try:
                            search("files", f"file {place}", _file(path))
                        except FileNotFoundError:
                            continue  # the server has removed it
                        except PermissionError:
                            not_searched.append(f"file {place}: it may not be read")
        return Scan(
            as_of=datetime.now(UTC),
            findings=sorted(findings, key=lambda one: (one.value, one.place, one.form)),
            bytes=total,
            not_searched=not_searched,
            **counted,
        )


def _rows(conn: psycopg.Connection, schema: str, table: str) -> Iterator[bytes]:
    statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(schema, table))
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        gathered: list[bytes] = []
        size = 0
        for row in copy:
            gathered.append(bytes(row))
            size += len(row)
            if size > PIECE_BYTES:
                yield b"".join(gathered)
                gathered, size = [], 0
        yield b"".join(gathered)


def _large_object(conn: psycopg.Connection, oid: int) -> Iterator[bytes]:
    at = 0
    while True:
        row = conn.execute(READ_LARGE_OBJECT, (oid, at, PIECE_BYTES), binary=True).fetchone()
        if row is None or not row[0]:
            return
        yield row[0]
        at += len(row[0])


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
