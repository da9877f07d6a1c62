"""The few parts that the pictures of `docs/` are made of, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = """
    .box { fill: #eef2f7; stroke: #5b6b7f; stroke-width: 1.5 }
    .store { fill: #dfe9dc; stroke: #4f7350; stroke-width: 1.5 }
    .keys { fill: #f6e7cf; stroke: #94702b; stroke-width: 1.5 }
    .line { stroke: #5b6b7f; stroke-width: 1.8; fill: none }
    .head { fill: #5b6b7f }
    text { font-family: sans-serif; font-size: 14px; fill: #1c2733 }
    .middle { text-anchor: middle }
    .title { font-size: 16px; font-weight: bold }
    .small { font-size: 11.5px; fill: #43525f }
    .label { font-size: 11.5px; fill: #5a6b7c }
    @media (prefers-color-scheme: dark) {
      .box { fill: #232d38; stroke: #8fa1b5 }
      .store { fill: #21331f; stroke: #86b083 }
      .keys { fill: #3a2e17; stroke: #d3a955 }
      .line { stroke: #8fa1b5 }
      .head { fill: #8fa1b5 }
      text { fill: #e8edf2 }
      .small { fill: #b6c2ce }
      .label { fill: #9aabbb }
    }
"""


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'


def text(words: str, x: float, y: float, kind: str = "") -> str:
    of = f' class="{kind}"' if kind else ""
    return f'<text{of} x="{x}" y="{y}">{escape(words)}</text>'


def arrow(path: str) -> str:
    return f'<path class="line" d="{path}" marker-end="url(#arrow)"/>'


def picture(width: int, height: int, says: str, parts: Iterable[str]) -> str:
    """A whole SVG file. `says` is what it shows, in words."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img"\n     aria-label="{escape(says)}">'
    )
    marker = (
        '  <defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path class="head" d="M0 0 L10 5 L0 10 z"/></marker>'
        "</defs>"
    )
    body = "\n".join(f"  {part}" for part in parts)
    return f"{head}\n  <style>{STYLE}  </style>\n{marker}\n{body}\n</svg>\n"
