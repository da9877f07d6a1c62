"""Draws the pictures anew, into `docs/`."""

from __future__ import annotations

from tests.pages import ROOT
from tests.pictures import erasure, tables

for name, drawn in (("tables", tables.drawn()), ("erasure", erasure.drawn())):
    (ROOT / "docs" / f"{name}.svg").write_text(drawn)
