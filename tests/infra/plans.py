"""What tests look for in how the server carries out a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a plan in JSON, the outermost first."""
    return [plan, *(deeper for each in plan.get("Plans", ()) for deeper in nodes(each))]


def plans(conn: sa.Connection, ask: Callable[[], object], *, about: str) -> list[dict[str, Any]]:
    """How the server would carry out what is asked: each statement that has this text in it."""
    statements: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, text: str, values: Any, *_: object) -> None:
        if about in text:
            statements.append((text, values))

    sa.event.listen(conn, "before_cursor_execute", note)
    ask()
    sa.event.remove(conn, "before_cursor_execute", note)
    return [
        conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", values).scalar_one()[0]["Plan"]
        for text, values in statements
    ]
