"""The tables of the read models, as queries name them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_metadata = sa.MetaData(schema="views")
_instant = sa.DateTime(timezone=True)

contacts = sa.Table(
    "contacts",
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
