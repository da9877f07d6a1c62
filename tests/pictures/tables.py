"""The picture of all tables: what each holds, and the module that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.pictures.svg import box, picture, text


class Group(NamedTuple):
    """Tables of a schema that one module owns."""

    owner: str
    tables: tuple[str, ...]


SCHEMAS: Mapping[str, tuple[Group, ...]] = {
    "log": (
        Group("infra/log/appending.py", ("events", "heads", "message_ids")),
        Group("infra/write/aggregates.py", ("snapshots",)),
        Group("infra/write/name_catalogue.py", ("catalogue",)),
        Group("infra/write/saved_views.py", ("saved_views",)),
        Group("infra/write/skipped_events.py", ("skipped_events",)),
        Group("infra/webhooks/secrets.py", ("destinations",)),
        Group("infra/webhooks/cursors.py", ("destination_cursors",)),
        Group("infra/first_settings.py", ("defaults",)),
    ),
    "keys": (
        Group("infra/keys/key_versions.py", ("subject_keys",)),
        Group("infra/keys/deployment_secrets.py", ("secrets",)),
        Group("infra/keys/erasure_records.py", ("erasures",)),
        Group("infra/keys/rotation.py", ("key_encryption_keys", "generation")),
        Group("infra/keys/month_keys.py", ("period_keys",)),
        Group("infra/keys/content_keys.py", ("replacements",)),
        Group("infra/keys/identity_index.py", ("identities", "suppressed")),
        Group("infra/erasure/requests.py", ("erasure_requests", "erasure_targets")),
        Group("infra/erasure/idempotency.py", ("erasure_tokens",)),
        Group("infra/erasure/redaction.py", ("erasure_mentions", "erasure_names")),
        Group("infra/erasure/legal_holds.py", ("holds",)),
        Group("infra/erasure/ledger.py", ("place",)),
        Group("infra/erasure/retention.py", ("retention_runs",)),
        Group("infra/api_keys.py", ("api_keys",)),
        Group("infra/refused_attempts.py", ("refused_attempts",)),
    ),
    "views": (
        Group("projections/projector/checkpoints.py", ("checkpoints",)),
        Group("projections/projector/leases.py", ("workers",)),
        Group("projections/kernel/fences.py", ("fences",)),
        Group("projections/projector/parking.py", ("parked",)),
        Group("projections/models/contacts.py", ("contacts", "seen", "whole_contacts")),
        Group("projections/models/members.py", ("memberships",)),
        Group("projections/models/search_entries.py", ("search_entries",)),
        Group("projections/kernel/merges.py", ("merges",)),
        Group("projections/models/activity_days.py", ("activity_days", "names")),
        Group("projections/models/catalogue.py", ("catalogue",)),
        Group("projections/models/bars.py", ("bar_counts",)),
        Group("projections/models/filters.py", ("filter_values", "filter_ranges", "filter_states")),
        Group("projections/models/definitions.py", ("definitions", "definition_versions")),
        Group(
            "projections/models/segments.py",
            ("segments", "segment_lists", "segment_members", "segment_leavers", "segment_counts"),
        ),
        Group("projections/models/lifecycle.py", ("standings", "stage_spells")),
        Group("projections/models/scores.py", ("scores",)),
        Group("projections/models/signals.py", ("signals", "timers")),
        Group("projections/models/changes.py", ("changes_due",)),
        Group("projections/models/sweeps.py", ("sweeps", "deciding")),
        Group("projections/counters/requests.py", ("counters",)),
        Group("projections/counters/model.py", ("counter_days",)),
        Group("projections/counters/filler.py", ("counter_fills",)),
        Group("infra/pasts/registry.py", ("pasts",)),
    ),
}
KIND = {"log": "store", "keys": "keys", "views": "box"}
TITLE = {
    "log": (
        "schema log, role annals_log",
        "what happened, sealed; backed up, made from nothing else",
    ),
    "keys": (
        "schema keys, role annals_keys",
        "what opens it, and what was erased; backed up apart",
    ),
    "views": ("schema views, role annals_views", "what is shown; made from the log, in no backup"),
}
SAYS = (
    "Three schemas, each written by a role of its own: log, keys and views. In each stand its"
    " tables, below the module that owns them."
)
WIDTH, ROW, GAP = 330, 17, 9


def names() -> list[str]:
    """Every table of the picture, as `schema.table`, as often as it stands there."""
    return [
        f"{schema}.{table}"
        for schema, groups in SCHEMAS.items()
        for group in groups
        for table in group.tables
    ]


def drawn() -> str:
    """Log and keys one above the other, the read models beside them."""
    parts: list[str] = []
    bottom = {0: 15.0, 1: 15.0}
    for schema in SCHEMAS:
        column = 1 if schema == "views" else 0
        bottom[column] = _draw(schema, 15 + column * (WIDTH + 15), bottom[column], parts) + 15
    return picture(15 + 2 * (WIDTH + 15), round(max(bottom.values())), SAYS, parts)


def _draw(schema: str, left: float, top: float, parts: list[str]) -> float:
    """Draws a schema; returns where it ends."""
    title, holds = TITLE[schema]
    y = top + 28
    inside = [text(title, left + 14, y, "title"), text(holds, left + 14, y + 18, "small")]
    y += 18 + GAP
    for group in SCHEMAS[schema]:
        y += ROW + GAP - 2
        inside.append(text(group.owner, left + 14, y, "label"))
        for line in _lines(group.tables):
            y += ROW
            inside.append(text(line, left + 26, y))
    parts += [box(KIND[schema], left, top, WIDTH, y + 16 - top), *inside]
    return y + 16


def _lines(tables: tuple[str, ...]) -> list[str]:
    """Tables, as many on a line as fit."""
    lines = [tables[0]]
    for table in tables[1:]:
        if len(lines[-1]) + len(table) < 38:
            lines[-1] += f", {table}"
        else:
            lines[-1] += ","
            lines.append(table)
    return lines
