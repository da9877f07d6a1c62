"""What tests look for in how the server carries out a statement."""

from __future__ import annotations

from typing import Any


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a plan in JSON, the outermost first."""
    return [plan, *(deeper for one in plan.get("Plans", ()) for deeper in nodes(one))]
