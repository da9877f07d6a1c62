"""COPY in pieces: the server writes a piece while the next one is made."""

from __future__ import annotations

import select
from contextlib import suppress

import psycopg
from psycopg import generators
from psycopg.copy import LibpqWriter
from psycopg.pq import ExecStatus


class _EndingEarly(LibpqWriter):
    """Ends a COPY without waiting for its result; `wait_for_result` waits."""

    def finish(self, exc: BaseException | None = None) -> None:
        if exc is not None:
            super().finish(exc)
            return
        link = self.connection.pgconn
        room = select.poll()  # `select` takes no descriptor past 1,023
        room.register(link.socket, select.POLLOUT)
        while link.put_copy_end() == 0:
            room.poll()
        while link.flush():
            room.poll()

    def wait_for_result(self) -> None:
        """Waits for the result; other threads run meanwhile.

        Raises:
            psycopg.Error: the rows were refused.
        """
        link = self.connection.pgconn
        result = self.connection.wait(generators.fetch(link))
        while self.connection.wait(generators.fetch(link)) is not None:
            pass
        if result is None:
            raise psycopg.OperationalError("the connection was lost during a COPY")
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)


class PieceByPiece:
    """Runs COPY commands in sequence, each with whole rows in binary form.

    The end of `with` waits for the last piece, even after an error; then the connection can be
    rolled back.
    """

    _HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    _TRAILER = b"\xff\xff"

    def __init__(self, cursor: psycopg.Cursor, statement: str) -> None:
        self._cursor = cursor
        self._statement = statement.encode()
        self._under_way: _EndingEarly | None = None

    def write(self, rows: bytes) -> None:
        """Sends rows to the server, once it has written those before.

        Raises:
            psycopg.Error: the rows before were refused.
        """
        self._flush()
        writer = _EndingEarly(self._cursor)
        with self._cursor.copy(self._statement, writer=writer) as copy:
            copy.write(self._HEADER + rows + self._TRAILER)
        self._under_way = writer

    def __enter__(self) -> PieceByPiece:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        else:
            with suppress(psycopg.Error):
                self._flush()

    def _flush(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.wait_for_result()
