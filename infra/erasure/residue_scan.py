"""Searches the database, and the files of the embedded one, for erased values.

Only this process's memory holds the values: no statement, no log and no file does.
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

READ_LARGE_OBJECT = "SELECT lo_get(%(oid)s, %(offset)s, %(length)s)"


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
        """Searches every table (those of the system and its statistics too, and those of pasts),
        every large object, and, after a checkpoint, every file of the embedded server, its
        write-ahead log included.

        Raises:
            ReaderLeft: the client has left.
        """
        search = _Search(values)
        for past in self._names():
            try:
                with (
                    psycopg.connect(self._pasts.url(past), autocommit=True) as conn,
                    readers.asking(conn),
                ):
                    search.tables(conn, f"{past}.")
            except psycopg.OperationalError:
                if past in self._names():
                    raise  # else it was dropped meanwhile
        with psycopg.connect(self._url, autocommit=True) as conn, readers.asking(conn):
            search.tables(conn)
            search.large_objects(conn)
            if self._cluster is None:
                search.skip("data files and write-ahead log: the server is not ours")
            else:
                conn.execute("CHECKPOINT")
                search.files(self._cluster)
        return search.result()

    def _names(self) -> list[str]:
        """The databases of pasts."""
        with psycopg.connect(self._url, autocommit=True) as conn:
            return [*self._pasts.names(conn).values()]


class _Search:
    """A search over many places, with its findings so far."""

    def __init__(self, values: list[str]) -> None:
        self._searcher = Searcher(values)
        self._findings: list[Finding] = []
        self._counted = {"tables": 0, "large_objects": 0, "files": 0}
        self._not_searched: list[str] = []
        self._bytes = 0

    def tables(self, conn: psycopg.Connection, prefix: str = "") -> None:
        """Searches every table of a database; `prefix` names it, where it is a past's."""
        for schema, table, is_readable in conn.execute(SELECT_TABLES).fetchall():
            name = f"table {prefix}{schema}.{table}"
            if is_readable:
                self._search("tables", name, _rows(conn, schema, table))
            else:
                self.skip(f"{name}: its owner alone may read it")

    def large_objects(self, conn: psycopg.Connection) -> None:
        for (oid,) in conn.execute(SELECT_LARGE_OBJECTS).fetchall():
            self._search("large_objects", f"large object {oid}", _large_object(conn, oid))

    def files(self, folder: Path) -> None:
        """Searches every file below a folder."""
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink():
                continue
            name = f"file {path.relative_to(folder)}"
            try:
                self._search("files", name, _file(path))
            except FileNotFoundError:
                continue  # the server has removed it
            except PermissionError:
                self.skip(f"{name}: it may not be read")

    def skip(self, reason: str) -> None:
        """Notes a place that cannot be searched, and why."""
        self._not_searched.append(reason)

    def result(self) -> Scan:
        return Scan(
            as_of=datetime.now(UTC),
            findings=sorted(self._findings, key=lambda each: (each.value, each.place, each.form)),
            bytes=self._bytes,
            not_searched=self._not_searched,
            **self._counted,
        )

    def _search(self, kind: str, place: str, pieces: Iterator[bytes]) -> None:
        readers.require_present()
        counts, size = self._searcher.search(pieces)
        self._bytes += size
        self._counted[kind] += 1
        self._findings.extend(
            Finding(value, form, place, count) for (value, form), count in counts.items()
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
    offset = 0
    while True:
        params = {"oid": oid, "offset": offset, "length": PIECE_BYTES}
        row = conn.execute(READ_LARGE_OBJECT, params, binary=True).fetchone()
        if row is None or not row[0]:
            return
        yield row[0]
        offset += len(row[0])


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
