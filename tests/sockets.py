"""Small buffers for the sockets to PostgreSQL: what waits for the wrong side hangs at once."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus

BUFFER = "ANNALS_TEST_SOCKET_BUFFER"
"""Bytes that each socket to the server buffers on its way there, in all tests; empty: as usual."""

SMALLEST = 4_608
"""About the least that Linux gives a socket."""


@contextmanager
def small_buffers(size: int = SMALLEST) -> Iterator[None]:
    """Every connection that is made in the block, by whichever pool, has buffers of a size."""
    connect = psycopg.Connection.connect

    def connected(*arguments: Any, **named: Any) -> psycopg.Connection[Any]:
        conn = connect(*arguments, **named)
        with socket.socket(fileno=os.dup(conn.fileno())) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        return conn

    with (
        _replaced(psycopg.Connection, "connect", connected),
        _replaced(psycopg, "connect", connected),
    ):
        yield


_nested: list[str] = []


def note_nested_pipelines() -> None:
    """Has all of the process note, from here on, where a pipeline is entered while the connection
    says that one is under way."""
    enter = psycopg.Pipeline.__enter__

    def entered(self: psycopg.Pipeline) -> psycopg.Pipeline:
        if self.status != PipelineStatus.OFF:
            _nested.append("".join(traceback.format_stack(limit=6)))
        return enter(self)

    psycopg.Pipeline.__enter__ = entered  # type: ignore[method-assign]


def nested_pipelines() -> list[str]:
    """Those that were noted since this was asked last, each with where it was."""
    nested = list(_nested)
    _nested.clear()
    return nested


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
