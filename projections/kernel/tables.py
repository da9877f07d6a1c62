"""The tables of the read models, for queries."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from domain.identity import SubjectKind

_metadata = sa.MetaData(schema="views")
_instant = sa.DateTime(timezone=True)

contacts = sa.Table(
    "whole_contacts",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text),
    sa.Column("external_id", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("domain", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("identities", postgresql.JSONB),
    sa.Column("properties", postgresql.JSONB),
    sa.Column("changed_at", postgresql.JSONB),
    sa.Column("registered_at", _instant),
    sa.Column("first_seen", _instant),
    sa.Column("last_seen", _instant),
    sa.Column("seen_kind", sa.Text),
    sa.Column("seen_subject", sa.Uuid),
    sa.Column("stage", sa.Text),
    sa.Column("health", sa.Text),
    sa.Column("mrr", sa.Numeric),
    sa.Column("currency", sa.Text),
)

memberships = sa.Table(
    "memberships",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("user_id", sa.Uuid, primary_key=True),
    sa.Column("account_id", sa.Uuid, primary_key=True),
    sa.Column("role", sa.Text),
    sa.Column("properties", postgresql.JSONB),
    sa.Column("joined_at", _instant),
    sa.Column("left_at", _instant),
)

merges = sa.Table(
    "merges",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("loser", sa.Uuid, primary_key=True),
    sa.Column("survivor", sa.Uuid),
)

seen = sa.Table(
    "seen",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text),
    sa.Column("last_seen", _instant),
)

search_entries = sa.Table(
    "search_entries",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("address", sa.Text),
    sa.Column("external_id", sa.Text),
    sa.Column("others", sa.Text),
    sa.Column("keys", postgresql.ARRAY(sa.Integer)),
)

names = sa.Table(
    "names",
    _metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("id", sa.Integer),
)

activity_days = sa.Table(
    "activity_days",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("name_id", sa.Integer, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("in_account", sa.Boolean, primary_key=True),
    sa.Column("count", sa.BigInteger),
    sa.Column("first_at", _instant),
    sa.Column("last_at", _instant),
)

catalogue = sa.Table(
    "catalogue",
    _metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value_type", sa.Text),
    sa.Column("uses", sa.BigInteger),
    sa.Column("first_at", _instant),
    sa.Column("last_at", _instant),
    sa.Column("retired_at", _instant),
    sa.Column("retired_by", sa.Uuid),
)

segment_members = sa.Table(
    "segment_members",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("segment", sa.Uuid, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("ordinal", sa.Integer),
    sa.Column("entered_at", _instant),
)

bar_counts = sa.Table(
    "bar_counts",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("health", sa.Text, primary_key=True),
    sa.Column("currency", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger),
    sa.Column("with_mrr", sa.BigInteger),
    sa.Column("mrr", sa.Numeric),
)

segment_counts = sa.Table(
    "segment_counts",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("segment", sa.Uuid, primary_key=True),
    sa.Column("members", sa.BigInteger),
)

segment_leavers = sa.Table(
    "segment_leavers",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("segment", sa.Uuid, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("ordinal", sa.Integer),
    sa.Column("left_at", _instant),
)

segment_lists = sa.Table(
    "segment_lists",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("segment", sa.Uuid, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
)

standings = sa.Table(
    "standings",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("stage_ordinal", sa.Integer),
    sa.Column("stage_since", _instant),
    sa.Column("health_ordinal", sa.Integer),
    sa.Column("health_since", _instant),
    sa.Column("is_by_hand", sa.Boolean),
    sa.Column("hand_stage", sa.Text),
    sa.Column("hand_reason", sa.Text),
    sa.Column("hand_by", sa.Uuid),
    sa.Column("hand_at", _instant),
)

stage_spells = sa.Table(
    "stage_spells",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("stage", sa.Text),
    sa.Column("definition", sa.Uuid),
    sa.Column("version", sa.Integer),
    sa.Column("by_hand", sa.Boolean),
    sa.Column("entered_at", _instant),
    sa.Column("left_at", _instant),
)

scores = sa.Table(
    "scores",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("score", sa.Uuid, primary_key=True),
    sa.Column("ordinal", sa.Integer),
    sa.Column("value", sa.Numeric(5, 2)),
    sa.Column("held", postgresql.ARRAY(sa.Text)),
    sa.Column("since", postgresql.JSONB),
    sa.Column("changed_at", _instant),
)

signals = sa.Table(
    "signals",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("signal", sa.Uuid, primary_key=True),
    sa.Column("ordinal", sa.Integer),
    sa.Column("is_on", sa.Boolean),
    sa.Column("triggered_at", _instant),
    sa.Column("ended_at", _instant),
    sa.Column("triggers", sa.Integer),
    sa.Column("goal", sa.Text),
    sa.Column("goal_due_at", _instant),
)

timers = sa.Table(
    "timers",
    _metadata,
    sa.Column("log_partition", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Uuid, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("due_at", _instant),
)


def in_order_of_seen(kind: SubjectKind) -> sa.ColumnElement[bool]:
    """Holds for all contacts of a kind. With it PostgreSQL can read the index on `last_seen` and
    `seen_subject` in order."""
    return contacts.c.seen_kind == kind.value
